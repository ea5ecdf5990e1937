"""Deadlines that share a timer: every call has one, and hardly any call gets there.

A timer of the loop for each call cost more than the rest of a small call's way: of 136 µs of CPU for `health` over MCP
30 were two timers, their cancelling, and the garbage collector's work on what uvloop keeps of them for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType


class Alarms:
    """Callbacks that are due equally long after they were set, so the oldest is always the next: one timer for all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, after: float) -> None:
        self._loop = loop
        self._after = after
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._is_timed = False

    def __len__(self) -> int:
        return len(self._due)

    def set(self, owner: object, ring: Callable[[], None]) -> None:
        """Call `ring` when the time has passed; each owner has one alarm at most."""
        self._due[owner] = (self._loop.time() + self._after, ring)
        if not self._is_timed:
            self._is_timed = True
            self._loop.call_later(self._after, self._look)

    def clear(self, owner: object) -> None:
        """Do not call it; after it was called, or twice, is fine."""
        self._due.pop(owner, None)

    def _look(self) -> None:
        while self._due:
            owner, (due, ring) = next(iter(self._due.items()))
            if due > self._loop.time():
                self._loop.call_at(due, self._look)
                return
            del self._due[owner]
            ring()
        self._is_timed = False


def alarms(after: float) -> Alarms:
    """The running loop's alarms of that many seconds."""
    return _alarms(asyncio.get_running_loop(), after)


@lru_cache(maxsize=32)
def _alarms(loop: asyncio.AbstractEventLoop, after: float) -> Alarms:
    return Alarms(loop, after)


class deadline:  # noqa: N801 - used as asyncio.timeout is
    """`with deadline(seconds):` does what `async with asyncio.timeout(seconds):` does: what takes longer is cancelled,
    and TimeoutError raised in its place. For durations that come from settings or constants, of which there are few.
    """

    __slots__ = ("_alarms", "_cancelling", "_has_passed", "_task")

    def __init__(self, seconds: float) -> None:
        self._alarms = alarms(seconds)
        self._has_passed = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task to cancel")
        self._task = task
        self._cancelling = task.cancelling()
        self._alarms.set(self, self._pass)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._has_passed:
            self._alarms.clear(self)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _pass(self) -> None:
        self._has_passed = True
        self._task.cancel()
