"""How fast a job worker archives what is behind, and how long after its commit a message is in git under load."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg

from bench.connection import post
from bench.driver import Driver
from bench.report import Figures
from bench.scenarios import message, vocabulary
from bench.setting import Setting, middle, office, row, send_all, together
from tests.e2e.serving import cpu_seconds, serving
from tests.e2e.working import Worker, working
from tests.servers import query

AGENTS = 20
"""In each project."""
THREADS = 50
PATIENCE = 120.0
SENDS_PER_SECOND = 500
SENDERS = 50
LAG_PROJECTS = 10
WINDOWS = 3
"""In one of the lag, as it changes over seconds: of requests one is enough."""

LOOK_SECONDS = 0.01
"""How often it is looked how far the archives have come: a lag is at most so much too long."""

_LAST_EVENT = "SELECT coalesce(max(id), 0) FROM events"
_LEFT = """
    SELECT (SELECT count(*) FROM outbox WHERE topic = 'archive') + (SELECT count(*) FROM jobs WHERE kind = 'archive')
"""
_BEHIND = """
    WITH gone AS (DELETE FROM archives), undone AS (DELETE FROM jobs WHERE kind = 'archive')
    INSERT INTO outbox (event_id, topic) SELECT id, 'archive' FROM events ORDER BY xact, id
"""


def mail(setting: Setting, projects: int, count: int, what: str) -> Iterator[dict[str, Any]]:
    """Messages of 500 bytes, dealt out over projects, agents and threads."""
    words, chance = vocabulary(setting.seed), random.Random(f"{setting.seed}:{what}")
    for number in range(count):
        sender, recipient = chance.sample(range(AGENTS), 2)
        sent = message(words, chance, f"{what}-{number % projects}", f"Agent{sender}", f"Agent{recipient}")
        yield sent | {"thread_id": f"T-{chance.randrange(THREADS)}"}


async def furnish(driver: Driver, projects: int, what: str) -> None:
    """The projects."""
    await together(office(driver, f"{what}-{n}", [f"Agent{a}" for a in range(AGENTS)]) for n in range(projects))


# --- a backlog --------------------------------------------------------------------------------------------------------


def archived_backlog(setting: Setting, projects: int) -> list[Figures]:
    """One worker, and nothing else at work: from its start to the last message's commit, in the median of some runs."""
    count = setting.messages * 2
    with serving(setting.database_url, **_values(setting)) as server:
        asyncio.run(_send_backlog(setting, server.port, projects, count))
    return [middle([_archive_all(setting, projects, count) for _ in range(setting.repeats)])]


async def _send_backlog(setting: Setting, port: int, projects: int, count: int) -> None:
    async with setting.driver(port) as driver:
        await furnish(driver, projects, "backlog")
        await send_all(driver, mail(setting, projects, count, "backlog"))


def _archive_all(setting: Setting, projects: int, count: int) -> Figures:
    """From nothing, and as if it had never been done."""
    query(setting.database_url, _BEHIND)
    with tempfile.TemporaryDirectory(prefix="agent-mail-bench-") as folder, _worker(setting, folder) as worker:
        begun = datetime.fromisoformat(worker.lines("working")[0]["timestamp"])
        cpu, others = cpu_seconds(worker.process.pid), setting.cpu()
        deadline = time.monotonic() + PATIENCE
        while query(setting.database_url, _LEFT)[0][0]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not archived after {PATIENCE:.0f} s: {worker.log.read_text()[-2000:]}")
            time.sleep(0.1)
        cpu = cpu_seconds(worker.process.pid) - cpu
        others = {name: used - others[name] for name, used in setting.cpu().items()}
        ended = query(setting.database_url, "SELECT max(updated_at) FROM archives")[0][0]
        where = "1 project" if projects == 1 else f"{projects} projects"
        title = f"a job worker archives {count:,} messages, {where}"
        name = "archive" if projects == 1 else f"archive-{projects}"
        return row(setting, name, title, count, (ended - begun).total_seconds(), cpu=cpu, others=others)


def _values(setting: Setting) -> dict[str, str]:
    """Of the server, without the database."""
    return {name: value for name, value in setting.settings.items() if name != "DATABASE_URL"}


def _worker(setting: Setting, folder: str) -> Any:
    settings = {name: setting.settings[name] for name in ("DATABASE_URL", "REDIS_URL")}
    return working(None, **settings, ARCHIVE_ROOT=folder)


# --- the lag ----------------------------------------------------------------------------------------------------------


def archive_lag(setting: Setting) -> list[Figures]:
    """At 500 sends a second: from a message's event to the record that its commit is on the disk; and the sends."""
    with (
        serving(setting.database_url, **_values(setting)) as server,
        tempfile.TemporaryDirectory(prefix="agent-mail-bench-") as folder,
        _worker(setting, folder) as worker,
    ):
        return asyncio.run(_lag(setting, server.port, worker, server.process.pid))


async def _lag(setting: Setting, port: int, worker: Worker, server: int) -> list[Figures]:
    seconds = WINDOWS * setting.seconds
    steps: dict[int, list[tuple[tuple[int, int], datetime]]] = {}
    async with setting.driver(port) as driver:
        await furnish(driver, LAG_PROJECTS, "lag")
        watch = asyncio.create_task(_watch(setting, steps))
        sends = list(mail(setting, LAG_PROJECTS, int(SENDS_PER_SECOND * (seconds + 1)), "lag"))
        begun = time.perf_counter()
        senders = [
            asyncio.create_task(_send_on_time(driver, sends[n::SENDERS], begun + n / SENDS_PER_SECOND))
            for n in range(SENDERS)
        ]
        await asyncio.sleep(1)  # the warm-up
        first = (await asyncio.to_thread(query, setting.database_url, _LAST_EVENT))[0][0]
        driver.is_measuring, window = True, time.perf_counter()
        cpu = [cpu_seconds(server), cpu_seconds(worker.process.pid)]
        await asyncio.gather(*senders)
        driver.is_measuring, window = False, time.perf_counter() - window
        cpu = [cpu_seconds(server) - cpu[0], cpu_seconds(worker.process.pid) - cpu[1]]
        await _all_archived(setting, watch)
    lags = _lags(setting, first, steps)
    latencies = driver.latencies["send_message"]
    errors = sum(driver.errors.values())
    title = f"at {SENDS_PER_SECOND} sends/s, {LAG_PROJECTS} projects: "
    name, sends_title = "archive-lag-sends", title + "send_message, REST"
    lag = row(setting, "archive-lag", title + "commit → in git", len(lags), window, lags, cpu[1], is_paced=True)
    sent = row(setting, name, sends_title, len(latencies), window, latencies, cpu[0], is_paced=True)
    return [lag, replace(sent, errors=errors, samples=driver.samples, connections=SENDERS)]


async def _send_on_time(driver: Driver, sends: list[dict[str, Any]], begin: float) -> None:
    """One after the other, each when it is due, or at once when that is past."""
    connection = driver.connection()
    for number, sent in enumerate(sends):
        await asyncio.sleep(begin + number * SENDERS / SENDS_PER_SECOND - time.perf_counter())
        await driver.ask(connection, "send_message", post("/api/message/send", sent))


async def _watch(setting: Setting, steps: dict[int, list[tuple[tuple[int, int], datetime]]]) -> None:
    """Note for each project how far its archive came, and when."""
    connection = await asyncpg.connect(setting.database_url)
    try:
        while True:
            for project, *position, at in await connection.fetch(
                "SELECT project_id, position_xact, position_id, updated_at FROM archives"
            ):
                seen = steps.setdefault(project, [])
                if not seen or seen[-1][0] < tuple(position):
                    seen.append(((position[0], position[1]), at))
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await connection.close()


async def _all_archived(setting: Setting, watch: asyncio.Task[None]) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await asyncio.to_thread(query, setting.database_url, _LEFT))[0][0]:  # noqa: ASYNC110 - SQL has no events
            await asyncio.sleep(0.1)
    await asyncio.sleep(10 * LOOK_SECONDS)
    watch.cancel()


def _lags(setting: Setting, after: int, steps: dict[int, list[tuple[tuple[int, int], datetime]]]) -> list[float]:
    """Seconds of each message that was sent after that event."""
    found = query(
        setting.database_url,
        """
        SELECT project_id, xact::text::bigint, id, created_at FROM events WHERE kind = 'message.sent' AND id > $1
        """,
        after,
    )
    lags = []
    for project, transaction, event_id, at in found:
        seen = steps[project]
        lags.append((seen[bisect_left(seen, ((transaction, event_id),))][1] - at).total_seconds())
    return lags
