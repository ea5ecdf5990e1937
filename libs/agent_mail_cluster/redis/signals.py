"""Signals about sessions, on one channel that all workers hear."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from agent_mail_cluster.memory.signals import MemorySignals
from agent_mail_cluster.redis.connection import PREFIX, RedisConnection
from agent_mail_cluster.redis.subscriber import Subscriber
from agent_mail_core.signals import Signal, Signals

CHANNEL = f"{PREFIX}signals"


class RedisSignals(Signals):
    """The worker's handlers, and the channel; a worker does not hear its own signals twice."""

    def __init__(self, connection: RedisConnection, subscriber: Subscriber) -> None:
        self._connection = connection
        self._here = MemorySignals()
        subscriber.hold(CHANNEL, self._heard)

    def listen(self, handler: Callable[[Signal], None]) -> None:
        self._here.listen(handler)

    async def send(self, signal: Signal) -> None:
        self._here.heard(signal)
        message = orjson.dumps([self._connection.worker, signal.kind, signal.session_id, signal.subject])
        self._connection.post([("PUBLISH", CHANNEL, message)])

    def _heard(self, message: bytes) -> None:
        sender, kind, session_id, subject = orjson.loads(message)
        if sender != self._connection.worker:
            self._here.heard(Signal(kind, session_id, subject))
