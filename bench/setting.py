"""What the rows of background work have in common: their servers' settings, and calls over many connections."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.connection import post
from bench.driver import Driver, must
from bench.report import Figures, percentile

CONNECTIONS = 32


@dataclass(frozen=True)
class Setting:
    """What to measure with."""

    engine: str
    settings: dict[str, str]
    """Of the server, with a fresh database in them."""
    cpu: Callable[[], dict[str, float]]
    """Seconds that postgres and redis have used so far."""
    token: str
    messages: int
    seconds: float
    seed: int
    repeats: int = 3

    @property
    def database_url(self) -> str:
        return self.settings["DATABASE_URL"]

    @property
    def workers(self) -> int:
        """Of the server."""
        return int(self.settings.get("WORKERS", "1"))

    @asynccontextmanager
    async def driver(self, port: int) -> AsyncIterator[Driver]:
        """To call the server with. Requests that wait for too long are given up."""
        driver = Driver({"port": port, "seed": self.seed, "token": self.token})
        watch = asyncio.create_task(driver.watch())
        try:
            yield driver
        finally:
            watch.cancel()
            for connection in driver.connections:
                connection.abort()
            await asyncio.sleep(0)


async def office(driver: Driver, slug: str, names: Iterable[str]) -> None:
    """A project and its agents."""
    connection = driver.connection()
    await must(connection, post("/api/project/ensure", {"human_key": f"/bench/{slug}", "slug": slug}))
    for name in names:
        agent = {"project_slug": slug, "name": name, "program": "bench", "model": "none"}
        await must(connection, post("/api/agent/register", agent))


async def send_all(driver: Driver, messages: Iterable[dict[str, Any]]) -> None:
    """As fast as it goes, in about that order."""
    waiting = iter(messages)

    async def send() -> None:
        connection = driver.connection()
        for message in waiting:
            await must(connection, post("/api/message/send", message))

    await together(send() for _ in range(CONNECTIONS))


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of it, or the first error."""
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)


def row(
    setting: Setting,
    scenario: str,
    title: str,
    count: int,
    seconds: float,
    latencies: Iterable[float] = (),
    cpu: float = float("nan"),
    others: dict[str, float] | None = None,
    is_paced: bool = False,
) -> Figures:
    """A row of so many things done in some seconds; `cpu` and `others` are seconds of processor time in all."""
    ordered, used = sorted(latencies), others or {}
    per_thing = 1e6 / count if count else float("nan")
    return Figures(
        engine=setting.engine,
        workers=setting.workers,
        scenario=scenario,
        title=title,
        connections=0,
        is_paced=is_paced,
        requests=count,
        seconds=round(seconds, 3),
        rate=count / seconds if seconds else float("nan"),
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        server_cpu=cpu * per_thing,
        database_cpu=used["postgres"] * per_thing if "postgres" in used else None,
        redis_cpu=used["redis"] * per_thing if "redis" in used else None,
        load_share=float("nan"),
        errors=0,
    )


def middle(rows: list[Figures]) -> Figures:
    """The one of median rate."""
    return sorted(rows, key=lambda each: each.rate)[int(median(range(len(rows))))]


def say(line: str) -> None:
    """Progress, beside the table."""
    print(line, file=sys.stderr, flush=True)
