"""What the server sends a session's client by itself: notifications, and requests with the client's replies.

What belongs to a call goes into the call's stream, all else into the session's own, which the client holds open by GET
on some worker. A reply reaches the worker that waits for it through `Replies`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from mcp.shared.dispatcher import CallOptions, Outbound
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp_types import INVALID_REQUEST, REQUEST_TIMEOUT, ErrorData
from pydantic import ValidationError

from agent_mail_core.errors import Unavailable
from agent_mail_core.replies import Replies
from agent_mail_core.stream_log import StreamLog

REPLY_PATIENCE = 300.0
"""Seconds for a client to reply when the handler sets no time: a person may have to read and decide."""

Tell = Callable[[dict[str, Any]], Awaitable[None]]


def session_stream(session_id: str) -> str:
    """The id of the log of a session's own stream."""
    return f"{session_id}:session"


class NoChannel(Outbound):
    """The way to a client, where there is none."""

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        return

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)


NO_CHANNEL = NoChannel()


class SessionChannel(Outbound):
    """The session's own stream, wherever it is held open."""

    def __init__(self, log: StreamLog, replies: Replies, session_id: str) -> None:
        self._log = log
        self._replies = replies
        self._session_id = session_id

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        with suppress(Unavailable):
            await self._tell(notification(method, params))

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        return await ask(self._replies, self._session_id, self._tell, method, params, opts)

    async def _tell(self, body: dict[str, Any]) -> None:
        await self._log.append(session_stream(self._session_id), orjson.dumps({"jsonrpc": "2.0", **body}))


def notification(method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """A notification without its version member."""
    return {"method": method} if params is None else {"method": method, "params": dict(params)}


async def ask(
    replies: Replies,
    session_id: str,
    tell: Tell,
    method: str,
    params: Mapping[str, Any] | None,
    opts: CallOptions | None,
) -> dict[str, Any]:
    """Send the client a request and return its result.

    Raises MCPError with the client's error, or when no reply comes in time; the client is told that nobody waits.
    """
    with replies.expect(session_id) as expected:
        await tell({"id": expected.request_id, **notification(method, params)})
        given_up = notification("notifications/cancelled", {"requestId": expected.request_id})
        try:
            reply = await expected.wait((opts or {}).get("timeout") or REPLY_PATIENCE)
        except asyncio.CancelledError:
            await tell(given_up)
            raise
        if reply is None:
            await tell(given_up)
            raise MCPError(REQUEST_TIMEOUT, f"The client did not reply to {method} in time.")
    return _result(method, reply)


def _result(method: str, reply: dict[str, Any]) -> dict[str, Any]:
    """The result in a client's JSON-RPC response. Raises MCPError for an error and for what is no response."""
    result = reply.get("result")
    if isinstance(result, dict):
        return result
    try:
        error = ErrorData.model_validate(reply.get("error"))
    except ValidationError:
        error = ErrorData(code=INVALID_REQUEST, message=f"The client's reply to {method} is malformed.")
    raise MCPError.from_error_data(error)
