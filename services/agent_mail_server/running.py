"""One server's life inside a process: what is built, what runs in the background, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog

from agent_mail_cluster.memory.sessions import MemorySessions
from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_core.clock import SystemClock
from agent_mail_core.ports import App, Store
from agent_mail_core.presence import FLUSH_SECONDS, PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_core.version import version
from agent_mail_server.app import AgentMailServer
from agent_mail_server.mcp import McpEndpoint
from agent_mail_server.metrics import ServerMetrics

MCP_PATIENCE = 1.0
"""Seconds for MCP calls that wait: they have been woken, so those left over are stuck."""


@dataclass(slots=True)
class RunningServer:
    """A built server. `asgi` answers requests until `drain` has returned."""

    app: App
    asgi: AgentMailServer
    metrics: ServerMetrics
    wakeups: MemoryWakeups
    mcp: McpEndpoint
    drainage: Drainage

    async def drain(self, patience: float) -> None:
        """Say not ready, end waits and streams; return when no request is in flight, or after `patience` seconds."""
        self.drainage.has_begun = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.wakeups.publish(self.wakeups.topics)
                await self.mcp.close(MCP_PATIENCE)
                await self.asgi.until_idle()


@dataclass(slots=True)
class Drainage:
    """Whether the server is on its way out."""

    has_begun: bool = field(default=False)


@asynccontextmanager
async def running_server(settings: Settings, store: Store) -> AsyncIterator[RunningServer]:
    """A server on an open store, which stays the caller's; its background work runs inside the block."""
    clock = SystemClock()
    metrics = ServerMetrics()
    presence = PresenceLog(clock)
    wakeups = MemoryWakeups()
    drainage = Drainage()
    app = App(
        store=store,
        wakeups=wakeups,
        presence=presence,
        waiters=MemoryWaiters(settings.max_waiters),
        sessions=MemorySessions(clock, settings.session_ttl_seconds),
        metrics=metrics,
        clock=clock,
        settings=settings,
        version=version(),
        started_at=clock.now(),
        is_draining=lambda: drainage.has_begun,
    )
    mcp = McpEndpoint(app, metrics)
    flushing = asyncio.create_task(_flush(presence, store))
    try:
        yield RunningServer(app, AgentMailServer(app, metrics, mcp), metrics, wakeups, mcp, drainage)
    finally:
        flushing.cancel()
        await asyncio.wait((flushing,))
        await _flush_once(presence, store, everything=True)


async def _flush(presence: PresenceLog, store: Store) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await _flush_once(presence, store)


async def _flush_once(presence: PresenceLog, store: Store, everything: bool = False) -> None:
    try:
        await presence.flush(store, everything)
    except Exception as error:  # noqa: BLE001 - the loop must outlive whatever it is; nothing but activity times is lost
        structlog.get_logger().error("activity times were not written", exc_info=error)
