"""How often a caller may do something: budgets, and the port that keeps count of them over all workers (SPEC §6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Protocol

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, slots=True)
class Budget:
    """So many in any `window_seconds`, for each key apart. Two budgets of one name count together: do not make such."""

    name: str
    limit: int
    window_seconds: int = 60


class Allowance(NamedTuple):
    """The answer to one take."""

    is_granted: bool
    limit: int
    remaining: int
    """How many more would be granted now. An estimate: other workers take too."""
    reset_after_seconds: float
    """When refused: until the next try can succeed. When granted: until the first that was taken counts no longer."""


class Limits(Protocol):
    """Counts in a window that moves: whatever was granted in the last `window_seconds` is held against the limit.

    Over all workers 95 to 105 % of a limit is granted in any window under demand. Memory is bounded: of very many keys
    those unused for longest are forgotten. When the service behind it is down each worker counts alone, against the
    whole limit.
    """

    @property
    def is_local(self) -> bool:
        """Whether this worker counts alone although it should not."""
        ...

    async def take(self, budget: Budget, key: str) -> Allowance:
        """Take one from the key's budget, if there is one. Never raises; a refusal takes nothing."""
        ...


def parse_budget(name: str, rate: str) -> Budget:
    """A budget from text like `100/minute` or `500/5 minutes`. Raises ValueError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})/(?:([1-9][0-9]{0,3}) )?(second|minute|hour|day)s?", rate.strip())
    if found is None:
        raise ValueError("must be like 100/minute or 500/5 minutes (seconds, minutes, hours or days)")
    return Budget(name, int(found[1]), int(found[2] or 1) * SECONDS[found[3]])
