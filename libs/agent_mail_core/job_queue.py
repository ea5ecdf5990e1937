"""The queue of background work: it says where to look, and nothing else. The rows of `jobs.Jobs` are the work.

So all of it may be lost: a worker looks at the rows by itself every few seconds, and finds what nobody told it of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

JobKind = Literal["outbox", "archive", "summary", "webhook", "embedding", "sweep"]

Wake: TypeAlias = tuple[JobKind, int]
"""A kind of work and the id of its subject."""

BUNDLED_SECONDS = 0.2
MOST_BUNDLED = 1000


class JobQueue(Protocol):
    """Tells job workers that there is work."""

    def wake(self, kind: JobKind, subject_id: int) -> None:
        """There is work of this kind for this subject. Call it after the commit.

        Costs what adding to a set costs, and never raises. The same wake is passed on at most every BUNDLED_SECONDS.
        May be lost.
        """
        ...


class NoJobQueue(JobQueue):
    """Tells nobody: work is found by those who look."""

    def wake(self, kind: JobKind, subject_id: int) -> None:
        return None


class Bundle:
    """Collects wakes and passes them on together: the first after a pause at once, what comes meanwhile later."""

    def __init__(self, pass_on: Callable[[set[Wake]], None], every: float = BUNDLED_SECONDS) -> None:
        """`pass_on` must not raise."""
        self._pass_on = pass_on
        self._every = every
        self._wakes: set[Wake] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0

    def add(self, wake: Wake) -> None:
        """Pass it on soon; beyond MOST_BUNDLED different ones it is dropped."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._next_at), self._flush)
        if len(self._wakes) < MOST_BUNDLED:
            self._wakes.add(wake)

    def close(self) -> None:
        """Pass on nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        self._timer = None
        self._next_at = asyncio.get_running_loop().time() + self._every
        wakes, self._wakes = self._wakes, set()
        self._pass_on(wakes)
