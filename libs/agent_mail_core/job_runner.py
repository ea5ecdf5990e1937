"""Does the jobs of one process: so many at once, whenever it hears of some, and whenever it looks by itself.

The embedded server and the job worker of a cluster run the same one. It takes what is due from the database, whoever
told of it, so that a queue which is away or forgets costs nothing but a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import TypeAlias

from agent_mail_core.errors import AgentMailError
from agent_mail_core.job_queue import JobKind, Wake
from agent_mail_core.jobs import KINDS, LEASE, Handlers, Job, Performed, perform
from agent_mail_core.leases import insist
from agent_mail_core.ports import App

AT_ONCE = 4
LOOK_SECONDS = 2.0
TICK = 0.005
"""Seconds by which the event loop's clock may be ahead of the database's."""

GIVE_BACK_PATIENCE = 2.0
"""Seconds for jobs that were cancelled to be given back."""

Report: TypeAlias = Callable[[Job, Performed, float], None]
"""Told of each attempt, and how many seconds it took. Must not raise."""


class JobRunner:
    """Made for an app and its handlers; `start` it, and `stop` it before the store closes."""

    def __init__(
        self, app: App, handlers: Handlers, report: Report, always: Sequence[Wake] = (), at_once: int = AT_ONCE
    ) -> None:
        """`always` is work that there always is: it gets its rows at the start."""
        self._app = app
        self._handlers = handlers
        self._kinds = list(handlers)
        self._report = report
        self._always = list(always)
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: Counter[JobKind] = Counter()
        self._news = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_stopping = False
        self._looking: asyncio.Task[None] | None = None
        self._look_by = 0.0
        """By the loop's clock, when the last job that was heard of has gathered."""
        self._alarm: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look for jobs."""
        self._looking = asyncio.create_task(self._look_again_and_again())

    async def stop(self, patience: float) -> None:
        """Take no more jobs; those that are not done after `patience` seconds are given back. Done when all ended."""
        self._is_stopping = True
        self._news.set()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=patience)
            self._looking.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GIVE_BACK_PATIENCE)

    async def woken(self, kind: JobKind, subject_id: int) -> None:
        """Somebody says that there is work. Never raises, but for being cancelled."""
        if kind in self._handlers and KINDS[kind].is_made_by_wakes:
            with suppress(AgentMailError):
                await self._want(kind, subject_id)
        if not KINDS[kind].is_made_by_wakes:  # it may be due at once
            self._news.set()
        self._look_after(KINDS[kind].gathers)

    async def room(self, timeout: float) -> None:
        """Return when another job can begin, or after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._has_room.wait()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _look_again_and_again(self) -> None:
        while not self._is_stopping:
            self._news.clear()
            try:
                await self._begin_what_is_due()
            except AgentMailError:  # the database is away; it is asked again
                pass
            except Exception:
                logging.getLogger(__name__).exception("looking for jobs failed")
            with suppress(TimeoutError):  # not all workers at the same time
                async with asyncio.timeout(LOOK_SECONDS * random.uniform(0.8, 1.2)):  # noqa: S311
                    await self._news.wait()

    def _look_after(self, delay: timedelta) -> None:
        """Look once a job has gathered that is wanted now: at the end of each such time, or of one that ends later."""
        if not delay:
            self._news.set()
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay.total_seconds() + TICK
        self._look_by = max(self._look_by, due)
        if self._is_stopping or (self._alarm is not None and self._alarm.when() <= due):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._news.set()
        loop = asyncio.get_running_loop()
        if self._look_by > loop.time():
            self._alarm = loop.call_at(self._look_by, self._ring)

    async def _begin_what_is_due(self) -> None:
        while self._always:
            await self._want(*self._always[-1])
            self._always.pop()
        while not self._is_stopping and len(self._tasks) < self._at_once:
            job = await insist(self._claim)
            if job is None:
                return
            self._begin(job)

    async def _want(self, kind: JobKind, subject_id: int) -> None:
        async def write() -> None:
            async with self._app.store.write() as db:
                await db.jobs.want(kind, subject_id, after=KINDS[kind].gathers)

        await insist(write)

    async def _claim(self) -> Job | None:
        async with self._app.store.write() as db:
            return await db.jobs.claim([kind for kind in self._kinds if self._has_place(kind)], LEASE)

    def _has_place(self, kind: JobKind) -> bool:
        most = KINDS[kind].most_at_once
        return most is None or self._running[kind] < most

    # --- doing --------------------------------------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._do(job))
        self._tasks.add(task)
        self._running[job.kind] += 1
        if len(self._tasks) == self._at_once:
            self._has_room.clear()
        task.add_done_callback(partial(self._ended, job.kind))

    def _ended(self, kind: JobKind, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._running[kind] -= 1
        self._has_room.set()
        self._news.set()  # there may be more than there was room for, and a job may have made others
        if KINDS[kind].gathers:  # it may have been wanted again
            self._look_after(KINDS[kind].gathers)

    async def _do(self, job: Job) -> None:
        began = perf_counter()
        performed = Performed("given_back")
        try:
            performed = await perform(self._app, self._handlers, job)
        finally:
            self._report(job, performed, perf_counter() - began)
