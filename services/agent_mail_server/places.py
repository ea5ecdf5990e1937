"""Places of a worker for what takes much memory for long: so many in all, and so many for one caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from agent_mail_core.errors import Overloaded
from agent_mail_core.ports import Caller


class Places:
    """Counts who holds how many. Nobody waits for a place: whoever finds none is told to come again."""

    def __init__(self, most: int, most_of_one: int, what: str) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._refusal = f"The server {what} right now; try again shortly."
        self._held: Counter[object] = Counter()

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Hold a place. Raises Overloaded when there is none, or the caller has its share."""
        owner = (caller.team_id, caller.counts_for or caller.principal)
        if self._held.total() >= self._most or self._held[owner] >= self._most_of_one:
            raise Overloaded(self._refusal)
        self._held[owner] += 1
        try:
            yield
        finally:
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
