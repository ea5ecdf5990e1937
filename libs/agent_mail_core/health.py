"""Whether the service lives, is ready, and how much it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable
from agent_mail_core.fields import NoArguments, Result
from agent_mail_core.ports import App, Caller, Store

CHECK_TIMEOUT = 2.0

PROBED_EVERY, PROBED_AGAIN = 1.0, 0.25
"""Seconds between two looks at the database, while it answers and while it does not."""

PROBE_TIMEOUT = 1.0
"""Seconds; a database that is slower to answer than this serves nobody."""


class DatabaseWatch:
    """Knows whether the database is away, so that calls are refused at once instead of each waiting for it."""

    def __init__(self, store: Store) -> None:
        self.is_away = False
        self._store = store

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(PROBED_AGAIN if self.is_away else PROBED_EVERY)
            await self.look()

    async def look(self) -> None:
        """Ask the database whether it is there."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await self._store.check()
        except (DatabaseUnavailable, TimeoutError):
            self.is_away = True
        except AgentMailError:  # it answers, and something else is wrong
            self.is_away = False
        else:
            self.is_away = False


class Health(Result):
    status: Literal["healthy"]
    version: str
    uptime_seconds: float


async def health(app: App, caller: Caller, request: NoArguments) -> Health:
    """Say that the server lives. Touches no dependency."""
    uptime = (app.clock.now() - app.started_at).total_seconds()
    return Health(status="healthy", version=app.version, uptime_seconds=round(uptime, 3))


class DependencyState(Result):
    name: str
    status: Literal["up", "down"]
    detail: str | None = None


class Readiness(Result):
    status: Literal["ready", "degraded", "not_ready"]
    dependencies: list[DependencyState]


async def ready(app: App, caller: Caller, request: NoArguments) -> Readiness:
    """Say whether requests should be sent here, with the state of each dependency."""
    database, *others = await asyncio.gather(
        _state("database", app.store.check), *(_state(part.name, part.check) for part in app.dependencies)
    )
    status: Literal["ready", "degraded", "not_ready"] = "ready"
    if database.status == "down" or app.is_leaving():
        status = "not_ready"
    elif any(part.status == "down" for part in others):
        status = "degraded"
    return Readiness(status=status, dependencies=[database, *others])


async def _state(name: str, check: Callable[[], Awaitable[None]]) -> DependencyState:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
    except AgentMailError as error:
        return DependencyState(name=name, status="down", detail=error.message)
    except TimeoutError:
        return DependencyState(name=name, status="down", detail="no answer in time")
    return DependencyState(name=name, status="up")


class OperationCount(Result):
    operation: str
    calls: int
    errors: int


class MetricsSnapshot(Result):
    """Counters since this server started."""

    requests: int
    errors: int
    messages_sent: int
    waiting_calls: int
    tools: list[OperationCount]


async def metrics(app: App, caller: Caller, request: NoArguments) -> MetricsSnapshot:
    """Counters of the server: requests, errors, messages sent, calls by operation."""
    return app.metrics.snapshot()
