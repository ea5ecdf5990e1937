"""Logs of event streams within one server process."""

from __future__ import annotations

from collections import OrderedDict, deque
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from agent_mail_core.ports import Clock, Wakeup, Wakeups
from agent_mail_core.stream_log import MAX_EVENTS, PAGE, StreamEvent, StreamLog, StreamPage

MAX_LOGS = 10_000


def topic(stream_id: str) -> str:
    """The wake-up topic of one log."""
    return f"stream:{stream_id}"


@dataclass(slots=True)
class _Log:
    expires_at: int = 0
    last_number: int = 0
    events: deque[tuple[int, bytes | None]] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))


class MemoryStreamLog(StreamLog):
    """Logs in the order of their last append, which is that of their expiry. The end is an event without data."""

    def __init__(self, clock: Clock, wakeups: Wakeups, ttl_seconds: int) -> None:
        self._clock = clock
        self._wakeups = wakeups
        self._ttl = ttl_seconds * 1_000_000
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    def __len__(self) -> int:
        return len(self._logs)

    async def append(self, stream_id: str, data: bytes) -> str:
        return await self._append(stream_id, data)

    async def end(self, stream_id: str) -> None:
        await self._append(stream_id, None)

    async def read_after(self, stream_id: str, event_id: str | None) -> StreamPage:
        self._expire()
        log = self._logs.get(stream_id)
        kept = list(log.events) if log is not None else []
        start, has_gap = 0, False
        if event_id is not None:
            ids = [f"{number}-0" for number, _ in kept]
            has_gap = event_id not in ids
            start = 0 if has_gap else ids.index(event_id) + 1
        page = kept[start : start + PAGE]
        events = [StreamEvent(f"{number}-0", data) for number, data in page if data is not None]
        is_ended = any(data is None for _, data in page)
        return StreamPage(events, is_ended, has_gap)

    async def drop(self, stream_id: str) -> None:
        self._logs.pop(stream_id, None)

    def listen(self, stream_id: str) -> AbstractAsyncContextManager[Wakeup]:
        return self._wakeups.subscribe(topic(stream_id))

    async def _append(self, stream_id: str, data: bytes | None) -> str:
        self._expire()
        now = self._clock.microseconds()
        log = self._logs.setdefault(stream_id, _Log())
        log.expires_at = now + self._ttl
        log.last_number = max(log.last_number + 1, now)
        log.events.append((log.last_number, data))
        self._logs.move_to_end(stream_id)
        if len(self._logs) > MAX_LOGS:
            self._logs.popitem(last=False)
        await self._wakeups.publish([topic(stream_id)])
        return f"{log.last_number}-0"

    def _expire(self) -> None:
        now = self._clock.microseconds()
        while self._logs and next(iter(self._logs.values())).expires_at <= now:
            self._logs.popitem(last=False)
