"""Streams that a session's client opens by GET: the session's own, and those of calls that it comes back to.

The session's own stream is one over all workers, of which the newest wins. It tells of changes of the resources
subscribed to and of what the server sends by itself. An event's id says how far both are: the place in the session's
log, and a digest of the marks told; a client that names it loses nothing, on whichever worker.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import orjson
from mcp_types import INVALID_PARAMS
from starlette.types import Receive, Send

from agent_mail_core.errors import Unavailable
from agent_mail_core.ports import App, Caller
from agent_mail_core.sessions import Session
from agent_mail_core.signals import Signal
from agent_mail_core.stream_log import PAGE, StreamEvent
from agent_mail_core.subscriptions import subscriptions_topic
from agent_mail_server.mcp_channel import session_stream
from agent_mail_server.mcp_held import Held, HeldStreams
from agent_mail_server.mcp_streams import EventStream, Pace, call_stream, primes_streams, until_gone
from agent_mail_server.mcp_subscriptions import subscribed
from agent_mail_server.mcp_watch import Bell, ResourceWatch
from agent_mail_server.mcp_wire import Refused

GONE, LOG, SUBSCRIPTIONS = "gone", "log", "subscriptions"

OWN_EVENT_ID = re.compile(r"own_([0-9]{1,18}-[0-9]{1,18})?_([0-9a-f]{16})")
CALL_EVENT_ID = re.compile(r"([0-9a-f]{16})_([0-9]{1,18}-[0-9]{1,18})")


class Place(NamedTuple):
    """How far a client has read its session's own stream."""

    log_id: str | None
    state: str


class CallPlace(NamedTuple):
    """How far a client has read a call's stream."""

    token: str
    log_id: str


def parse_event_id(event_id: str) -> Place | CallPlace:
    """What a client says by Last-Event-ID. Raises Refused for what is no id of ours."""
    if own := OWN_EVENT_ID.fullmatch(event_id):
        return Place(own[1], own[2])
    if call := CALL_EVENT_ID.fullmatch(event_id):
        return CallPlace(call[1], call[2])
    raise Refused(400, "Last-Event-ID is no id of this server's.", INVALID_PARAMS)


class SessionStreams:
    """Serves them. Each holds a place among those of its principal."""

    def __init__(self, app: App, held: HeldStreams, pace: Pace) -> None:
        self._app = app
        self._held = held
        self._every = pace.comment_every

    async def serve(
        self, session: Session, caller: Caller, last_event_id: str | None, receive: Receive, send: Send
    ) -> None:
        """Answer a GET. Raises Refused or AgentMailError before the answer has begun."""
        place = parse_event_id(last_event_id) if last_event_id else None
        stream = EventStream(send, [(b"mcp-session-id", session.id.encode())])
        if isinstance(place, CallPlace):
            with self._held.place(caller):
                held = Held(session.id, None, Bell())
                async with self._open(held, receive):
                    await _CallStream(self._app, held, stream, self._every, place).run()
            return
        held = Held(session.id, secrets.token_hex(8), Bell())
        with self._held.place(caller, succeeds=self._held.take_over(session.id, held.name)):
            async with self._open(held, receive):
                await self._app.signals.send(Signal("taken", session.id, held.name))
                await _OwnStream(self._app, held, stream, self._every, session, caller).run(place)

    @asynccontextmanager
    async def _open(self, held: Held, receive: Receive) -> AsyncIterator[None]:
        gone = asyncio.create_task(until_gone(receive))
        gone.add_done_callback(lambda _: held.bell.ring(GONE))
        try:
            with self._held.hold(held):
                yield
        finally:
            gone.cancel()
            await held.bell.close()


class _Stream:
    """What both kinds have in common: looking, waiting, and ending."""

    def __init__(self, app: App, held: Held, stream: EventStream, every: float) -> None:
        self._app = app
        self._held = held
        self._stream = stream
        self._every = every

    async def _wait(self) -> frozenset[str] | None:
        """The reasons to look; None when the stream has to end. A comment goes out when there is none for a while."""
        if self._has_to_end():
            return None
        reasons = await self._held.bell.wait(self._every)
        if GONE in reasons:
            self._stream.is_gone = True
        if self._has_to_end():
            return None
        if not reasons:
            if not await self._is_alive():
                return None
            await self._stream.comment()
        return reasons

    def _has_to_end(self) -> bool:
        return self._held.is_ended or self._stream.is_gone or self._app.is_draining()

    async def _is_alive(self) -> bool:
        """Whether the session goes on; this also keeps it alive."""
        try:
            return await self._app.sessions.get(self._held.session_id) is not None
        except Unavailable:
            return True


class _CallStream(_Stream):
    """Goes on with the stream of a call, from the event after the one that the client names."""

    def __init__(self, app: App, held: Held, stream: EventStream, every: float, place: CallPlace) -> None:
        super().__init__(app, held, stream, every)
        self._token = place.token
        self._read = place.log_id

    async def run(self) -> None:
        log_id = call_stream(self._held.session_id, self._token)
        await self._held.bell.follow(LOG, self._app.stream_log.listen(log_id))
        page = await self._app.stream_log.read_after(log_id, self._read)
        await self._stream.begin()
        while True:
            for event in page.events:
                self._read = event.id
                if event.data:
                    await self._stream.message(event.data, f"{self._token}_{event.id}".encode())
                if _is_answer(event):
                    await self._stream.end()
                    return
            if page.is_ended or (page.has_gap and not page.events):  # nothing follows, or it is forgotten
                await self._stream.end()
                return
            if len(page.events) < PAGE and await self._wait() is None:
                await self._stream.end(reconnect=True)
                return
            try:
                page = await self._app.stream_log.read_after(log_id, self._read)
            except Unavailable:
                await self._stream.end(reconnect=True)
                return


class _OwnStream(_Stream):
    """A session's own stream."""

    def __init__(
        self, app: App, held: Held, stream: EventStream, every: float, session: Session, caller: Caller
    ) -> None:
        super().__init__(app, held, stream, every)
        self._log_id = session_stream(session.id)
        self._is_primed = primes_streams(session)
        self._watch = ResourceWatch(app, caller, held.bell)
        self._read: str | None = None

    async def run(self, place: Place | None) -> None:
        log, bell, session_id = self._app.stream_log, self._held.bell, self._held.session_id
        await bell.follow(LOG, log.listen(self._log_id))
        await bell.follow(SUBSCRIPTIONS, self._app.wakeups.subscribe(subscriptions_topic(session_id)))
        if place is None:
            await self._skip_log()
        else:
            self._read = place.log_id
        await self._watch.follow(subscribed(await self._app.subscriptions.uris(session_id)))
        before = place.state if place is not None else self._watch.state
        grown = await self._watch.grown()
        if before == self._watch.state:
            grown = []  # the client has been told of all of it
        elif place is not None:  # it may have been told of a change that has been undone since
            grown += [uri for uri in self._watch.recurring if uri not in grown]
        if self._is_primed:
            await self._stream.mark(self._event_id(before), reconnect=True)
        else:
            await self._stream.begin()
        await self._tell(grown, before)
        reasons: frozenset[str] | None = frozenset((LOG,))
        while reasons is not None:
            await self._look(reasons)
            reasons = await self._wait()
        await self._stream.end(reconnect=True)

    async def _look(self, reasons: frozenset[str]) -> None:
        """Tell what is new where the reasons point; everywhere when there is none."""
        try:
            if not reasons or LOG in reasons:
                await self._read_log()
            if not reasons or SUBSCRIPTIONS in reasons:
                await self._watch.follow(subscribed(await self._app.subscriptions.uris(self._held.session_id)))
                reasons = frozenset()
        except Unavailable:
            return  # the next look finds it
        before = self._watch.state
        await self._tell(await self._watch.grown(reasons or None), before)

    async def _tell(self, grown: list[str], before: str) -> None:
        """Tell of resources; with the last of them the client knows of more than before."""
        for uri in grown:
            body = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
            event_id = self._event_id(self._watch.state if uri == grown[-1] else before)
            await self._stream.message(orjson.dumps(body), event_id)

    async def _read_log(self) -> None:
        while True:
            page = await self._app.stream_log.read_after(self._log_id, self._read)
            for event in page.events:
                self._read = event.id
                await self._stream.message(event.data, self._event_id(self._watch.state))
            if len(page.events) < PAGE:
                return

    async def _skip_log(self) -> None:
        """A client that names no event wants what comes from now on."""
        while True:
            page = await self._app.stream_log.read_after(self._log_id, self._read)
            if page.events:
                self._read = page.events[-1].id
            if len(page.events) < PAGE:
                return

    def _event_id(self, state: str) -> bytes:
        return f"own_{self._read or ''}_{state}".encode()


def _is_answer(event: StreamEvent) -> bool:
    """Whether this is the response that a call's stream ends with."""
    return bool(event.data) and orjson.loads(event.data).get("method") is None
