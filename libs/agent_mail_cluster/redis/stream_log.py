"""Logs of event streams as capped Redis streams, `am:stream:{id}`; an event's field is `d`, the end's `e`."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from typing import Any

from redis.exceptions import ResponseError

from agent_mail_cluster.memory.stream_log import topic
from agent_mail_cluster.redis.connection import PREFIX, RedisConnection
from agent_mail_cluster.redis.errors import translate
from agent_mail_core.ports import Wakeup, Wakeups
from agent_mail_core.stream_log import MAX_EVENTS, PAGE, StreamEvent, StreamLog, StreamPage

EVENT_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")


class RedisStreamLog(StreamLog):
    """Logs that every worker reads and continues."""

    def __init__(self, connection: RedisConnection, wakeups: Wakeups, ttl_seconds: int) -> None:
        self._connection = connection
        self._wakeups = wakeups
        self._ttl = ttl_seconds

    async def append(self, stream_id: str, data: bytes) -> str:
        return await self._append(stream_id, b"d", data)

    async def end(self, stream_id: str) -> None:
        await self._append(stream_id, b"e", b"")

    async def read_after(self, stream_id: str, event_id: str | None) -> StreamPage:
        has_gap = False
        if event_id is not None:
            # From the event itself on: that it is still there proves that none behind it was lost.
            start = event_id if EVENT_ID.fullmatch(event_id) else "-"
            page = await self._range(stream_id, start, PAGE + 1)
            has_gap = not page or page[0][0].decode() != event_id
        if event_id is None or has_gap:
            page = await self._range(stream_id, "-", PAGE)
        else:
            del page[0]
        events = [StreamEvent(entry.decode(), fields[1]) for entry, fields in page if fields[0] == b"d"]
        return StreamPage(events, any(fields[0] == b"e" for _, fields in page), has_gap)

    async def drop(self, stream_id: str) -> None:
        # An empty stream remembers its last id, which a new one could give again within the same millisecond.
        key = _key(stream_id)
        await self._connection.call_all([("XTRIM", key, "MAXLEN", 0), ("EXPIRE", key, 1)])

    def listen(self, stream_id: str) -> AbstractAsyncContextManager[Wakeup]:
        return self._wakeups.subscribe(topic(stream_id))

    async def _range(self, stream_id: str, start: str, count: int) -> list[Any]:
        found: list[Any] = await self._connection.call("XRANGE", _key(stream_id), start, "+", "COUNT", count)
        return found

    async def _append(self, stream_id: str, field: bytes, data: bytes) -> str:
        key = _key(stream_id)
        event_id, _ = await self._connection.call_all(
            [("XADD", key, "MAXLEN", MAX_EVENTS, "*", field, data), ("EXPIRE", key, self._ttl)]
        )
        if isinstance(event_id, ResponseError):
            raise translate(event_id)
        await self._wakeups.publish([topic(stream_id)])
        return str(event_id.decode())


def _key(stream_id: str) -> str:
    return f"{PREFIX}stream:{stream_id}"
