"""The MCP endpoint: Streamable HTTP for revision 2026-07-28 and the handshake revisions, side by side.

Owns which request belongs to which revision and session. Host, Origin and credentials are checked before: the caller is
found in the request's state. A plain tool call goes straight to its operation; whatever else there is, and every call
that is not exactly as the protocol says, goes through the SDK, so that its errors are the SDK's.

No request depends on an earlier one but by its session's record, and no worker keeps what another would need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

import orjson
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolRequestParams, InitializeRequestParams
from mcp_types.methods import validate_client_request
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from agent_mail_core.errors import AgentMailError, Unavailable
from agent_mail_core.ports import App, Caller
from agent_mail_core.sessions import Session
from agent_mail_server.errors import RETRY_AFTER_SECONDS, error_body, http_status
from agent_mail_server.mcp_exchange import Exchange, RunningCalls
from agent_mail_server.mcp_revisions import (
    check_not_modern,
    check_param_headers,
    check_served,
    modern_route,
    says_modern,
)
from agent_mail_server.mcp_server import NO_CHANNEL, Asked, SdkServer, build_server, request_context, session_connection
from agent_mail_server.mcp_streams import EventStream, HeldStreams, Pace
from agent_mail_server.mcp_tools import ToolEnvelope, Tools, Toolset
from agent_mail_server.mcp_wire import (
    HeaderList,
    Message,
    Refused,
    Reply,
    accepted,
    is_json,
    parse_message,
    read_body,
    read_headers,
    send_empty,
    send_json,
    send_refusal,
)
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import OPERATIONS, Operation

SESSION_HEADER = "mcp-session-id"
PLAIN_CALL_PARAMS = frozenset({"name", "arguments", "_meta"})
MAX_CLIENT_PARAMS = 4 * 1024
"""Bytes of a session's record; a client may hold thousands of sessions."""

CLOSE_PATIENCE = 2.5
"""Seconds for waiting calls to notice that the server drains: they look every two."""


@dataclass(frozen=True, slots=True)
class Post:
    """One POST with its message."""

    asked: Asked
    message: Message
    takes_streams: bool
    receive: Receive
    send: Send


class McpEndpoint:
    """An ASGI application for the paths of the endpoint."""

    def __init__(
        self,
        app: App,
        metrics: ServerMetrics,
        operations: Iterable[Operation] = OPERATIONS,
        server: Server[Any] | None = None,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        """`server` takes the place of the one built from the operations, which it may serve too."""
        self._app = app
        self._pace = pace
        self._tools = Tools(app, metrics, operations)
        self._sdk = SdkServer(server or build_server(self._tools, app.version))
        self._envelope = ToolEnvelope(self._sdk.server.server_info)
        self._lists_change = server is not None
        self._lists: dict[tuple[str, Toolset], bytes] = {}
        self._running = RunningCalls()
        self._held = HeldStreams(pace)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = read_headers(scope)
        caller: Caller = scope["state"]["caller"]
        is_modern = says_modern(headers)
        try:
            match scope["method"]:
                case "POST":
                    await self._post(scope, headers, caller, is_modern, receive, send)
                case "GET" if not is_modern:
                    await self._get(headers, caller, receive, send)
                case "DELETE" if not is_modern:
                    await self._delete(headers, caller, send)
                case _:
                    allowed = b"POST" if is_modern else b"GET, POST, DELETE"
                    raise Refused(405, "Method not allowed.", headers=[(b"allow", allowed)])
        except Refused as refused:
            await send_refusal(send, refused)
        except AgentMailError as error:
            await send_refusal(send, _refused(error, caller))

    async def close(self, patience: float = CLOSE_PATIENCE) -> None:
        """End the streams, and the waiting calls once `patience` seconds have passed. Other calls end by themselves."""
        self._held.close()
        await self._running.close(patience)

    # --- POST ---------------------------------------------------------------------------------------------------------

    async def _post(
        self, scope: Scope, headers: dict[str, str], caller: Caller, is_modern: bool, receive: Receive, send: Send
    ) -> None:
        takes_json, takes_streams = accepted(headers.get("accept", "application/json"))
        if not takes_json:
            raise Refused(406, "The client must accept application/json.")
        if not is_json(headers.get("content-type", "")):
            raise Refused(415, "Content-Type must be application/json.")
        settings = self._app.settings
        try:
            async with asyncio.timeout(settings.request_timeout_seconds):
                body = await read_body(receive, headers, settings.max_body_bytes)
        except TimeoutError:
            raise Refused(400, "The body did not arrive in time.") from None
        if body is None:
            return
        message = parse_message(body, settings.max_json_depth)
        asked = Asked(caller, _toolset(scope["query_string"]), headers)
        post = Post(asked, message, takes_streams, receive, send)
        if is_modern:
            await self._modern(post, scope)
        else:
            await self._handshake(post)

    async def _modern(self, post: Post, scope: Scope) -> None:
        """Revision 2026-07-28: each request says who asks, there are no sessions, and a client cancels by leaving."""
        message = post.message
        if message.method is None:
            raise Refused(400, "Clients send no responses in this revision.", message_id=message.id)
        if message.id is None:
            check_served(message, post.asked.headers)
            await send_empty(post.send, 202, [])
            return
        route = modern_route(message, post.asked.headers, scope)
        operation = self._plain_call(message, route.protocol_version)
        if operation is None:
            check_param_headers(message, post.asked.headers, self._sdk.server.get_tool_input_schema)
            connection = Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)
            await self._through_sdk(post, connection, [], is_modern=True)
        else:
            await self._straight(post, operation, [], is_modern=True)

    async def _handshake(self, post: Post) -> None:
        """The revisions before: initialize begins a session, and each message names it."""
        message = post.message
        if message.method == "initialize" and message.id is not None:
            await self._initialize(post)
            return
        check_not_modern(message, post.asked.headers)
        session = await self._session(post.asked.headers, post.asked.caller)
        headers = [(b"mcp-session-id", session.id.encode())]
        if message.method is None or message.id is None:
            await self._notified(post, session, headers)
            return
        operation = self._plain_call(message, session.protocol_version)
        if operation is None:
            await self._through_sdk(post, session_connection(session), headers, is_modern=False, session=session)
        else:
            await self._straight(post, operation, headers, is_modern=False, session=session)

    async def _initialize(self, post: Post) -> None:
        connection = Connection.for_loop(NO_CHANNEL)
        context = request_context(post.asked, None)
        context.request_id = post.message.id
        reply = await self._sdk.reply(connection, context, "initialize", post.message.params, is_modern=False)
        headers: HeaderList = []
        if connection.client_params is not None:
            caller = post.asked.caller
            session = await self._app.sessions.create(
                caller.team_id,
                caller.principal,
                connection.protocol_version,
                _kept_params(connection.client_params, post.message),
            )
            headers.append((b"mcp-session-id", session.id.encode()))
        await send_json(post.send, reply.status, reply.body, headers)

    async def _notified(self, post: Post, session: Session, headers: HeaderList) -> None:
        """A notification, or a response to a request, of which there are none."""
        await send_empty(post.send, 202, headers)
        method, params = post.message.method, post.message.params
        if method == "notifications/cancelled":
            self._running.cancel(session.id, (params or {}).get("requestId"))
        elif method is not None:
            await self._sdk.notify(session_connection(session), request_context(post.asked, None), method, params)

    # --- performing ---------------------------------------------------------------------------------------------------

    def _plain_call(self, message: Message, version: str) -> Operation | None:
        """The operation that a tool call wants, if it is one that the protocol allows; the SDK judges all others."""
        params = message.params
        if message.method != "tools/call" or params is None:
            return None
        operation = self._tools.find(params.get("name"))
        if operation is None:
            return None
        try:
            validate_client_request("tools/call", version, params)
            if not params.keys() <= PLAIN_CALL_PARAMS:
                CallToolRequestParams.model_validate(params, by_name=False)
        except ValidationError:
            return None
        return operation

    async def _straight(
        self, post: Post, operation: Operation, headers: HeaderList, is_modern: bool, session: Session | None = None
    ) -> None:
        token = progress_token_from_params(post.message.params)
        exchange = Exchange(
            post.receive,
            post.send,
            headers,
            post.message.id,
            self._pace,
            takes_streams=post.takes_streams,
            stops_when_gone=is_modern,
            progress_token=token,
            becomes_stream=operation.is_waiting or token is not None,
        )
        if operation.is_waiting:
            self._running.begin_waiting(exchange)
        try:
            await self._answered(exchange, self._called(post, operation, is_modern), session)
        finally:
            if operation.is_waiting:
                self._running.end_waiting(exchange)

    async def _called(self, post: Post, operation: Operation, is_modern: bool) -> Reply:
        params = post.message.params or {}
        answer = await self._tools.call(post.asked.caller, operation, params.get("arguments") or {})
        return Reply(200, self._envelope.message(post.message.id, answer, is_modern))

    async def _through_sdk(
        self, post: Post, connection: Connection, headers: HeaderList, is_modern: bool, session: Session | None = None
    ) -> None:
        message = post.message
        assert message.method is not None
        exchange = Exchange(
            post.receive,
            post.send,
            headers,
            message.id,
            self._pace,
            takes_streams=post.takes_streams,
            stops_when_gone=is_modern,
            progress_token=progress_token_from_params(message.params),
        )
        if message.method == "tools/list" and not self._lists_change and not set(message.params or ()) - {"_meta"}:
            work = self._listed(post, connection, exchange, is_modern)
        else:
            context = request_context(post.asked, exchange)
            work = self._sdk.reply(connection, context, message.method, message.params, is_modern)
        await self._answered(exchange, work, session)

    async def _listed(self, post: Post, connection: Connection, exchange: Exchange, is_modern: bool) -> Reply:
        """The list of tools: the SDK makes it once for each revision, in a millisecond; it never changes."""
        key = (connection.protocol_version, post.asked.toolset)
        params = post.message.params
        try:
            validate_client_request("tools/list", connection.protocol_version, params)
        except ValidationError:
            kept = None
        else:
            kept = self._lists.get(key)
        if kept is not None:
            return Reply(200, b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (orjson.dumps(post.message.id), kept))
        reply = await self._sdk.reply(
            connection, request_context(post.asked, exchange), "tools/list", params, is_modern
        )
        result = orjson.loads(reply.body).get("result")
        if result is not None:
            self._lists[key] = orjson.dumps(result)
        return reply

    async def _answered(self, exchange: Exchange, work: Coroutine[Any, Any, Reply], session: Session | None) -> None:
        """Answer; meanwhile the client of a session can cancel the call."""
        if session is None:
            await exchange.answer(work)
            return
        self._running.add(session.id, exchange)
        try:
            await exchange.answer(work)
        finally:
            self._running.remove(session.id, exchange)

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def _session(self, headers: Mapping[str, str], caller: Caller) -> Session:
        """The session that a request names; another principal's looks like none."""
        session_id = headers.get(SESSION_HEADER)
        if not session_id:
            raise Refused(400, "Missing Mcp-Session-Id: begin with initialize.")
        session = await self._app.sessions.get(session_id)
        if session is None or (session.team_id, session.principal) != (caller.team_id, caller.principal):
            raise Refused(404, "Session not found: begin with initialize.")
        return session

    async def _get(self, headers: dict[str, str], caller: Caller, receive: Receive, send: Send) -> None:
        if not accepted(headers.get("accept", ""))[1]:
            raise Refused(406, "The client must accept text/event-stream.")
        session = await self._session(headers, caller)

        async def is_alive() -> bool:
            try:
                return await self._app.sessions.get(session.id) is not None
            except Unavailable:
                return True

        stream = EventStream(send, [(b"mcp-session-id", session.id.encode())])
        await self._held.hold(session.id, (caller.team_id, caller.principal), is_alive, receive, stream)

    async def _delete(self, headers: dict[str, str], caller: Caller, send: Send) -> None:
        session = await self._session(headers, caller)
        await self._app.sessions.delete(session.id)
        self._held.end(session.id)
        self._running.cancel_all(session.id)
        await send_empty(send, 200, [])


def _kept_params(params: InitializeRequestParams, message: Message) -> dict[str, Any]:
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


def _refused(error: AgentMailError, caller: Caller) -> Refused:
    """An error of a port, outside a tool call."""
    headers = [(b"retry-after", b"%d" % RETRY_AFTER_SECONDS)] if isinstance(error, Unavailable) else []
    body = error_body(error, caller.request_id)["error"]
    return Refused(http_status(error), error.message, INTERNAL_ERROR, data=body, headers=headers)


@lru_cache(maxsize=16)
def _toolset(query: bytes) -> Toolset:
    """The list of tools that the URL asks for. Raises Refused for one that there is not."""
    if not query:
        return "all"
    wanted = parse_qs(query.decode("latin-1")).get("toolset", ["all"])
    if wanted == ["core"]:
        return "core"
    if wanted == ["all"]:
        return "all"
    raise Refused(400, "toolset must be core or all.")
