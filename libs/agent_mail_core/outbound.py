"""Outbound: the port through which the service calls HTTP addresses that its users name.

The address is hostile until it has been looked at: an adapter connects only where `webhook_addresses` lets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


class NotAnswered(Exception):
    """There was no answer; the message says why in a few words, and names no address."""


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """What counts of an answer."""

    status_code: int
    retry_after: timedelta | None = None
    """How long the other side asks to be left alone."""


class Outbound(Protocol):
    """Calls addresses outside."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> OutboundAnswer:
        """Post once, within a deadline of its own. Raises NotAnswered, also for addresses that may not be called.

        The name is resolved once, and every address that it has must be allowed. No redirect is followed; of the
        answer's body at most some KiB are read, and none is kept.
        """
        ...
