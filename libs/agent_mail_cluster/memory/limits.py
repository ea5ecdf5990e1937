"""Limits of one server process: the embedded mode's, and what a worker falls back on while Redis is away.

A window is exact to a thousandth: what is taken within one is counted together, which bounds a key's memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from agent_mail_core.limits import Allowance, Budget, Limits

MAX_KEYS = 20_000
SLOTS = 1000


class MovingWindow:
    """What was taken from one budget by one key within the last window, as (time, how many) from old to new."""

    __slots__ = ("_budget", "_slots", "_taken")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._slots: deque[list[float]] = deque()
        self._taken = 0

    def take(self, now: float) -> Allowance:
        """Take one, if the window has room."""
        budget, slots = self._budget, self._slots
        while slots and slots[0][0] <= now - budget.window_seconds:
            self._taken -= int(slots.popleft()[1])
        is_granted = self._taken < budget.limit
        if is_granted:
            if slots and now - slots[-1][0] < budget.window_seconds / SLOTS:
                slots[-1][1] += 1
            else:
                slots.append([now, 1])
            self._taken += 1
        reset = max(0.0, slots[0][0] + budget.window_seconds - now) if slots else 0.0
        return Allowance(is_granted, budget.limit, budget.limit - self._taken, reset)


class MemoryLimits(Limits):
    """A window for each budget and key, least recently used first."""

    def __init__(self, now: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._now = now
        self._max_keys = max_keys
        self._windows: OrderedDict[tuple[str, str], MovingWindow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def is_local(self) -> bool:
        return False

    async def take(self, budget: Budget, key: str) -> Allowance:
        return self.take_now(budget, key)

    def take_now(self, budget: Budget, key: str) -> Allowance:
        """The same without a coroutine."""
        place = (budget.name, key)
        window = self._windows.get(place)
        if window is None:
            window = self._windows[place] = MovingWindow(budget)
            if len(self._windows) > self._max_keys:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(place)
        return window.take(self._now())
