"""Answers as they are written, piece by piece: a client that reads a stream, and can leave in the middle of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.types import Message, Scope

from tests.wire.server import Served


@dataclass
class Event:
    """One server-sent event, or a block that only has an id or a comment."""

    id: str | None = None
    kind: str | None = None
    data: Any = None
    retry: int | None = None
    comments: list[str] = field(default_factory=list)


def parsed(block: str) -> Event:
    event = Event()
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "":
            event.comments.append(value)
        elif name == "data":
            event.data = json.loads(value)
        elif name == "retry":
            event.retry = int(value)
        else:
            assert name in ("id", "event"), line
            setattr(event, {"event": "kind"}.get(name, name), value)
    return event


class OpenStream:
    """An answer that is being written."""

    def __init__(self, pieces: asyncio.Queue[Message], start: Message) -> None:
        self._pieces = pieces
        self._text = ""
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.has_ended = False

    async def next(self) -> Event:
        """The next block of lines."""
        while "\n\n" not in self._text:
            async with asyncio.timeout(10):
                message = await self._pieces.get()
            self._text += message.get("body", b"").decode()
            if not message.get("more_body"):
                self.has_ended = True
                break
        block, _, self._text = self._text.partition("\n\n")
        return parsed(block)

    async def event(self) -> Event:
        """The next block with data."""
        while (event := await self.next()).data is None:
            assert not self.has_ended
        return event

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it is written, in place of `next`. The writer does not go on before a piece is taken."""
        while not self.has_ended:
            async with asyncio.timeout(2):
                message = await self._pieces.get()
            self.has_ended = not message.get("more_body")
            if message.get("body"):
                yield message["body"]

    async def rest(self) -> list[Event]:
        """All that comes until the stream ends."""
        events = []
        while not self.has_ended or self._text:
            events.append(await self.next())
        return events


@asynccontextmanager
async def streamed(
    server: Served, path: str, headers: dict[str, str] | None = None, **query: str
) -> AsyncIterator[OpenStream]:
    """GET a path; leaving the block closes the connection."""
    given = {"host": "127.0.0.1:8765", **(headers or {})}
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": urlencode(query).encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8765),
        "state": {},
    }
    pieces: asyncio.Queue[Message] = asyncio.Queue(1)
    is_gone = asyncio.Event()
    has_asked = False

    async def receive() -> Message:
        nonlocal has_asked
        if not has_asked:
            has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await is_gone.wait()
        return {"type": "http.disconnect"}

    answering = asyncio.create_task(_answer(server, scope, receive, pieces))
    try:
        async with asyncio.timeout(10):
            start = await pieces.get()
        yield OpenStream(pieces, start)
    finally:
        is_gone.set()
        async with asyncio.timeout(10):
            await answering


async def _answer(server: Served, scope: Scope, receive: Any, pieces: asyncio.Queue[Message]) -> None:
    await server.asgi(scope, receive, pieces.put)
