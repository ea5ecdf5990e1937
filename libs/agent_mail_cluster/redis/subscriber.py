"""A worker's ear: one connection on which all channels that anything here listens to arrive.

How far it has heard is known: the server answers a PING after all that it published before, on the same connection. An
answer proves that nothing sent until then is missing, and `has_heard_until` is the moment when the answered PING left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from agent_mail_cluster.redis.connection import RedisConnection
from agent_mail_cluster.redis.link import Link, LinkUser

SILENCE = 2.5
"""Seconds without an answer after which the connection is given up."""

LINGER = 5.0
"""Seconds that a channel stays subscribed when nobody listens: who waits again soon finds it so."""

Handler = Callable[[bytes], None]


class _Channel:
    """One channel: who hears it, and whether the server has confirmed it."""

    __slots__ = ("confirmed", "handler", "holders", "released_at", "unanswered")

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.holders = 0
        self.unanswered = 0
        self.released_at = 0.0
        self.confirmed = asyncio.Event()


class Subscriber(LinkUser):
    """Channels and their handlers; a connection that was lost takes them all up again by itself."""

    def __init__(self, connection: RedisConnection) -> None:
        self.has_heard_until = float("-inf")
        """In the event loop's time; minus infinity while there is no connection."""
        self.generation = 0
        """Grows with every connection that was lost."""
        self._loop = asyncio.get_running_loop()
        self._link = Link("subscriptions", connection.server.make_connection, self, connection.timeout)
        self._channels: dict[str, _Channel] = {}
        self._unconfirmed = 0
        self._opened_at = 0.0
        self._is_whole = False
        self._on_lost: list[Callable[[], None]] = []
        self._on_whole: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Try to connect; return when that is done or has failed."""
        await self._link.open()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._link.close()

    def on_lost(self, handler: Callable[[], None]) -> None:
        """Call the handler when the connection is lost: from now on messages are missed."""
        self._on_lost.append(handler)

    def on_whole(self, handler: Callable[[], None]) -> None:
        """Call the handler when all channels are confirmed on a new connection: from now on nothing is missed."""
        self._on_whole.append(handler)

    def is_fresh(self, age: float) -> bool:
        """Whether everything published until `age` seconds ago has been heard."""
        return self._loop.time() - self.has_heard_until <= age

    def hold(self, channel: str, handler: Handler) -> None:
        """Listen to a channel. It has one handler; who holds it again gives the same."""
        state = self._channels.get(channel)
        if state is None:
            state = self._channels[channel] = _Channel(handler)
            self._subscribe([channel])
        state.holders += 1

    def release(self, channel: str) -> None:
        """Listen no longer, once all who hold it have said so."""
        state = self._channels[channel]
        state.holders -= 1
        state.released_at = self._loop.time()

    async def confirmed(self, channel: str, patience: float) -> bool:
        """True when the server has confirmed a channel that is held; False if not so within `patience` seconds."""
        confirmed = self._channels[channel].confirmed
        if confirmed.is_set():
            return True
        if not self._link.is_up:
            return False
        try:
            async with asyncio.timeout(patience):
                return await confirmed.wait()
        except TimeoutError:
            return False

    def _subscribe(self, channels: list[str]) -> None:
        if channels and self._link.send([("SUBSCRIBE", *channels)]):
            for channel in channels:
                self._channels[channel].unanswered += 1
            self._unconfirmed += len(channels)

    # --- what the link tells ------------------------------------------------------------------------------------------

    def linked(self) -> None:
        self._opened_at = self._loop.time()
        self._subscribe(list(self._channels))
        self._ping()

    def replied(self, reply: Any) -> None:
        if isinstance(reply, ResponseError):  # the ACL forbids the channel, or the like: nothing will be heard
            self._link.drop()
        elif not isinstance(reply, list):
            self._answered(self._opened_at)  # to a PING before the first SUBSCRIBE
        elif reply[0] == b"message":
            state = self._channels.get(reply[1].decode())
            if state is not None:
                state.handler(reply[2])
        elif reply[0] == b"pong":
            self._answered(float(reply[1] or 0))
        elif reply[0] == b"subscribe":
            self._confirm(reply[1].decode())

    def _confirm(self, channel: str) -> None:
        self._unconfirmed -= 1
        state = self._channels.get(channel)
        if state is not None:
            state.unanswered -= 1
            if state.unanswered == 0:
                state.confirmed.set()

    def _answered(self, sent_at: float) -> None:
        self.has_heard_until = max(self.has_heard_until, sent_at)
        if not self._is_whole and self._unconfirmed == 0:
            self._is_whole = True
            for handler in self._on_whole:
                handler()

    def beat(self, is_late: bool) -> None:
        now = self._loop.time()
        if not is_late and now - max(self.has_heard_until, self._opened_at) > SILENCE:
            self._link.drop()
            return
        idle = [
            channel
            for channel, state in self._channels.items()
            if state.holders == 0 and state.unanswered == 0 and now - state.released_at > LINGER
        ]
        for channel in idle:
            del self._channels[channel]
        if idle:
            self._link.send([("UNSUBSCRIBE", *idle)])
        self._ping()

    def _ping(self) -> None:
        self._link.send([("PING", repr(self._loop.time()))])

    def unlinked(self) -> None:
        self.generation += 1
        self.has_heard_until = float("-inf")
        self._is_whole = False
        self._unconfirmed = 0
        for channel, state in list(self._channels.items()):
            state.confirmed.clear()
            state.unanswered = 0
            if state.holders == 0:
                del self._channels[channel]
        for handler in self._on_lost:
            handler()
