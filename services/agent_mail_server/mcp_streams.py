"""Event streams of the MCP endpoint: how they are written, and those that clients hold open by GET.

A stream is written by one task at a time and stays alive by comments. What is carried comes from elsewhere: nothing yet
on a stream opened by GET, which is there because clients of the handshake revisions open one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.types import Receive, Send

from agent_mail_core.ids import Principal, TeamId
from agent_mail_server.mcp_wire import HeaderList, Refused

Owner = tuple[TeamId, Principal]

MAX_STREAMS_A_PRINCIPAL = 10
RECONNECT_MS = 1000
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


class EventStream:
    """Server-sent events on one HTTP answer. Once the client is gone, what is written is dropped."""

    def __init__(self, send: Send, headers: HeaderList) -> None:
        self._send = send
        self._headers = headers
        self.lock = asyncio.Lock()
        """Held while something is written: whoever holds it interrupts nobody."""
        self.has_begun = False
        self.is_gone = False

    async def begin(self) -> None:
        """Send the head of the answer, if it has not been sent, and a comment, which makes servers send the head on."""
        if not self.has_begun:
            await self.comment()

    async def message(self, body: bytes) -> None:
        """Send a JSON-RPC message as an event."""
        await self._write(b"event: message\r\ndata: %s\r\n\r\n" % body)

    async def comment(self) -> None:
        """Send what clients ignore and proxies take for life."""
        await self._write(b": alive\r\n\r\n")

    async def end(self, last_message: bytes | None = None, reconnect: bool = False) -> None:
        """Send a last message and close; or say when to come back."""
        last = b"event: message\r\ndata: %s\r\n\r\n" % last_message if last_message is not None else b""
        if reconnect:
            last += b"retry: %d\r\n\r\n" % RECONNECT_MS
        await self._write(last, more=False)

    async def _write(self, data: bytes, more: bool = True) -> None:
        async with self.lock:
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


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(eq=False, slots=True)
class _Held:
    """A stream that a client holds open."""

    owner: Owner
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class HeldStreams:
    """The streams opened by GET: one a session, of which the newest wins, and a bounded number a principal."""

    def __init__(self, pace: Pace) -> None:
        self._every = pace.tick * pace.comment_ticks
        self._by_session: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._by_session)

    async def hold(
        self,
        session_id: str,
        owner: Owner,
        is_alive: Callable[[], Awaitable[bool]],
        receive: Receive,
        stream: EventStream,
    ) -> None:
        """Keep the stream open until its client leaves, its session ends, a newer one comes, or the server closes."""
        held = self._enter(session_id, owner)
        gone = asyncio.ensure_future(until_gone(receive))
        ended = asyncio.ensure_future(held.ended.wait())
        try:
            await stream.comment()
            while not stream.is_gone:
                done, _ = await asyncio.wait((gone, ended), timeout=self._every, return_when=asyncio.FIRST_COMPLETED)
                if done or not await is_alive():
                    break
                await stream.comment()
            if not gone.done():
                await stream.end(reconnect=True)
        finally:
            gone.cancel()
            ended.cancel()
            if self._by_session.get(session_id) is held:
                del self._by_session[session_id]

    def end(self, session_id: str) -> None:
        """End a session's stream."""
        if session_id in self._by_session:
            self._by_session[session_id].ended.set()

    def close(self) -> None:
        """End all."""
        for held in self._by_session.values():
            held.ended.set()

    def _enter(self, session_id: str, owner: Owner) -> _Held:
        older = self._by_session.get(session_id)
        if older is not None:
            older.ended.set()
        elif sum(held.owner == owner for held in self._by_session.values()) >= MAX_STREAMS_A_PRINCIPAL:
            raise Refused(
                429,
                f"A principal may hold {MAX_STREAMS_A_PRINCIPAL} streams open.",
                headers=[(b"retry-after", b"60")],
            )
        held = self._by_session[session_id] = _Held(owner)
        return held
