"""The queue within one process: who wakes and who works share an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent_mail_core.job_queue import Bundle, JobKind, JobQueue, Wake

Hear = Callable[[JobKind, int], Awaitable[None]]


class MemoryJobQueue(JobQueue):
    """Passes wakes on to the process's own worker, while there is one."""

    def __init__(self) -> None:
        self._bundle = Bundle(self._pass_on)
        self._passed_on: set[Wake] = set()
        self._news = asyncio.Event()
        self._is_heard = False

    def wake(self, kind: JobKind, subject_id: int) -> None:
        if self._is_heard:
            self._bundle.add((kind, subject_id))

    def _pass_on(self, wakes: set[Wake]) -> None:
        self._passed_on |= wakes
        self._news.set()

    async def consume(self, hear: Hear) -> None:
        """Until cancelled: call `hear` with each wake, one after another. It raises nothing."""
        self._is_heard = True
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                wakes, self._passed_on = self._passed_on, set()
                for kind, subject_id in wakes:
                    await hear(kind, subject_id)
        finally:
            self._is_heard = False
            self._bundle.close()
