"""Logs of event streams, so that a client that lost its connection resumes on any worker (MCP's `Last-Event-ID`).

A log is short-lived and may vanish with the service that keeps it; a reader is told when something is missing. The id
of a stream is `owner:name`: logs of one owner share a budget, and are forgotten together.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from agent_mail_core.errors import Unavailable
from agent_mail_core.ports import Wakeup

MAX_EVENTS = 512
"""Events that a log keeps; older ones go first."""

MAX_OWNER_BYTES = 8 * 1024 * 1024
"""What an owner may append, to all of its logs, within a log's time to live from its first event on."""

EVENT_COST = 256
"""Bytes that an event counts for beside its data: many small ones are a lot, too."""

PAGE = 100


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event; its id orders it among those of its stream and means nothing in another."""

    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamPage:
    """What a log holds after some event, oldest first, PAGE events at most."""

    events: list[StreamEvent]
    is_ended: bool
    """Nothing comes after these events."""
    has_gap: bool
    """The event to read after is not there (dropped, lost, or never was): the page begins with the oldest that is."""


def owner_of(stream_id: str) -> str:
    """Whose log it is."""
    return stream_id.partition(":")[0]


def too_much() -> Unavailable:
    """The error for an event that is not kept because its owner appended so much."""
    return Unavailable("The logs of this session's streams are full for now.")


class StreamLog(Protocol):
    """Keeps logs by a stream's id, which must be hard to guess. Methods raise `Unavailable` when that is down."""

    async def append(self, stream_id: str, data: bytes) -> str:
        """Store an event, wake those who listen, and return its id. The log's time to live begins anew.

        Past MAX_OWNER_BYTES nothing is stored: `Unavailable`, as when the service is down.
        """
        ...

    async def end(self, stream_id: str, data: bytes = b"") -> None:
        """Nothing follows but `data`, if any, as the last event; it counts for nothing, so keep it short.

        What was appended stays readable until its time is over.
        """
        ...

    async def read_after(self, stream_id: str, event_id: str | None) -> StreamPage:
        """The first events after one, or after the beginning; none of a log that is not there."""
        ...

    async def drop(self, owner: str) -> None:
        """Forget all logs of an owner at once; twice is fine."""
        ...

    def listen(self, stream_id: str) -> AbstractAsyncContextManager[Wakeup]:
        """Be woken by `append` and `end` on any worker. Listen, then read, then wait; look by yourself now and then."""
        ...
