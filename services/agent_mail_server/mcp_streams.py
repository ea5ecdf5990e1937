"""Event streams of the MCP endpoint: how one is written, and how its events are kept for a client that comes back.

A stream is written by one task at a time and stays alive by comments. With a record, each event gets an id and outlives
the connection: `mcp_session_streams` reads it out again, on whichever worker the client returns to.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass

from mcp_types import INTERNAL_ERROR, ErrorData, RequestId
from mcp_types.version import is_version_at_least
from starlette.types import Receive, Send

from agent_mail_core.errors import Unavailable
from agent_mail_core.sessions import Session
from agent_mail_core.stream_log import StreamLog
from agent_mail_server.mcp_wire import HeaderList, error_message

RECONNECT_MS = 1000
LARGEST_KEPT = 256 * 1024
"""Bytes of an event that is kept for a client that comes back."""

NOT_KEPT = ErrorData(
    code=INTERNAL_ERROR,
    message="The answer was too large to keep it for later: ask again, after a write with the same idempotency_key.",
)
STREAM_HEADERS: HeaderList = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class Pace:
    """When a stream begins and how often it says something, in seconds. Every tick is one look at all that is due."""

    stream_after: float = 0.25
    tick: float = 5.0
    progress_ticks: int = 2
    comment_ticks: int = 3

    @property
    def comment_every(self) -> float:
        """Seconds between the comments of a stream on which nothing happens."""
        return self.tick * self.comment_ticks


def primes_streams(session: Session) -> bool:
    """Whether the session's revision begins a stream with an event that has an id and no data."""
    return is_version_at_least(session.protocol_version, "2025-11-25")


def call_stream(session_id: str, token: str) -> str:
    """The id of the log of one POST's stream: nobody but the session's client can name it."""
    return f"{session_id}:{token}"


class StreamRecord:
    """One POST's stream in the log of streams, from its first event on.

    What is too large, or comes while the log is full or away, is not kept: such an event has no id, and whoever was not
    there to see it asks again.
    """

    def __init__(self, log: StreamLog, session: Session, message_id: RequestId | None) -> None:
        self._log = log
        self._session = session
        self._message_id = message_id
        self._token = ""
        self._has_begun = False
        self._has_last = False

    @property
    def is_primed(self) -> bool:
        """Whether the stream begins with an event that has an id and no data."""
        return primes_streams(self._session)

    async def add(self, data: bytes) -> bytes | None:
        """Keep an event; the id that its client names to go on after it, or None when it was not kept."""
        self._has_last = False
        if len(data) > LARGEST_KEPT:
            return None
        self._token = self._token or secrets.token_hex(8)
        try:
            event_id = await self._log.append(call_stream(self._session.id, self._token), data)
        except Unavailable:
            return None
        self._has_begun = self._has_last = True
        return f"{self._token}_{event_id}".encode()

    async def end(self) -> None:
        """Nothing follows: the last event was the answer. When it was not kept, an error stands in its place."""
        if self._has_begun:
            last = b"" if self._has_last else error_message(self._message_id, NOT_KEPT)
            with suppress(Unavailable):
                await self._log.end(call_stream(self._session.id, self._token), last)


class EventStream:
    """Server-sent events on one HTTP answer. What is written once the client is gone goes to the record alone."""

    def __init__(self, send: Send, headers: HeaderList, record: StreamRecord | None = None) -> None:
        self._send = send
        self._headers = headers
        self._record = record
        self.lock = asyncio.Lock()
        """Held while something is written: whoever holds it interrupts nobody."""
        self.has_begun = False
        self.is_gone = False

    async def begin(self) -> None:
        """Send the head of the answer, if it has not been sent, with something that makes servers send it on."""
        async with self.lock:
            if not self.has_begun:
                await self._write(await self._beginning() or b": alive\r\n\r\n")

    async def message(self, body: bytes, event_id: bytes | None = None) -> None:
        """Send a JSON-RPC message as an event; a record gives it its id."""
        async with self.lock:
            if not self._is_lost:
                beginning = await self._beginning()
                await self._write(beginning + await self._event(body, event_id))

    async def mark(self, event_id: bytes, reconnect: bool = False) -> None:
        """Tell the client an id to come back with, without a message."""
        async with self.lock:
            await self._write(b"id: %s\r\n%sdata: \r\n\r\n" % (event_id, _retry() if reconnect else b""))

    async def comment(self) -> None:
        """Send what clients ignore and proxies take for life."""
        async with self.lock:
            await self._write(b": alive\r\n\r\n")

    async def end(self, last_message: bytes | None = None, reconnect: bool = False) -> None:
        """Send a last message and close; or say when to come back."""
        async with self.lock:
            last = await self._event(last_message, None) if last_message is not None else b""
            if reconnect:
                last += _retry() + b"\r\n"
            await self._write(last, more=False)
        if self._record is not None and last_message is not None:
            await self._record.end()

    async def park(self) -> None:
        """Let the client go: the answer ends, what follows is kept for it (SEP-1699)."""
        async with self.lock:
            if not self.is_gone:
                await self._write(await self._beginning(), more=False)
                self.is_gone = True

    @property
    def _is_lost(self) -> bool:
        """Whether nobody can ever see what is written: the client left before it got an id to come back with."""
        return self.is_gone and (self._record is None or not self.has_begun)

    async def _beginning(self) -> bytes:
        """The first event of a stream that has one and has not begun."""
        if self.has_begun or self._record is None or not self._record.is_primed:
            return b""
        event_id = await self._record.add(b"")
        return b"id: %s\r\n%sdata: \r\n\r\n" % (event_id, _retry()) if event_id is not None else b""

    async def _event(self, body: bytes, event_id: bytes | None) -> bytes:
        if self._record is not None:
            event_id = await self._record.add(body)
        head = b"id: %s\r\n" % event_id if event_id is not None else b""
        return b"%sevent: message\r\ndata: %s\r\n\r\n" % (head, body)

    async def _write(self, data: bytes, more: bool = True) -> None:
        if self.is_gone:
            return
        try:
            if not self.has_begun:
                self.has_begun = True
                headers = [*STREAM_HEADERS, *self._headers]
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except (OSError, RuntimeError):  # how servers say that the connection is closed
            self.is_gone = True


def _retry() -> bytes:
    return b"retry: %d\r\n" % RECONNECT_MS


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
