"""A receiver of webhooks, which checks signatures with another's library and takes them until it is told otherwise."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from standardwebhooks import Webhook as Verifier

from tests.contract.stand_in import Received, StandIn, http, listening

TAKEN = http(b"", "204 No Content")


def verified(call: Received, secret: str) -> Any:
    """Its payload; the library raises when the signature, or its age, is not right."""
    return Verifier(secret).verify(call.body, call.headers)


def call_id(call: Received) -> str:
    """What stays the same when it is sent again."""
    return call.headers["webhook-id"]


class Receiver(StandIn):
    """Where webhooks are called."""

    path = "/hook"

    def kinds(self) -> list[str]:
        """What it was told of, in order, by calls that may be repeats."""
        return [asked["type"] for asked in self.asked]


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """One on a port of its own."""
    async with listening(Receiver([TAKEN]), tls) as there:
        yield there
