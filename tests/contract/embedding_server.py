"""A stand-in for an endpoint of embeddings, on a real socket: it answers as it should until it is told otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.contract.concepts import Concepts
from tests.contract.model_server import CLOSED, HANG, http

DIMENSIONS = 256


def embeddings(vectors: list[list[Any]], *indexes: int) -> bytes:
    """The body of an endpoint's answer."""
    numbers = indexes or range(len(vectors))
    items = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in zip(numbers, vectors, strict=True)
    ]
    return json.dumps({"object": "list", "data": items, "model": "tiny"}).encode()


ONE = [1.0] + [0.0] * (DIMENSIONS - 1)
FAULTS: dict[str, bytes] = {
    "hangs": HANG,
    "closes": CLOSED,
    "half a head": b"HTTP/1.1 200",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
    "no HTTP": b"220 mail ready\r\n\r\n",
    "500": http(b"{}", "500 Oops"),
    "429": http(b"{}", "429 Later"),
    "401": http(b"{}", "401 Who"),
    "404": http(b"{}", "404 Where"),
    "redirect": http(b"", "307 Elsewhere", "Location: http://127.0.0.1:1/"),
    "garbage": http(b"\xff\xfe<html>"),
    "nested garbage": http(b"[" * 100_000),
    "no data": http(b"{}"),
    "none": http(embeddings([])),
    "too many": http(embeddings([ONE, ONE])),
    "another index": http(embeddings([ONE], 1)),
    "too short": http(embeddings([ONE[1:]])),
    "too long": http(embeddings([[*ONE, 0.0]])),
    "zero": http(embeddings([[0.0] * DIMENSIONS])),
    "not finite": http(embeddings([[1e308] * DIMENSIONS])),
    "overflowing together": http(embeddings([[1e154] * DIMENSIONS])),
    "NaN": http(embeddings([[float("nan"), *ONE[1:]]])),
    "not numbers": http(embeddings([["x"] * DIMENSIONS])),
    "base64": http(b'{"data": [{"index": 0, "embedding": "AACAPw=="}]}'),
    "too large": http(b" " * 200_000 + embeddings([ONE])),
    "endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b" " * 0xFFFF + b"\r\n" + HANG,
    "compressed": http(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"),
}


@dataclass
class EmbeddingServer:
    """Says `says` while it is set, else the vectors of Concepts; keeps what it was asked."""

    says: bytes | None = None
    """A whole HTTP answer; an empty one hangs, `CLOSED` closes the connection."""
    heads: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    refuses: str | None = None
    """Texts with this in them are answered with 400."""
    url: str = ""
    model: Concepts = field(default_factory=lambda: Concepts("tiny", DIMENSIONS))
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for one request."""
        self.writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            self.heads.append(head)
            asked = json.loads(await reader.readexactly(length))
            self.asked.append(asked)
            says = await self._answer(asked["input"]) if self.says is None else self.says
            if not says:
                await reader.read()  # until the client gives up
            elif says != CLOSED:
                writer.write(says)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, texts: list[str]) -> bytes:
        if self.refuses is not None and any(self.refuses in text for text in texts):
            return http(b"{}", "400 No")
        vectors = [[number * 3 for number in vector] for vector in await self.model.embed(texts)]
        return http(embeddings(vectors[::-1], *reversed(range(len(vectors)))))


@asynccontextmanager
async def embedding_server() -> AsyncIterator[EmbeddingServer]:
    """A stand-in on a port of its own."""
    stand_in = EmbeddingServer()
    server = await asyncio.start_server(stand_in.handle, "127.0.0.1", 0)
    stand_in.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield stand_in
    finally:
        server.close()
        for writer in stand_in.writers:
            writer.close()
        await server.wait_closed()
