"""The job worker's process: does what servers leave behind, next to any number of others, until SIGTERM.

It finds its work in the database and hears of it through Redis, so it goes on, a little later, while Redis is away.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import structlog
import uvloop
from prometheus_client import CollectorRegistry, start_http_server

from agent_mail_archive.opening import open_archive
from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import AgentMailError
from agent_mail_core.jobs import Handlers
from agent_mail_core.ports import App, Clock, Store
from agent_mail_core.presence import PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_core.settings_errors import SettingsError
from agent_mail_core.version import version
from agent_mail_embeddings.opening import open_query_vectors
from agent_mail_outbound.opening import open_outbound
from agent_mail_server import requests_log
from agent_mail_server.cluster import Cluster, cluster
from agent_mail_server.errors import STATUS_AND_EXIT
from agent_mail_server.interpreter import set_for_serving
from agent_mail_server.metrics import ServerMetrics
from agent_mail_store.opening import open_store
from agent_mail_summaries.opening import open_summarizer
from agent_mail_worker.answering import answering
from agent_mail_worker.disk import warn_of_other_disks
from agent_mail_worker.jobs import HANDLERS
from agent_mail_worker.metrics import JobMetrics
from agent_mail_worker.working import working

STOP_PATIENCE = 7.0
"""Seconds for jobs that run when SIGTERM comes; what is not done by then is given back within ten."""


def work(settings: Settings, warnings: list[str], handlers: Handlers = HANDLERS) -> int:
    """Do jobs until told to stop; the exit status."""
    requests_log.configure(settings)
    log = structlog.get_logger()
    for warning in warnings:
        log.warning(warning)
    if settings.redis_url is None:
        log.error("cannot start", reason="REDIS_URL is not set: without it the server does its background work itself")
        return STATUS_AND_EXIT["invalid"][1]
    try:
        return uvloop.run(_work(settings, handlers))
    except SettingsError as error:
        log.error("cannot start", reason=str(error))
        return STATUS_AND_EXIT["invalid"][1]
    except OSError as error:
        log.error("cannot start", reason=f"WORKER_METRICS_PORT: {error.strerror}")
        return STATUS_AND_EXIT["unavailable"][1]
    except AgentMailError as error:
        log.error("cannot start", reason=error.message, code=error.code, **error.data)
        return STATUS_AND_EXIT[error.kind][1]


async def _work(settings: Settings, handlers: Handlers) -> int:
    log = structlog.get_logger()
    is_told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, is_told.set)
    clock, metrics = SystemClock(), JobMetrics()
    store = await open_store(settings, clock, single_server=False)
    try:
        async with (
            cluster(settings, clock) as ports,
            open_archive(settings) as archive,
            open_summarizer(settings) as summarizer,
            open_outbound(settings) as outbound,
            open_query_vectors(settings) as query_vectors,
        ):
            app = _app(settings, store, ports, clock, is_told)
            app = replace(app, archive=archive, summarizer=summarizer, outbound=outbound, query_vectors=query_vectors)
            await warn_of_other_disks(app)
            async with (
                answering(app, ports.questions),
                working(app, ports.hear_jobs, metrics, STOP_PATIENCE, handlers),
            ):
                _serve_metrics(settings, metrics)
                with set_for_serving():
                    log.info("working", pid=os.getpid(), database=store.engine)
                    await is_told.wait()
                    log.info("stopping", pid=os.getpid())
    finally:
        await store.close()
    log.info("stopped", pid=os.getpid())
    return 0


def _serve_metrics(settings: Settings, metrics: JobMetrics) -> None:
    if settings.worker_metrics_port:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        start_http_server(settings.worker_metrics_port, settings.host, registry)


def _app(settings: Settings, store: Store, ports: Cluster, clock: Clock, is_told: asyncio.Event) -> App:
    """The app as jobs use it: nobody calls in, so what counts and bounds calls is there and does nothing."""
    return App(
        store=store,
        wakeups=ports.wakeups,
        presence=PresenceLog(clock),
        waiters=MemoryWaiters(settings.max_waiters),
        sessions=ports.sessions,
        signals=ports.signals,
        replies=ports.replies,
        stream_log=ports.stream_log,
        subscriptions=ports.subscriptions,
        limits=ports.limits,
        metrics=ServerMetrics(),
        clock=clock,
        settings=settings,
        version=version(),
        started_at=clock.now(),
        is_draining=is_told.is_set,
        jobs=ports.jobs,
        dependencies=ports.dependencies,
    )
