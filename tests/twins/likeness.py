"""Whether two answers say the same, apart from what no two servers can have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
RANDOM_KEY = re.compile(r"\bT-[0-9A-Z]{10}\b|\b[0-9a-f]{32}\b|\bwhsec_[\w+/=]+")
"""A thread's generated key, an attachment's id, a webhook's secret."""

OWN = frozenset({"cursor", "next_cursor", "older_cursor", "request_id", "uptime_seconds", "contact_id", "contact_ids"})
"""What is a server's own: only whether it is there is compared. A request that is made again may leave a gap in ids."""

SHAPE_ALONE = frozenset({"health", "ready", "metrics"})
"""Operations that tell of the server itself."""

RANKED = "search_messages"
"""Finds the same on both engines, in an order of its own (SPEC §3.5)."""

TOLERANCE = 8.0
"""Seconds that two times may lie apart: the twins are asked one after the other, on a machine that has other work."""


@dataclass
class Names:
    """What a twin calls things that have random names: by the order in which they appear."""

    known: dict[str, str] = field(default_factory=dict)

    def common(self, text: str) -> str:
        """The text with names that the other twin uses too, and without times, which Markdown may escape."""
        text = RANDOM_KEY.sub(lambda found: self.known.setdefault(found[0], f"<name {len(self.known)}>"), text)
        return TIME.sub("<time>", text.replace("\\", ""))


def unranked(answer: Any) -> Any:
    """A page of hits without their order; of a page that is a part of them, how many there are."""
    if not isinstance(answer, dict) or "hits" not in answer:
        return answer
    hits = [{name: value for name, value in hit.items() if name != "rank"} for hit in answer["hits"]]
    is_whole = "next_cursor" not in answer and [hit["rank"] for hit in answer["hits"]][:1] in ([], [1])
    shown = sorted(hits, key=lambda hit: int(hit["message_id"])) if is_whole else len(hits)
    return {**answer, "hits": shown}


def difference(
    first: Any, second: Any, names: tuple[Names, Names], shape_alone: bool = False, at: str = ""
) -> str | None:
    """Where two answers say something different first, and what; None when they say the same."""
    return next(_differences(first, second, names, shape_alone, at), None)


def _differences(first: Any, second: Any, names: tuple[Names, Names], shape_alone: bool, at: str) -> Iterator[str]:
    match first, second:
        case dict(), dict():
            if first.keys() != second.keys():
                yield f"{at}: fields {list(first)} | {list(second)}"
            for name in first.keys() & second.keys():
                if name not in OWN:
                    yield from _differences(first[name], second[name], names, shape_alone, f"{at}/{name}")
        case list(), list():
            if len(first) != len(second) and not shape_alone:
                yield f"{at}: {first} | {second}"
            for number, (one, other) in enumerate(zip(first, second, strict=False)):
                yield from _differences(one, other, names, shape_alone, f"{at}/{number}")
        case _ if type(first) is not type(second):
            yield f"{at}: {first!r} | {second!r}"
        case _ if shape_alone:
            return
        case str(), str():
            if TIME.fullmatch(first) and TIME.fullmatch(second):
                apart = (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()
                if abs(apart) > TOLERANCE:
                    yield f"{at}: {first} | {second}"
            elif names[0].common(first) != names[1].common(second):
                yield f"{at}: {first!r} | {second!r}"
        case _ if first != second:
            yield f"{at}: {first!r} | {second!r}"
