"""A receiver of webhooks on a real socket, which checks signatures with another's library and answers as it is told."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook as Verifier

from tests.contract.model_server import CLOSED, http

TAKEN = http(b"", "204 No Content")


@dataclass
class Received:
    """One call."""

    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> Any:
        """Its payload; the library raises when the signature, or its age, is not right."""
        return Verifier(secret).verify(self.body, self.headers)

    @property
    def id(self) -> str:
        """What stays the same when it is sent again."""
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Says the next of `says`, the last one again and again; an empty one hangs, `CLOSED` closes the connection."""

    says: list[bytes] = field(default_factory=lambda: [TAKEN])
    received: list[Received] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens, without TLS."""
        return f"http://127.0.0.1:{self.port}/hook"

    def answers(self, *answers: bytes) -> None:
        """What to say from now on."""
        self.says = list(answers)

    def kinds(self) -> list[str]:
        """What it was told of, in order, by calls that may be repeats."""
        return [json.loads(call.body)["type"] for call in self.received]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for one request."""
        self.writers.add(writer)
        self.connections += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.received.append(Received(line.split()[1], headers, body))
            says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
            if not says:
                await reader.read()
            elif says != CLOSED:
                writer.write(says)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.at_once -= 1
            writer.close()


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """One on a port of its own."""
    stand_in = Receiver()
    server = await asyncio.start_server(stand_in.handle, "127.0.0.1", 0, ssl=tls)
    stand_in.port = server.sockets[0].getsockname()[1]
    try:
        yield stand_in
    finally:
        server.close()
        for writer in stand_in.writers:
            writer.close()
        await server.wait_closed()
