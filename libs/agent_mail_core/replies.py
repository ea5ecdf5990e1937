"""Requests from the server to a client: asked on one worker, answered on whichever one the client's POST reaches."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol


class Expected(Protocol):
    """One request that waits for its reply."""

    @property
    def request_id(self) -> str:
        """The JSON-RPC id to send the request with: it says which worker waits."""
        ...

    async def wait(self, timeout: float) -> dict[str, Any] | None:
        """The client's JSON-RPC response as it came, or None when none came within `timeout` seconds."""
        ...


class Replies(Protocol):
    """Brings replies to those who wait for them."""

    def expect(self, session_id: str) -> AbstractContextManager[Expected]:
        """Make a request id for this session's client; its reply is awaited until the block ends."""
        ...

    async def deliver(self, session_id: str, request_id: object, reply: dict[str, Any]) -> bool:
        """Hand over a reply that a session's client sent. False when surely nobody waits for it: dropped.

        Another session's client cannot answer. Raises `Unavailable` when the worker that waits cannot be reached.
        """
        ...
