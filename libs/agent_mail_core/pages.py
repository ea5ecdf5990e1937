"""How much one page holds: as many entries as asked for, and no more text than a slow reader may make us keep."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

PAGE_CHARACTERS = 2 * 1024 * 1024
"""Of bodies in one page. A page is cut there, and its cursor goes on behind the cut."""


class HasBody(Protocol):
    """An entry that may bring a message's body."""

    @property
    def body_md(self) -> str | None: ...


T = TypeVar("T", bound=HasBody)


def fitting(entries: Sequence[T], limit: int) -> list[T]:
    """The first `limit` entries, or fewer when their bodies are longer than a page may be; always the first one."""
    fit = list(entries[:limit])
    size = sum([len(entry.body_md) for entry in fit if entry.body_md])
    while size > PAGE_CHARACTERS and len(fit) > 1:
        size -= len(fit.pop().body_md or "")
    return fit
