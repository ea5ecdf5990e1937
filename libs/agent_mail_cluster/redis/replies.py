"""Replies of clients to requests of the server, brought to the worker that waits: each has its channel."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import orjson

from agent_mail_cluster.memory.replies import MemoryExpected, MemoryReplies, asking_worker
from agent_mail_cluster.redis.connection import PREFIX, RedisConnection
from agent_mail_cluster.redis.subscriber import Subscriber
from agent_mail_core.replies import Replies

CHANNEL = f"{PREFIX}worker:"


class RedisReplies(Replies):
    """Those who wait here, and the way to all other workers."""

    def __init__(self, connection: RedisConnection, subscriber: Subscriber) -> None:
        self._connection = connection
        self._here = MemoryReplies(connection.worker)
        subscriber.hold(CHANNEL + connection.worker, self._heard)

    def expect(self, session_id: str) -> AbstractContextManager[MemoryExpected]:
        return self._here.expect(session_id)

    async def deliver(self, session_id: str, request_id: object, reply: dict[str, Any]) -> bool:
        worker = asking_worker(request_id)
        if worker is None or worker == self._here.worker:
            return self._here.deliver_here(session_id, request_id, reply)
        message = orjson.dumps([session_id, request_id, reply])
        return bool(await self._connection.call("PUBLISH", CHANNEL + worker, message))

    def _heard(self, message: bytes) -> None:
        session_id, request_id, reply = orjson.loads(message)
        self._here.deliver_here(session_id, request_id, reply)
