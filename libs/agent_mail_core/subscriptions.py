"""Resources that an MCP session subscribed to: any worker takes the subscription, one of them holds the stream."""

from __future__ import annotations

from typing import Protocol

MAX_SUBSCRIPTIONS = 1000


class Subscriptions(Protocol):
    """A set of URIs for each session, living as long as it. Methods raise `Unavailable` when the service is down.

    Each change wakes `subscriptions_topic(session_id)`, so that the holder of the session's stream reads the set again.
    """

    async def add(self, session_id: str, uri: str) -> None:
        """Subscribe; twice is fine. Raises `Limited` when the session has MAX_SUBSCRIPTIONS others."""
        ...

    async def remove(self, session_id: str, uri: str) -> None:
        """Unsubscribe; twice is fine."""
        ...

    async def uris(self, session_id: str) -> frozenset[str]:
        """What the session subscribed to; empty when it is not known."""
        ...

    async def drop(self, session_id: str) -> None:
        """Forget all of a session's. Twice is fine."""
        ...


def subscriptions_topic(session_id: str) -> str:
    """The wake-up topic of changes to a session's subscriptions."""
    return f"subscriptions:{session_id}"
