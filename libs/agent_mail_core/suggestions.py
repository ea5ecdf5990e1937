"""Near names: what somebody who mistyped a name probably meant."""

import difflib
from collections.abc import Iterable


def near_names(wanted: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` known names that resemble `wanted`, best first, ignoring case; empty when none does."""
    by_key: dict[str, str] = {}
    for name in known:
        by_key.setdefault(name.casefold(), name)
    close = difflib.get_close_matches(wanted.casefold(), by_key, n=limit, cutoff=0.6)
    return [by_key[key] for key in close]
