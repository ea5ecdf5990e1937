"""Wake-ups between workers by publish and subscribe: one channel a topic, one connection a worker.

Whoever listens on the publishing worker is woken there at once, with or without Redis; a worker does not hear its own
publications again. When the connection comes back everyone is woken once, in small groups, for what was missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_cluster.redis.connection import PREFIX, RedisConnection
from agent_mail_cluster.redis.subscriber import Subscriber
from agent_mail_core.ports import Wakeup, Wakeups

CHANNEL = f"{PREFIX}wake:"

CONFIRM_PATIENCE = 0.25
"""Seconds to wait for a subscription; a listener enters without it when it takes longer, and looks by itself."""

FRESH = 1.0
"""Seconds; a worker that cannot prove to have heard everything until then may be missing wake-ups."""

MOST_MISSED = 10_000
WOKEN_TOGETHER, WOKEN_EVERY = 50, 0.02


class _Here(MemoryWakeups):
    """This worker's listeners."""

    def wake(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for listener in self._listeners.get(topic, ()):
                listener.wake()


class RedisWakeups(Wakeups):
    """Topics of this worker's listeners, and publications to all workers."""

    def __init__(self, connection: RedisConnection, subscriber: Subscriber) -> None:
        self._connection = connection
        self._subscriber = subscriber
        self._own = connection.worker.encode()
        self._here = _Here()
        self._missed: dict[str, None] = {}
        subscriber.on_whole(self._wake_all)
        connection.on_up(self._publish_missed)

    @property
    def is_lossy(self) -> bool:
        """Whether wake-ups may be missing now: let `look_while_lossy` run, it looks for all listeners at once."""
        return not self._connection.is_up or not self._subscriber.is_fresh(FRESH)

    @property
    def topics(self) -> frozenset[str]:
        """The topics that somebody on this worker listens to."""
        return self._here.topics

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Wakeup]:
        channel = CHANNEL + topic
        self._subscriber.hold(channel, lambda sender: self._heard(topic, sender))
        try:
            async with self._here.subscribe(topic) as listener:
                await self._subscriber.confirmed(channel, CONFIRM_PATIENCE)
                yield listener
        finally:
            self._subscriber.release(channel)

    async def publish(self, topics: Iterable[str]) -> None:
        named = dict.fromkeys(topics)
        self.wake(named)
        if not self._connection.post([("PUBLISH", CHANNEL + topic, self._own) for topic in named]):
            self._missed |= named
            while len(self._missed) > MOST_MISSED:
                del self._missed[next(iter(self._missed))]

    def wake(self, topics: Iterable[str]) -> None:
        """Wake this worker's listeners only."""
        self._here.wake(topics)

    def _heard(self, topic: str, sender: bytes) -> None:
        if sender != self._own:
            self.wake([topic])

    def _wake_all(self) -> None:
        loop = asyncio.get_running_loop()
        topics = sorted(self.topics)
        for turn, start in enumerate(range(0, len(topics), WOKEN_TOGETHER)):
            loop.call_later(turn * WOKEN_EVERY, self.wake, topics[start : start + WOKEN_TOGETHER])

    def _publish_missed(self) -> None:
        missed, self._missed = self._missed, {}
        self._connection.post([("PUBLISH", CHANNEL + topic, self._own) for topic in missed])


async def look_while_lossy(
    wakeups: RedisWakeups, look: Callable[[frozenset[str]], Awaitable[Iterable[str]]], every: float = 1.0
) -> None:
    """Until cancelled: while wake-ups may be missing, ask every so many seconds which topics have news, and wake those.

    `look` answers for all topics in one query (which inboxes have grown since it was last asked), and raises nothing.
    """
    while True:
        await asyncio.sleep(every)
        topics = wakeups.topics
        if topics and wakeups.is_lossy:
            wakeups.wake(await look(topics))
