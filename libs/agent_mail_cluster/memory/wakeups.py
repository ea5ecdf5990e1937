"""Wake-ups within one server process: who publishes and who waits share an event loop.

A topic takes memory only while somebody listens to it, and nothing published is lost while this process lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from agent_mail_core.ports import Wakeup, Wakeups


class MemoryWakeup(Wakeup):
    """A flag that publishing sets and a wait clears; any number of publications between two waits are one."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def wake(self) -> None:
        """The topic was published."""
        self._news.set()

    async def wait(self, timeout: float) -> bool:
        if not self._news.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._news.wait()
            except TimeoutError:
                return False
        self._news.clear()
        return True


class MemoryWakeups(Wakeups):
    """The listeners of each topic."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[MemoryWakeup]] = {}

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[MemoryWakeup]:
        listener = MemoryWakeup()
        self._listeners.setdefault(topic, set()).add(listener)
        try:
            yield listener
        finally:
            others = self._listeners[topic]
            others.discard(listener)
            if not others:
                del self._listeners[topic]

    async def publish(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for listener in self._listeners.get(topic, ()):
                listener.wake()

    @property
    def topics(self) -> frozenset[str]:
        """The topics that somebody listens to now."""
        return frozenset(self._listeners)
