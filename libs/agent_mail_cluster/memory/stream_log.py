"""Logs of event streams within one server process."""

from __future__ import annotations

from collections import OrderedDict, deque
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from agent_mail_core.ports import Clock, Wakeup, Wakeups
from agent_mail_core.stream_log import (
    EVENT_COST,
    MAX_EVENTS,
    MAX_OWNER_BYTES,
    PAGE,
    StreamEvent,
    StreamLog,
    StreamPage,
    owner_of,
    too_much,
)

MAX_LOGS = 10_000
MAX_BYTES = 128 * 1024 * 1024
"""Of all owners together; what was appended to longest ago goes first."""


def topic(stream_id: str) -> str:
    """The wake-up topic of one log."""
    return f"stream:{stream_id}"


@dataclass(slots=True)
class _Event:
    number: int
    data: bytes
    is_end: bool


@dataclass(slots=True)
class _Log:
    expires_at: int = 0
    last_number: int = 0
    events: deque[_Event] = field(default_factory=deque)
    size: int = 0


@dataclass(slots=True)
class _Owner:
    """What an owner has appended since its first event, until `expires_at`."""

    expires_at: int
    size: int = 0


class MemoryStreamLog(StreamLog):
    """Logs in the order of their last append, which is that of their expiry."""

    def __init__(self, clock: Clock, wakeups: Wakeups, ttl_seconds: int) -> None:
        self._clock = clock
        self._wakeups = wakeups
        self._ttl = ttl_seconds * 1_000_000
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._owners: dict[str, _Owner] = {}
        self.size = 0
        """Bytes of all events."""

    def __len__(self) -> int:
        return len(self._logs)

    async def append(self, stream_id: str, data: bytes) -> str:
        self._expire()
        owner = self._owners.setdefault(owner_of(stream_id), _Owner(self._clock.microseconds() + self._ttl))
        cost = len(data) + EVENT_COST
        if owner.size + cost > MAX_OWNER_BYTES:
            raise too_much()
        owner.size += cost
        return await self._append(stream_id, data, is_end=False)

    async def end(self, stream_id: str, data: bytes = b"") -> None:
        self._expire()
        await self._append(stream_id, data, is_end=True)

    async def read_after(self, stream_id: str, event_id: str | None) -> StreamPage:
        self._expire()
        log = self._logs.get(stream_id)
        kept = list(log.events) if log is not None else []
        start, has_gap = 0, False
        if event_id is not None:
            ids = [f"{event.number}-0" for event in kept]
            has_gap = event_id not in ids
            start = 0 if has_gap else ids.index(event_id) + 1
        page = kept[start : start + PAGE]
        events = [StreamEvent(f"{event.number}-0", event.data) for event in page if event.data or not event.is_end]
        return StreamPage(events, any(event.is_end for event in page), has_gap)

    async def drop(self, owner: str) -> None:
        self._owners.pop(owner, None)
        for stream_id in [stream_id for stream_id in self._logs if owner_of(stream_id) == owner]:
            self._forget(stream_id)

    def listen(self, stream_id: str) -> AbstractAsyncContextManager[Wakeup]:
        return self._wakeups.subscribe(topic(stream_id))

    async def _append(self, stream_id: str, data: bytes, *, is_end: bool) -> str:
        now = self._clock.microseconds()
        log = self._logs.setdefault(stream_id, _Log())
        log.expires_at = now + self._ttl
        log.last_number = max(log.last_number + 1, now)
        log.events.append(_Event(log.last_number, data, is_end))
        self._grow(log, len(data))
        if len(log.events) > MAX_EVENTS:
            self._grow(log, -len(log.events.popleft().data))
        self._logs.move_to_end(stream_id)
        while len(self._logs) > MAX_LOGS or (self.size > MAX_BYTES and len(self._logs) > 1):
            self._forget(next(iter(self._logs)))
        await self._wakeups.publish([topic(stream_id)])
        return f"{log.last_number}-0"

    def _grow(self, log: _Log, by: int) -> None:
        log.size += by
        self.size += by

    def _forget(self, stream_id: str) -> None:
        self.size -= self._logs.pop(stream_id).size

    def _expire(self) -> None:
        now = self._clock.microseconds()
        while self._logs and next(iter(self._logs.values())).expires_at <= now:
            self._forget(next(iter(self._logs)))
        while self._owners and next(iter(self._owners.values())).expires_at <= now:
            del self._owners[next(iter(self._owners))]
