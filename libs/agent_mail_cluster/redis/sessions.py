"""MCP sessions in Redis, kept for a few seconds in each worker that uses them.

Layout: `am:session:{id}` holds the key of the owner's list, a line end and the session as JSON. `am:sessions:{owner}`
is that list, ordered by creation. Both and the session's subscriptions slide with use. The worker's copy counts only
while everything published until a second ago has been heard, the ends of sessions with it; else each use asks Redis.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from agent_mail_cluster.redis.connection import PREFIX, RedisConnection, lua
from agent_mail_cluster.redis.subscriber import Subscriber
from agent_mail_cluster.redis.subscriptions import subscriptions_key
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.sessions import MAX_SESSIONS_A_PRINCIPAL, Session, Sessions

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{32}")
SESSION = f"{PREFIX}session:"
OWNER = f"{PREFIX}sessions:"
ENDED = f"{PREFIX}session-ended"
"""The channel on which the ends of sessions are told."""

CACHED_SECONDS = 4.5
"""A flushed session is unknown everywhere after this."""
HEARD_WITHIN = 1.0
MOST_CACHED = 10_000
MOST_CACHED_BYTES = 8 * 1024 * 1024
SWEPT = 100
"""Expired entries that a full list sheds before a live session is ended for a new one."""

CREATE = lua("""
local session, owner = KEYS[1], KEYS[2]
local record, ttl, id, most, swept, prefix, channel = unpack(ARGV)
local time = redis.call('TIME')
redis.call('SET', session, record, 'EX', ttl)
redis.call('ZADD', owner, time[1] * 1000000 + time[2], id)
redis.call('EXPIRE', owner, ttl)
local excess = redis.call('ZCARD', owner) - tonumber(most)
if excess > 0 then
  for _, old in ipairs(redis.call('ZRANGE', owner, 0, tonumber(swept) - 1)) do
    if redis.call('EXISTS', prefix .. old) == 0 then
      redis.call('ZREM', owner, old)
      excess = excess - 1
    end
  end
end
while excess > 0 do
  local old = redis.call('ZPOPMIN', owner)[1]
  redis.call('DEL', prefix .. old)
  redis.call('PUBLISH', channel, old)
  excess = excess - 1
end
""")

GET = lua("""
local record = redis.call('GETEX', KEYS[1], 'EX', ARGV[1])
if record then
  redis.call('EXPIRE', string.match(record, '^[^\\n]*'), ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return record
""")

DELETE = lua("""
local record = redis.call('GETDEL', KEYS[1])
if record then
  redis.call('ZREM', string.match(record, '^[^\\n]*'), ARGV[1])
end
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[2], ARGV[1])
""")


@dataclass(frozen=True, slots=True)
class _Copy:
    """A session as it was read."""

    session: Session
    size: int
    read_at: float


class RedisSessions(Sessions):
    """Sessions that every worker sees."""

    def __init__(
        self,
        connection: RedisConnection,
        subscriber: Subscriber,
        ttl_seconds: int,
        most_a_principal: int = MAX_SESSIONS_A_PRINCIPAL,
    ) -> None:
        self._connection = connection
        self._subscriber = subscriber
        self._ttl = ttl_seconds
        self._most = most_a_principal
        self._loop = asyncio.get_running_loop()
        self._copies: OrderedDict[str, _Copy] = OrderedDict()
        self._size = 0
        self._lately_ended: OrderedDict[str, float] = OrderedDict()
        subscriber.hold(ENDED, lambda session_id: self._ended(session_id.decode()))
        subscriber.on_lost(self._forget_all)

    async def create(
        self, team_id: TeamId, principal: Principal, protocol_version: str, client_params: dict[str, Any]
    ) -> Session:
        session = Session(secrets.token_urlsafe(24), team_id, principal, protocol_version, client_params)
        owner = _owner_key(session)
        await self._connection.run(
            CREATE,
            [SESSION + session.id, owner],
            [_record(session, owner), self._ttl, session.id, self._most, SWEPT, SESSION, ENDED],
        )
        return session

    async def get(self, session_id: str) -> Session | None:
        now = self._loop.time()
        copy = self._copies.get(session_id)
        if copy is not None and now - copy.read_at < CACHED_SECONDS and self._subscriber.is_fresh(HEARD_WITHIN):
            return copy.session
        if SESSION_ID.fullmatch(session_id) is None:
            return None
        generation = self._subscriber.generation if self._subscriber.is_fresh(HEARD_WITHIN) else None
        keys = [SESSION + session_id, subscriptions_key(session_id)]
        record = await self._connection.run(GET, keys, [self._ttl])
        # Its end may have been heard before an answer that is older.
        if record is None or session_id in self._lately_ended:
            self._forget(session_id)
            return None
        session = copy.session if copy is not None else _session(session_id, record)
        if generation == self._subscriber.generation:
            self._keep(session_id, _Copy(session, len(record), now))
        return session

    async def delete(self, session_id: str) -> None:
        if SESSION_ID.fullmatch(session_id) is None:
            return
        self._forget(session_id)
        await self._connection.run(DELETE, [SESSION + session_id, subscriptions_key(session_id)], [session_id, ENDED])
        self._ended(session_id)

    def _ended(self, session_id: str) -> None:
        now = self._loop.time()
        self._forget(session_id)
        self._lately_ended[session_id] = now
        while next(iter(self._lately_ended.values())) < now - 2 * self._connection.timeout:
            self._lately_ended.popitem(last=False)

    def _keep(self, session_id: str, copy: _Copy) -> None:
        self._forget(session_id)
        self._copies[session_id] = copy
        self._size += copy.size
        while len(self._copies) > MOST_CACHED or self._size > MOST_CACHED_BYTES:
            self._forget(next(iter(self._copies)))

    def _forget(self, session_id: str) -> None:
        copy = self._copies.pop(session_id, None)
        if copy is not None:
            self._size -= copy.size

    def _forget_all(self) -> None:
        self._copies.clear()
        self._size = 0


def _owner_key(session: Session) -> str:
    """Principals are long and hold what an issuer put there: their hash names the list."""
    digest = hashlib.sha256(f"{session.team_id}\n{session.principal}".encode()).hexdigest()
    return f"{OWNER}{digest[:32]}"


def _record(session: Session, owner: str) -> bytes:
    fields = [session.team_id, session.principal, session.protocol_version, session.client_params]
    return owner.encode() + b"\n" + orjson.dumps(fields)


def _session(session_id: str, record: bytes) -> Session:
    team_id, principal, protocol_version, client_params = orjson.loads(record.partition(b"\n")[2])
    return Session(session_id, TeamId(team_id), Principal(principal), protocol_version, client_params)
