"""One server's life inside a process: what is built, what runs in the background, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from agent_mail_archive.asking import RemoteArchive
from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_core.archive import ANSWER_SECONDS, Archive, ArchiveReader
from agent_mail_core.clock import SystemClock
from agent_mail_core.event_feed import events_of
from agent_mail_core.health import DatabaseWatch
from agent_mail_core.ports import App, Store
from agent_mail_core.presence import FLUSH_SECONDS, PresenceLog
from agent_mail_core.project_watch import ProjectWatch
from agent_mail_core.settings import Settings
from agent_mail_core.version import version
from agent_mail_core.waiting import InboxWatch
from agent_mail_embeddings.opening import open_query_vectors
from agent_mail_outbound.opening import open_outbound
from agent_mail_server.app import AgentMailServer
from agent_mail_server.cluster import Cluster, cluster
from agent_mail_server.mcp import McpEndpoint
from agent_mail_server.metrics import ServerMetrics
from agent_mail_summaries.opening import open_summarizer
from agent_mail_worker.working import working

MCP_PATIENCE = 1.0
"""Seconds for MCP calls that wait: they have been woken, so those left over are stuck."""

JOBS_PATIENCE = 1.5
"""Seconds for background jobs that run when the server stops; the others are given back, and done after its start."""

WATCH_SECONDS = 1.0
"""How often a query looks for what nobody tells, for all who wait or listen on this worker."""


@dataclass(slots=True)
class RunningServer:
    """A built server. `asgi` answers requests until `drain` has returned."""

    app: App
    asgi: AgentMailServer
    metrics: ServerMetrics
    cluster: Cluster
    mcp: McpEndpoint
    drainage: Drainage

    def leave(self, is_replaced: bool = False) -> None:
        """Ask every client to come back on another connection, and say not ready.

        Unless `is_replaced`: then another process serves the same port, and who asks it is to be told that all is well.
        """
        self.drainage.closes_connections = True
        self.drainage.is_leaving = not is_replaced

    async def drain(self, patience: float) -> None:
        """Say not ready, end waits and streams; return when no request is in flight, or after `patience` seconds."""
        self.leave(is_replaced=self.drainage.closes_connections and not self.drainage.is_leaving)
        self.drainage.has_begun = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.cluster.wake_here(self.cluster.listened())
                await self.mcp.close(MCP_PATIENCE)
                await self.asgi.until_idle()


@dataclass(slots=True)
class Drainage:
    """How far the server is on its way out."""

    closes_connections: bool = field(default=False)
    is_leaving: bool = field(default=False)
    has_begun: bool = field(default=False)


@asynccontextmanager
async def running_server(
    settings: Settings, store: Store, metrics: ServerMetrics | None = None, archive: Archive | None = None
) -> AsyncIterator[RunningServer]:
    """A server on an open store, which stays the caller's; its background work runs inside the block."""
    clock = SystemClock()
    metrics = metrics or ServerMetrics()
    presence = PresenceLog(clock)
    drainage = Drainage()
    database = DatabaseWatch(store)
    async with (
        cluster(settings, clock) as ports,
        open_summarizer(settings) as summarizer,
        open_outbound(settings) as outbound,
        open_query_vectors(settings) as query_vectors,
    ):
        app = App(
            store=store,
            wakeups=ports.wakeups,
            presence=presence,
            waiters=MemoryWaiters(settings.max_waiters),
            sessions=ports.sessions,
            signals=ports.signals,
            replies=ports.replies,
            stream_log=ports.stream_log,
            subscriptions=ports.subscriptions,
            limits=ports.limits,
            metrics=metrics,
            clock=clock,
            settings=settings,
            version=version(),
            started_at=clock.now(),
            is_draining=lambda: drainage.has_begun,
            is_leaving=lambda: drainage.is_leaving,
            is_database_away=lambda: database.is_away,
            jobs=ports.jobs,
            archive=archive,
            archive_reader=_reader(settings, store, ports),
            summarizer=summarizer,
            outbound=outbound,
            query_vectors=query_vectors,
            dependencies=ports.dependencies,
        )
        mcp = McpEndpoint(app, metrics)
        asgi = AgentMailServer(app, metrics, mcp, lambda: drainage.closes_connections)
        background = [_spawn(_flush(presence, store)), _spawn(_watch(ports, store, metrics)), _spawn(database.run())]
        try:
            async with _jobs(app, ports, metrics):
                yield RunningServer(app, asgi, metrics, ports, mcp, drainage)
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            asgi.flush_log()
            await _flush_once(presence, store, everything=True)


def _reader(settings: Settings, store: Store, ports: Cluster) -> ArchiveReader | None:
    """In a cluster, one that asks job workers, and gives up before the request does."""
    if ports.questions is None:
        return None
    patience = min(ANSWER_SECONDS, settings.request_timeout_seconds * 0.95)
    return RemoteArchive(ports.questions, store.identity, patience)


@asynccontextmanager
async def _jobs(app: App, ports: Cluster, metrics: ServerMetrics) -> AsyncIterator[None]:
    """A server alone does the background work itself; in a cluster job workers do it, and it only tells how much."""
    if app.settings.redis_url is None:
        async with working(app, ports.hear_jobs, metrics.jobs, JOBS_PATIENCE):
            yield
        return
    watching = _spawn(metrics.jobs.watch(app.store))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work)


async def _flush(presence: PresenceLog, store: Store) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await _flush_once(presence, store)


async def _flush_once(presence: PresenceLog, store: Store, everything: bool = False) -> None:
    try:
        await presence.flush(store, everything)
    except Exception as error:  # noqa: BLE001 - the loop must outlive whatever it is; nothing but activity times is lost
        structlog.get_logger().error("activity times were not written", exc_info=error)


async def _watch(ports: Cluster, store: Store, metrics: ServerMetrics) -> None:
    """Wake those who listen to a project's events, of which most wake nobody.

    And all others while wake-ups may be lost: Redis is away, or other processes write into the SQLite file.
    """
    inboxes, projects = InboxWatch(store), ProjectWatch(store)
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        metrics.note_limits(ports.limits.is_local)
        is_lossy = ports.is_lossy() or store.engine == "sqlite"
        topics = list(ports.listened())
        try:
            of_projects = topics if is_lossy else [topic for topic in topics if events_of(topic) is not None]
            await ports.wake_here(await projects.grown(of_projects))
            if is_lossy:
                await ports.wake_here(await inboxes.grown(topics))
        except Exception as error:  # noqa: BLE001 - as above; who waits still looks by itself now and then
            structlog.get_logger().error("projects and inboxes were not looked at", exc_info=error)
