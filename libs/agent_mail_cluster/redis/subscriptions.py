"""Subscriptions of MCP sessions in Redis: `am:subscriptions:{session}` is a set that lives as long as the session."""

from __future__ import annotations

from agent_mail_cluster.memory.subscriptions import too_many
from agent_mail_cluster.redis.connection import PREFIX, RedisConnection, lua
from agent_mail_core.ports import Wakeups
from agent_mail_core.subscriptions import MAX_SUBSCRIPTIONS, Subscriptions, subscriptions_topic

ADD = lua("""
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 and redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")


class RedisSubscriptions(Subscriptions):
    """Sets that every worker sees."""

    def __init__(self, connection: RedisConnection, wakeups: Wakeups, ttl_seconds: int) -> None:
        self._connection = connection
        self._wakeups = wakeups
        self._ttl = ttl_seconds

    async def add(self, session_id: str, uri: str) -> None:
        if not await self._connection.run(ADD, [subscriptions_key(session_id)], [uri, self._ttl, MAX_SUBSCRIPTIONS]):
            raise too_many()
        await self._wakeups.publish([subscriptions_topic(session_id)])

    async def remove(self, session_id: str, uri: str) -> None:
        await self._connection.call("SREM", subscriptions_key(session_id), uri)
        await self._wakeups.publish([subscriptions_topic(session_id)])

    async def uris(self, session_id: str) -> frozenset[str]:
        key = subscriptions_key(session_id)
        members, _ = await self._connection.call_all([("SMEMBERS", key), ("EXPIRE", key, self._ttl)])
        return frozenset(member.decode() for member in members)

    async def drop(self, session_id: str) -> None:
        await self._connection.call("DEL", subscriptions_key(session_id))
        await self._wakeups.publish([subscriptions_topic(session_id)])


def subscriptions_key(session_id: str) -> str:
    """Where a session's subscriptions are."""
    return f"{PREFIX}subscriptions:{session_id}"
