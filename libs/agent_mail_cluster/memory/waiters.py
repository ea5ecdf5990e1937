"""How many calls of each team wait at a time, within one server process."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_mail_core.errors import TooManyWaiters
from agent_mail_core.ids import TeamId
from agent_mail_core.ports import Waiters


class MemoryWaiters(Waiters):
    """A counter for each team that has waiting calls."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: Counter[TeamId] = Counter()

    @property
    def waiting(self) -> int:
        """How many calls wait now, of all teams."""
        return self._waiting.total()

    @asynccontextmanager
    async def place(self, team_id: TeamId) -> AsyncIterator[None]:
        if self._waiting[team_id] >= self._limit:
            raise TooManyWaiters(limit=self._limit)
        self._waiting[team_id] += 1
        try:
            yield
        finally:
            self._waiting[team_id] -= 1
            if not self._waiting[team_id]:
                del self._waiting[team_id]
