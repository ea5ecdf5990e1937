"""How long a summary of a thread of 200 messages takes: from the call to the answer, the first time and again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from bench.connection import post
from bench.driver import Driver, must
from bench.report import Figures
from bench.scenarios import text, vocabulary
from bench.setting import Setting, office, row, together
from tests.e2e.serving import serving
from tests.e2e.working import working

THREADS = 5
MESSAGES = 200
SPEAKERS = ("Ann", "Bob", "Cid", "Dot")
PHRASES = (
    "We decided to {} the {}.",
    "Can somebody {} the {}?",
    "- [ ] Bob: {} the {}",
    "I will {} the {} tomorrow.",
    "> they said that we {} the {}",
    "```\n{} = {}\n```",
    "The {} is now in the {}.",
    "Agreed: no {} before the {}.",
)
WAIT_SECONDS = 30


def summaries(setting: Setting) -> list[Figures]:
    """By the rules, of threads of 200 messages; then of the same with one message more."""
    names = ("DATABASE_URL", "REDIS_URL")
    values = {name: value for name, value in setting.settings.items() if name != "DATABASE_URL"}
    with ExitStack() as stack:
        server = stack.enter_context(serving(setting.database_url, **values))
        if "REDIS_URL" in setting.settings:
            stack.enter_context(working(None, **{name: setting.settings[name] for name in names}))
        return asyncio.run(_summaries(setting, server.port))


async def _summaries(setting: Setting, port: int) -> list[Figures]:
    async with setting.driver(port) as driver:
        await office(driver, "summaries", SPEAKERS)
        await together(_thread(driver, number) for number in range(THREADS))
        await asyncio.sleep(1)
        first = [await _summarized(driver, number) for number in range(THREADS)]
        await together(_say(driver, number, [MESSAGES]) for number in range(THREADS))
        again = [await _summarized(driver, number) for number in range(THREADS)]
    title = f"summary of a thread of {MESSAGES} messages"
    return [
        row(setting, "summary", title, THREADS, sum(first), first, is_paced=True),
        row(setting, "summary-again", f"{title}, of one message more", THREADS, sum(again), again, is_paced=True),
    ]


async def _thread(driver: Driver, number: int) -> None:
    await _say(driver, number, range(MESSAGES))


async def _say(driver: Driver, thread: int, numbers: Any) -> None:
    connection, words = driver.connection(), vocabulary(driver.seed)
    for number in numbers:
        chance = driver.random(1000 * thread + number)
        sender, recipient = chance.sample(SPEAKERS, 2)
        sent = {
            "project_slug": "summaries",
            "sender_name": sender,
            "recipient_names": [recipient],
            "thread_id": f"T-{thread}",
            "subject": f"About {thread}",
            "body_md": "\n\n".join(_paragraphs(words, chance)),
        }
        await must(connection, post("/api/message/send", sent))


def _paragraphs(words: list[str], chance: random.Random) -> Iterator[str]:
    """About as long and as mixed as what agents write."""
    for phrase in chance.sample(PHRASES, 3):
        yield phrase.format(chance.choice(words), chance.choice(words))
        yield text(words, chance, 120).capitalize() + "."


async def _summarized(driver: Driver, number: int) -> float:
    """Seconds until it was there."""
    wanted = {"project_slug": "summaries", "thread_ids": [f"T-{number}"], "wait_seconds": WAIT_SECONDS}
    begun = time.perf_counter()
    answer = await must(driver.connection(), post("/api/thread/summarize", wanted))
    seconds = time.perf_counter() - begun
    (summary,) = answer["summaries"]
    if summary["status"] != "ready" or summary["message_count"] < MESSAGES:
        raise RuntimeError(f"no summary: {summary}")
    return seconds
