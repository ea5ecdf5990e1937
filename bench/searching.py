"""Searches in 100,000 messages, one at a time: by words, by meaning, by both; and what the codes of vectors lose.

The model is of the benchmark's own making (see topics) and embeds on the spot, so a query's vector takes microseconds:
what an endpoint takes for one comes on top of these figures.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import numpy
import numpy.typing

from agent_mail_core.embeddings import Embedder, embedded_text
from agent_mail_embeddings.static_vectors import open_static_vectors
from bench.connection import Connection, get
from bench.driver import must
from bench.report import Figures
from bench.setting import Setting, office, row, say, send_all
from bench.topics import DIMENSIONS, Topics
from tests.e2e.serving import cpu_seconds, serving
from tests.e2e.working import working
from tests.servers import query

PROJECT = "searching"
AGENTS = [f"Agent{number}" for number in range(50)]
THREAD_MESSAGES = 20
MODES = {"text": "not_asked", "semantic": "used", "hybrid": "used"}
"""Each with what an answer says of the search by meaning when it was made as asked."""

QUERIES_A_SECOND, WARM_UP = 60, 20
"""Of a window, so 300 of each mode in five seconds; and before them."""

RECALL_QUERIES, FIRST = 100, 10
PATIENCE = 900.0
"""For mail to be embedded and archived."""
SAY_SECONDS = 15.0
TEXTS_AT_ONCE = 1000

_STATE = """
    SELECT (SELECT count(*) FROM message_codes),
        (SELECT count(*) FROM outbox WHERE topic = 'archive') + (SELECT count(*) FROM jobs WHERE kind = 'archive'),
        (SELECT count(*) FROM embedding_models WHERE is_ready)
"""


def searches(setting: Setting) -> list[Figures]:
    """A row for each mode, the one by meaning with a note of its recall."""
    topics, count = Topics(setting.seed), setting.messages * 10
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-mail-bench-"))
        topics.write_model(Path(folder))
        # Whatever is nearest is a hit, for a word that says little about a mail as well.
        model = {"EMBEDDINGS": "local", "EMBEDDINGS_PATH": folder, "EMBEDDINGS_MIN_SIMILARITY": "-1"}
        values = {name: value for name, value in setting.settings.items() if name != "DATABASE_URL"}
        server = stack.enter_context(serving(setting.database_url, **values, **model))
        if "REDIS_URL" in setting.settings:
            names = ("DATABASE_URL", "REDIS_URL")
            stack.enter_context(working(None, **{name: setting.settings[name] for name in names}, **model))
        asyncio.run(_fill(setting, server.port, topics, count))
        _wait_until_searchable(setting, count)
        rows = asyncio.run(_time(setting, server.port, server.process.pid, topics, count))
        return asyncio.run(_with_recall(setting, server.port, topics, count, folder, rows))


def _messages(setting: Setting, topics: Topics, count: int) -> Iterator[dict[str, Any]]:
    for number, (subject, body) in enumerate(topics.mail(count)):
        sender = number % len(AGENTS)
        yield {
            "project_slug": PROJECT,
            "sender_name": AGENTS[sender],
            "recipient_names": [AGENTS[sender - 1 - number // len(AGENTS) % (len(AGENTS) - 1)]],
            "thread_id": f"T-{number // THREAD_MESSAGES}",
            "subject": subject,
            "body_md": body,
        }


async def _fill(setting: Setting, port: int, topics: Topics, count: int) -> None:
    begun = time.perf_counter()
    async with setting.driver(port) as driver:
        await office(driver, PROJECT, AGENTS)
        await send_all(driver, _messages(setting, topics, count))
    say(f"{setting.engine}: {count:,} messages sent in {time.perf_counter() - begun:.0f} s")


# --- until it can be searched -----------------------------------------------------------------------------------------


def _wait_until_searchable(setting: Setting, count: int) -> None:
    """All embedded, the model known to be ready, and nobody at work; RuntimeError if it takes too long."""
    begun = said = time.monotonic()
    while True:
        embedded, unarchived, ready = _state(setting)
        now = time.monotonic()
        state = f"{embedded:,} of {count:,} messages embedded, {unarchived:,} events to be archived"
        if embedded == count and ready and not unarchived:
            break
        if now - begun > PATIENCE:
            raise RuntimeError(f"{setting.engine}: not ready to be searched after {PATIENCE:.0f} s: {state}")
        if now - said > SAY_SECONDS:
            say(f"{setting.engine}: {state}")
            said = now
        time.sleep(1)
    say(f"{setting.engine}: embedded and archived {now - begun:.0f} s after the last send")
    if not setting.database_url.startswith("sqlite"):
        query(setting.database_url, "VACUUM ANALYZE")  # as autovacuum does within minutes


def _state(setting: Setting) -> tuple[int, int, int]:
    scheme, _, path = setting.database_url.partition(":///")
    if scheme != "sqlite":
        embedded, unarchived, ready = query(setting.database_url, _STATE)[0]
        return embedded, unarchived, ready
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(10_000)
        ((embedded, unarchived, ready),) = connection.execute(_STATE)
        return embedded, unarchived, ready
    finally:
        connection.close()


# --- how fast ---------------------------------------------------------------------------------------------------------


async def _time(setting: Setting, port: int, server: int, topics: Topics, count: int) -> list[Figures]:
    number = round(QUERIES_A_SECOND * setting.seconds)
    queries = topics.queries(number + WARM_UP, count)
    rows = []
    async with setting.driver(port) as driver:
        connection = driver.connection()
        for mode in MODES:
            for text in queries[number:]:
                await _search(connection, text, mode)
            cpu, others, latencies = cpu_seconds(server), setting.cpu(), []
            for text in queries[:number]:
                begun = time.perf_counter()
                await _search(connection, text, mode)
                latencies.append(time.perf_counter() - begun)
            cpu = cpu_seconds(server) - cpu
            others = {name: used - others[name] for name, used in setting.cpu().items()}
            title = f"search in {count:,} messages, {mode}" + ("" if mode == "text" else f", {DIMENSIONS} dimensions")
            seconds = sum(latencies)
            rows.append(row(setting, f"search-{mode}", title, number, seconds, latencies, cpu, others, True))
    return rows


async def _search(connection: Connection, text: str, mode: str, limit: int = 20) -> list[dict[str, Any]]:
    """The hits; RuntimeError if there are none, or if it was searched otherwise."""
    asked = get("/api/message/search", project_slug=PROJECT, query=text, mode=mode, limit=limit)
    page = await must(connection, asked)
    if not page["hits"] or page["mode"] != mode or page["semantic"] != MODES[mode]:
        told = {name: page[name] for name in ("mode", "semantic")}
        raise RuntimeError(f"{text!r}, mode {mode}: {len(page['hits'])} hits, {told}")
    hits: list[dict[str, Any]] = page["hits"]
    return hits


# --- how well ---------------------------------------------------------------------------------------------------------


async def _with_recall(
    setting: Setting, port: int, topics: Topics, count: int, folder: str, rows: list[Figures]
) -> list[Figures]:
    """The rows, the one by meaning with a note: of the nearest messages by all their numbers, how many it finds."""
    embedder = await open_static_vectors(folder)
    mail = await _vectors(embedder, [embedded_text(subject, body) for subject, body in topics.mail(count)])
    queries = topics.queries(RECALL_QUERIES, count)
    about: list[float] = []
    frequent: list[float] = []
    async with setting.driver(port) as driver:
        connection = driver.connection()
        for text, vector in zip(queries, await _vectors(embedder, queries), strict=True):
            nearest = set(numpy.argsort(mail @ vector)[-FIRST:].tolist())
            hits = await _search(connection, text, "semantic", FIRST)
            found = nearest & {int(hit["subject"].split()[-1]) for hit in hits}
            (about if topics.is_about_something(text) else frequent).append(len(found) / FIRST)
    note = (
        f"{setting.engine}: of the {FIRST} nearest by exact cosine the search by meaning in {count:,} messages finds"
        f" {_mean(about)} ({len(about)} queries); for words that most mail has, and which hardly move its vector,"
        f" {_mean(frequent)} ({len(frequent)})."
    )
    return [replace(each, note=note) if each.scenario == "search-semantic" else each for each in rows]


async def _vectors(embedder: Embedder, texts: Sequence[str]) -> numpy.typing.NDArray[numpy.float32]:
    parts = [texts[begin : begin + TEXTS_AT_ONCE] for begin in range(0, len(texts), TEXTS_AT_ONCE)]
    return numpy.concatenate([numpy.array(await embedder.embed(part), numpy.float32) for part in parts])


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.1%}" if values else "–"
