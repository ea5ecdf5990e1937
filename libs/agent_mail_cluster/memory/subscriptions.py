"""Subscriptions of MCP sessions within one server process."""

from __future__ import annotations

from collections import OrderedDict

from agent_mail_core.errors import Limited
from agent_mail_core.ports import Clock, Wakeups
from agent_mail_core.subscriptions import MAX_SUBSCRIPTIONS, Subscriptions, subscriptions_topic


class MemorySubscriptions(Subscriptions):
    """The sets in the order of their last use; one that was not used for a session's time to live is forgotten."""

    def __init__(self, clock: Clock, wakeups: Wakeups, ttl_seconds: float) -> None:
        self._clock = clock
        self._wakeups = wakeups
        self._ttl = int(ttl_seconds * 1_000_000)
        self._by_session: OrderedDict[str, tuple[int, set[str]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_session)

    async def add(self, session_id: str, uri: str) -> None:
        uris = self._used(session_id) or set()
        if uri not in uris and len(uris) >= MAX_SUBSCRIPTIONS:
            raise too_many()
        uris.add(uri)
        self._by_session[session_id] = (self._clock.microseconds() + self._ttl, uris)
        await self._wakeups.publish([subscriptions_topic(session_id)])

    async def remove(self, session_id: str, uri: str) -> None:
        uris = self._used(session_id)
        if uris is not None:
            uris.discard(uri)
            if not uris:
                del self._by_session[session_id]
        await self._wakeups.publish([subscriptions_topic(session_id)])

    async def uris(self, session_id: str) -> frozenset[str]:
        return frozenset(self._used(session_id) or ())

    async def drop(self, session_id: str) -> None:
        self._by_session.pop(session_id, None)
        await self._wakeups.publish([subscriptions_topic(session_id)])

    def _used(self, session_id: str) -> set[str] | None:
        """The session's set, its time begun anew; those whose time is over go."""
        now = self._clock.microseconds()
        while self._by_session and next(iter(self._by_session.values()))[0] <= now:
            self._by_session.popitem(last=False)
        kept = self._by_session.pop(session_id, None)
        if kept is None:
            return None
        self._by_session[session_id] = (now + self._ttl, kept[1])
        return kept[1]


def too_many() -> Limited:
    """The error of a session that wants more than it may have."""
    return Limited(f"A session may subscribe to {MAX_SUBSCRIPTIONS} resources.", limit=MAX_SUBSCRIPTIONS)
