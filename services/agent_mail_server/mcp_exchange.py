"""One POST's answer while it is being worked on: JSON if it comes soon, an event stream if it takes long.

Owns the client's side of a running call: its going away, its cancellation, the server's end. Stopping ends waits and
reads; a write that has begun goes on, which `dispatch.perform` sees to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import Enum
from typing import Any

import orjson
from mcp_types import INTERNAL_ERROR, ErrorData, ProgressToken, RequestId
from starlette.types import Receive, Send

from agent_mail_server.deadlines import alarms
from agent_mail_server.mcp_streams import EventStream, Pace, StreamRecord, until_gone
from agent_mail_server.mcp_wire import HeaderList, Reply, error_message, send_json

REQUEST_CANCELLED = -32800


class Stop(Enum):
    """Why a call was stopped."""

    gone = "the client has left"
    cancelled = "the client has cancelled it"
    closing = "the server ends"


class Exchange:
    """The answer to one request, made in the task that makes the exchange."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        headers: HeaderList,
        message_id: RequestId | None,
        pace: Pace,
        *,
        takes_streams: bool,
        stops_when_gone: bool,
        progress_token: ProgressToken | None = None,
        record: StreamRecord | None = None,
        is_subscription: bool = False,
    ) -> None:
        """With a record a client can leave the stream and come back to it. A subscription ends when the server does:
        its client is told when to come back.
        """
        self.message_id = message_id
        self._receive = receive
        self._send = send
        self._headers = headers
        self._pace = pace
        self._record = record
        self._stream: EventStream | None = None
        self.takes_streams = takes_streams
        """Whether anything but the answer can be sent."""
        self._stops_when_gone = stops_when_gone
        self.progress_token = progress_token
        self.becomes_stream = False
        """At once if there is a progress token, else when the work has taken a while."""
        self._is_subscription = is_subscription
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._stopped: Stop | None = None
        self._minder: asyncio.Task[None] | None = None
        self._is_gone = False

    async def answer(self, work: Coroutine[Any, Any, Reply]) -> None:
        """Do the work and answer with its reply; with an error, or not at all, when it was stopped."""
        patience = alarms(self._pace.stream_after)
        patience.set(self, self._begin_minding)
        try:
            if self.becomes_stream and self.progress_token is not None and self.takes_streams:
                await self._opened().begin()
            reply: Reply | None = await work
        except asyncio.CancelledError:
            work.close()
            if self._stopped is None or self._task is None or self._task.uncancel() > 0:
                raise
            reply = self._stopped_reply(self._stopped)
        finally:
            self._task = None
            patience.clear(self)
            if self._minder is not None:
                await self._end_minding(self._minder)
        if self._stream is not None and self._stream.has_begun:
            await self._stream.end(reply.body if reply is not None else None, reconnect=self._is_subscription)
        elif reply is not None and not self._is_gone:
            await send_json(self._send, reply.status, reply.body, self._headers)

    def stop(self, why: Stop) -> None:
        """End the work, unless it is done."""
        if self._task is not None and self._stopped is None:
            self._stopped = why
            self._task.cancel()

    async def tell(self, body: dict[str, Any]) -> None:
        """Send the client a notification that belongs to this call; dropped if it takes no streams."""
        if self.takes_streams:
            await self._opened().message(orjson.dumps({"jsonrpc": "2.0", **body}))

    async def tell_progress(self, progress: float, total: float | None = None, text: str | None = None) -> None:
        """Send the client how far the call is, if it asked for that."""
        if self.progress_token is None:
            return
        params = {"progressToken": self.progress_token, "progress": progress, "total": total, "message": text}
        given = {name: value for name, value in params.items() if value is not None}
        await self.tell({"method": "notifications/progress", "params": given})

    async def park(self) -> None:
        """Let the client go while the work goes on; with a record it can come back for what follows."""
        if self.takes_streams:
            await self._opened().park()

    def _opened(self) -> EventStream:
        """The stream, made when something is to be sent on it: most calls are answered before that."""
        if self._stream is None:
            self._stream = EventStream(self._send, self._headers, self._record)
            self._stream.is_gone = self._is_gone
        return self._stream

    def _stopped_reply(self, why: Stop) -> Reply | None:
        if why is Stop.cancelled:
            # The handshake revisions end a request's stream with an answer only.
            return Reply(200, error_message(self.message_id, ErrorData(code=REQUEST_CANCELLED, message="Cancelled.")))
        if why is Stop.closing:
            error = ErrorData(code=INTERNAL_ERROR, message="The server is stopping; try again.")
            return Reply(503, error_message(self.message_id, error))
        return None

    def _begin_minding(self) -> None:
        self._minder = asyncio.get_running_loop().create_task(self._mind())

    async def _end_minding(self, minder: asyncio.Task[None]) -> None:
        if self._stream is None:
            minder.cancel()
            return
        async with self._stream.lock:  # never in the middle of a write
            minder.cancel()

    async def _mind(self) -> None:
        """Keep the stream alive and tell progress, until the client has left."""
        gone = asyncio.ensure_future(until_gone(self._receive))
        try:
            if self.becomes_stream and self.takes_streams:
                await self._opened().begin()
            ticks = 0
            while not (await asyncio.wait((gone,), timeout=self._pace.tick))[0]:
                ticks += 1
                await self._tick(ticks)
            self._is_gone = True
            if self._stream is not None:
                self._stream.is_gone = True
            if self._stops_when_gone:
                self.stop(Stop.gone)
        finally:
            gone.cancel()

    async def _tick(self, ticks: int) -> None:
        if self.becomes_stream and ticks % self._pace.progress_ticks == 0:
            await self.tell_progress(ticks * self._pace.tick)
        if self._stream is not None and self._stream.has_begun and ticks % self._pace.comment_ticks == 0:
            await self._stream.comment()
