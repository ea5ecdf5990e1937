"""Near names: what somebody who mistyped a name probably meant."""

import difflib
import heapq
import itertools
from collections.abc import Iterable

MAX_LENGTH = 64
"""Characters of a name that are compared."""

CANDIDATES = 20
"""How many names, those that share most pairs of letters, are compared in full: difflib takes up to 0.3 ms a name."""

SHORTEST_BEGINNING = 3
"""Characters that many names begin with say nothing."""


def near_names(wanted: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` known names that resemble `wanted`, best first, ignoring case; empty when none does.

    Names that only begin with it come last: `shop` is near to `shop-3f2a9c1d`, for all that it lacks.
    A thousand known names take a few milliseconds, whatever they are.
    """
    key = wanted[:MAX_LENGTH].casefold()
    by_key: dict[str, str] = {}
    for name in known:
        by_key.setdefault(name[:MAX_LENGTH].casefold(), name)
    pairs = _pairs(key)
    likely = heapq.nlargest(CANDIDATES, by_key, key=lambda other: _likeness(pairs, _pairs(other)))
    close = difflib.get_close_matches(key, likely, n=limit, cutoff=0.6)
    longer = sorted(other for other in by_key if len(key) >= SHORTEST_BEGINNING and other.startswith(key))
    return [by_key[other] for other in dict.fromkeys([*close, *longer])][:limit]


def _pairs(key: str) -> set[str]:
    """Its pairs of neighbouring letters, with its first and its last by themselves."""
    return {key[:1], key[-1:], *map("".join, itertools.pairwise(key))}


def _likeness(one: set[str], other: set[str]) -> float:
    return len(one & other) / (len(one) + len(other))
