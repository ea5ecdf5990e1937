"""Sessions of the handshake revisions as the endpoint uses them: found, begun, and ended on every worker."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from mcp_types import INVALID_PARAMS, InitializeRequestParams

from agent_mail_core.errors import Unavailable
from agent_mail_core.ports import App, Caller
from agent_mail_core.sessions import Session
from agent_mail_core.signals import Signal
from agent_mail_server.mcp_calls import RunningCalls
from agent_mail_server.mcp_held import HeldStreams
from agent_mail_server.mcp_wire import Message, Refused

SESSION_HEADER = "mcp-session-id"
MAX_CLIENT_PARAMS = 4 * 1024
"""Bytes of a session's record; a client may hold thousands of sessions."""


class McpSessions:
    """The sessions, and what this worker runs and holds for them: other workers end it by signals."""

    def __init__(self, app: App, running: RunningCalls, held: HeldStreams) -> None:
        self._app = app
        self._running = running
        self._held = held
        app.signals.listen(self._heard)

    async def begin(self, caller: Caller, protocol_version: str, client_params: dict[str, Any]) -> Session:
        """A new session of the caller's."""
        return await self._app.sessions.create(caller.team_id, caller.principal, protocol_version, client_params)

    async def find(self, headers: Mapping[str, str], caller: Caller) -> Session:
        """The session that a request names; another principal's looks like none. Raises Refused."""
        session_id = headers.get(SESSION_HEADER)
        if not session_id:
            raise Refused(400, "Missing Mcp-Session-Id: begin with initialize.")
        session = await self._app.sessions.get(session_id)
        if session is None or (session.team_id, session.principal) != (caller.team_id, caller.principal):
            raise Refused(404, "Session not found: begin with initialize.")
        return session

    async def end(self, session: Session) -> None:
        """End it, with its calls and streams, wherever they are."""
        await self._app.sessions.delete(session.id)
        await self._app.signals.send(Signal("ended", session.id))
        with suppress(Unavailable):  # both are forgotten after a while in any case
            await self._app.subscriptions.drop(session.id)
            await self._app.stream_log.drop(session.id)

    async def cancel(self, session: Session, message_id: object) -> None:
        """Stop the call that the session's client names, on whichever worker it runs."""
        if isinstance(message_id, bool) or not isinstance(message_id, str | int):
            return
        if not self._running.cancel(session.id, message_id):
            await self._app.signals.send(Signal("cancelled", session.id, message_id))

    def _heard(self, signal: Signal) -> None:
        match signal.kind:
            case "cancelled":
                self._running.cancel(signal.session_id, signal.subject)
            case "taken":
                self._held.take_over(signal.session_id, signal.subject)
            case "ended":
                self._held.end(signal.session_id)
                self._running.cancel_all(signal.session_id)


def kept_params(params: InitializeRequestParams, message: Message) -> dict[str, Any]:
    """What a session remembers of its client. Raises Refused when that is too much."""
    kept = params.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        include={"protocol_version": True, "capabilities": True, "client_info": {"name", "version", "title"}},
    )
    if len(orjson.dumps(kept)) > MAX_CLIENT_PARAMS:
        raise Refused(
            400,
            f"clientInfo and capabilities are larger than {MAX_CLIENT_PARAMS} bytes.",
            INVALID_PARAMS,
            message_id=message.id,
        )
    return kept
