"""Logs of event streams as capped Redis streams, `am:stream:{id}`; an event's field is `d`, the end's `e`.

`am:streams:{owner}` is a sorted set of an owner's logs by the second of their last event, `am:streams:{owner}:size` how
much it appended since its first.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from typing import Any

from agent_mail_cluster.memory.stream_log import topic
from agent_mail_cluster.redis.connection import PREFIX, RedisConnection, lua
from agent_mail_core.ports import Wakeup, Wakeups
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

EVENT_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")

APPEND = lua("""
local log, logs, size = KEYS[1], KEYS[2], KEYS[3]
local stream_id, field, data, cost, most, events, ttl =
  ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
if cost > 0 then
  if tonumber(redis.call('GET', size) or '0') + cost > most then
    return false
  end
  if redis.call('INCRBY', size, cost) == cost then
    redis.call('EXPIRE', size, ttl)
  end
end
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', logs, now, stream_id)
redis.call('ZREMRANGEBYSCORE', logs, '-inf', now - ttl - 1)
redis.call('EXPIRE', logs, ttl + 1)
local id = redis.call('XADD', log, 'MAXLEN', events, '*', field, data)
redis.call('EXPIRE', log, ttl)
return id
""")


class RedisStreamLog(StreamLog):
    """Logs that every worker reads and continues."""

    def __init__(self, connection: RedisConnection, wakeups: Wakeups, ttl_seconds: int) -> None:
        self._connection = connection
        self._wakeups = wakeups
        self._ttl = ttl_seconds

    async def append(self, stream_id: str, data: bytes) -> str:
        event_id = await self._append(stream_id, b"d", data, len(data) + EVENT_COST)
        if event_id is None:
            raise too_much()
        return event_id

    async def end(self, stream_id: str, data: bytes = b"") -> None:
        await self._append(stream_id, b"e", data, 0)

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
        events = [StreamEvent(entry.decode(), fields[1]) for entry, fields in page if fields[0] == b"d" or fields[1]]
        return StreamPage(events, any(fields[0] == b"e" for _, fields in page), has_gap)

    async def drop(self, owner: str) -> None:
        stream_ids = await self._connection.call("ZRANGE", _logs_key(owner), 0, -1)
        keys = [_key(stream_id.decode()) for stream_id in stream_ids]
        # An empty stream remembers its last id, which a new one could give again within the same millisecond.
        await self._connection.call_all(
            [
                *(("XTRIM", key, "MAXLEN", 0) for key in keys),
                *(("EXPIRE", key, 1) for key in keys),
                ("DEL", _logs_key(owner), _size_key(owner)),
            ]
        )

    def listen(self, stream_id: str) -> AbstractAsyncContextManager[Wakeup]:
        return self._wakeups.subscribe(topic(stream_id))

    async def _range(self, stream_id: str, start: str, count: int) -> list[Any]:
        found: list[Any] = await self._connection.call("XRANGE", _key(stream_id), start, "+", "COUNT", count)
        return found

    async def _append(self, stream_id: str, field: bytes, data: bytes, cost: int) -> str | None:
        owner = owner_of(stream_id)
        event_id = await self._connection.run(
            APPEND,
            [_key(stream_id), _logs_key(owner), _size_key(owner)],
            [stream_id, field, data, cost, MAX_OWNER_BYTES, MAX_EVENTS, self._ttl],
        )
        if event_id is None:
            return None
        await self._wakeups.publish([topic(stream_id)])
        return str(event_id.decode())


def _key(stream_id: str) -> str:
    return f"{PREFIX}stream:{stream_id}"


def _logs_key(owner: str) -> str:
    return f"{PREFIX}streams:{owner}"


def _size_key(owner: str) -> str:
    return f"{PREFIX}streams:{owner}:size"
