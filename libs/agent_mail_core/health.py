"""Whether the service lives, is ready, and how much it does."""

from __future__ import annotations

import asyncio
from typing import Literal

from agent_mail_core.errors import AgentMailError
from agent_mail_core.fields import NoArguments, Result
from agent_mail_core.ports import App, Caller

CHECK_TIMEOUT = 2.0


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
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await app.store.check()
        database = DependencyState(name="database", status="up")
    except AgentMailError as error:
        database = DependencyState(name="database", status="down", detail=error.message)
    except TimeoutError:
        database = DependencyState(name="database", status="down", detail="no answer in time")
    is_ready = database.status == "up" and not app.is_draining()
    return Readiness(status="ready" if is_ready else "not_ready", dependencies=[database])


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
