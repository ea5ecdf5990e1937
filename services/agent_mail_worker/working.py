"""Doing jobs for as long as a block lasts: what the job worker of a cluster and the embedded server have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from agent_mail_core.job_queue import JobKind
from agent_mail_core.job_runner import AT_ONCE, JobRunner
from agent_mail_core.jobs import Handlers
from agent_mail_core.ports import App
from agent_mail_core.sweeps import ALWAYS
from agent_mail_worker.jobs import HANDLERS, possible
from agent_mail_worker.metrics import JobMetrics

ROOM_PATIENCE = 5.0
"""Seconds that a worker which is full leaves wakes to others; after that it takes them, to look when it has room."""

Hear: TypeAlias = Callable[[JobKind, int], Awaitable[None]]


@asynccontextmanager
async def working(
    app: App,
    hear_jobs: Callable[[Hear], Awaitable[None]],
    metrics: JobMetrics,
    stop_patience: float,
    handlers: Handlers = HANDLERS,
    at_once: int = AT_ONCE,
) -> AsyncIterator[None]:
    """Do jobs inside the block. At its end, those that run have `stop_patience` seconds, then they are given back."""
    runner = JobRunner(app, possible(app, handlers), metrics.report, ALWAYS, at_once)

    async def hear(kind: JobKind, subject_id: int) -> None:
        await runner.room(ROOM_PATIENCE)
        await runner.woken(kind, subject_id)

    runner.start()
    background = [
        asyncio.ensure_future(hear_jobs(hear)),
        asyncio.create_task(metrics.watch(app.store)),
    ]
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        await runner.stop(stop_patience)
        await asyncio.wait(background)
