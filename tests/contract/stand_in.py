"""A stand-in for somebody else's HTTP server, on a real socket: it answers as it is told, and misbehaves as it is told.

What it stands in for is a subclass's: model_server.py, embedding_server.py, webhook_receiver.py.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

CLOSED = b"closed"
"""Instead of an answer: the connection is closed."""
HANG = b""
"""Instead of an answer: nothing, until the client gives up. At the end of one: no more of it comes."""


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


FAULTS: dict[str, bytes] = {
    "hangs": HANG,
    "closes": CLOSED,
    "half a head": b"HTTP/1.1 200",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
    "no HTTP": b"220 mail ready\r\n\r\n",
    "500": http(b"{}", "500 Oops"),
    "429": http(b"{}", "429 Later"),
    "401": http(b"{}", "401 Who"),
    "redirect": http(b"", "307 Elsewhere", "Location: http://127.0.0.1:1/"),
    "garbage": http(b"\xff\xfe<html>"),
    "nested garbage": http(b"[" * 100_000),
    "endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b" " * 0xFFFF + b"\r\n" + HANG,
    "compressed": http(gzip.compress(b" " * 10_000_000), "200 OK", "Content-Encoding: gzip"),
}
"""Answers that are none, whatever was asked for."""


@dataclass(frozen=True)
class Received:
    """One request. Names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class StandIn:
    """Says the next of `says`, the last one again and again; keeps what it was asked."""

    path: ClassVar[str] = "/"
    """Of its address."""
    says: list[bytes] = field(default_factory=list)
    """Whole HTTP answers, or HANG, or CLOSED."""
    received: list[Received] = field(default_factory=list)
    has_answered: asyncio.Event = field(default_factory=asyncio.Event)
    """For whoever waits for the first request."""
    port: int = 0
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it is, without TLS."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def asked(self) -> list[Any]:
        """The bodies of what it was asked, in order."""
        return [received.json() for received in self.received]

    def answers(self, *answers: bytes) -> None:
        """What to say from now on."""
        self.says = list(answers)

    async def answer(self, received: Received) -> bytes:
        """What to say to one request."""
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for one request."""
        self.writers.add(writer)
        self.connections += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            received = await _request(reader)
            self.received.append(received)
            says = await self.answer(received)
            if says == HANG:
                await reader.read()
            elif says != CLOSED:
                writer.write(says)
                await writer.drain()
                self.has_answered.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.at_once -= 1
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Received:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
    return Received(line.split()[1], headers, await reader.readexactly(int(headers["content-length"])))


AnyStandIn = TypeVar("AnyStandIn", bound=StandIn)


@asynccontextmanager
async def listening(stand_in: AnyStandIn, tls: ssl.SSLContext | None = None) -> AsyncIterator[AnyStandIn]:
    """On a port of its own; whoever hangs is let go at the end."""
    server = await asyncio.start_server(stand_in.handle, "127.0.0.1", 0, ssl=tls)
    stand_in.port = server.sockets[0].getsockname()[1]
    try:
        yield stand_in
    finally:
        server.close()
        for writer in stand_in.writers:
            writer.close()
        await server.wait_closed()
