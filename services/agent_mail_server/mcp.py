"""The MCP endpoint: Streamable HTTP for revision 2026-07-28 and the handshake revisions, side by side.

Owns which request belongs to which revision and session. Host, Origin and credentials are checked before: the caller is
found in the request's state. A plain tool call goes straight to its operation; whatever else there is, and every call
that is not exactly as the protocol says, goes through the SDK, so that its errors are the SDK's.

No request depends on an earlier one but by its session's record, and no worker keeps what another would need: what
lasts longer than a request is in the ports of the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

import orjson
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types import CallToolRequestParams
from mcp_types.methods import validate_client_request
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from agent_mail_core.errors import AgentMailError
from agent_mail_core.ports import App, Caller
from agent_mail_core.sessions import Session
from agent_mail_server.mcp_asked import Asked
from agent_mail_server.mcp_calls import RunningCalls
from agent_mail_server.mcp_channel import NO_CHANNEL, SessionChannel
from agent_mail_server.mcp_exchange import Exchange
from agent_mail_server.mcp_held import HeldStreams
from agent_mail_server.mcp_resources import InboxListen, InboxResources
from agent_mail_server.mcp_revisions import (
    check_not_modern,
    check_param_headers,
    check_served,
    modern_route,
    says_modern,
)
from agent_mail_server.mcp_server import SdkServer, build_server, request_context, session_connection
from agent_mail_server.mcp_session_streams import SessionStreams
from agent_mail_server.mcp_sessions import McpSessions, kept_params
from agent_mail_server.mcp_streams import Pace, StreamRecord
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
    refusal,
    send_empty,
    send_json,
    send_refusal,
)
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import OPERATIONS, Operation

PLAIN_CALL_PARAMS = frozenset({"name", "arguments", "_meta"})
LISTEN = "subscriptions/listen"

CLOSE_PATIENCE = 2.5
"""Seconds for waiting calls to notice that the server drains: they have been woken."""


@dataclass(frozen=True, slots=True)
class Post:
    """One POST with its message, and its session in the revisions that have one."""

    asked: Asked
    message: Message
    takes_streams: bool
    receive: Receive
    send: Send
    session: Session | None = None

    @property
    def headers(self) -> HeaderList:
        """What its answer says beside its content."""
        return [(b"mcp-session-id", self.session.id.encode())] if self.session is not None else []


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
        self._metrics = metrics
        self._pace = pace
        self._tools = Tools(app, metrics, operations)
        self._sdk = SdkServer(server or self._own_server())
        self._envelope = ToolEnvelope(self._sdk.server.server_info)
        self._lists_change = server is not None
        self._lists: dict[tuple[str, Toolset], bytes] = {}
        self._running = RunningCalls()
        self._held = HeldStreams()
        self._sessions = McpSessions(app, self._running, self._held)
        self._streams = SessionStreams(app, self._held, pace)

    def _own_server(self) -> Server[Any]:
        resources, listen = InboxResources(self._app, self._tools), InboxListen(self._app, self._pace)
        return build_server(self._tools, resources, listen, self._app.version)

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
                    await self._sessions.end(await self._sessions.find(headers, caller))
                    await send_empty(send, 200, [])
                case _:
                    allowed = b"POST" if is_modern else b"GET, POST, DELETE"
                    raise Refused(405, "Method not allowed.", headers=[(b"allow", allowed)])
        except Refused as refused:
            await send_refusal(send, refused)
        except AgentMailError as error:
            await send_refusal(send, refusal(error, caller.request_id))

    async def close(self, patience: float = CLOSE_PATIENCE) -> None:
        """End the streams, and the waiting calls once `patience` seconds have passed. Other calls end by themselves."""
        self._held.close()
        self._sdk.close_listening()
        await self._running.close(patience)

    async def _get(self, headers: dict[str, str], caller: Caller, receive: Receive, send: Send) -> None:
        if not accepted(headers.get("accept", ""))[1]:
            raise Refused(406, "The client must accept text/event-stream.")
        session = await self._sessions.find(headers, caller)
        await self._streams.serve(session, caller, headers.get("last-event-id"), receive, send)

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
        if is_modern:
            await self._modern(Post(asked, message, takes_streams, receive, send), scope)
            return
        if message.method == "initialize" and message.id is not None:
            await self._initialize(Post(asked, message, takes_streams, receive, send))
            return
        check_not_modern(message, headers)
        session = await self._sessions.find(headers, caller)
        await self._in_session(Post(asked, message, takes_streams, receive, send, session), session)

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
        if operation is not None:
            await self._straight(post, operation)
            return
        check_param_headers(message, post.asked.headers, self._sdk.server.get_tool_input_schema)
        connection = Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)
        if message.method == LISTEN:
            await self._listen(post, connection)
        else:
            await self._through_sdk(post, connection)

    async def _in_session(self, post: Post, session: Session) -> None:
        """The revisions before: initialize began a session, and each message names it."""
        message = post.message
        if message.method is None:
            await self._app.replies.deliver(session.id, message.id, message.body)
            await send_empty(post.send, 202, post.headers)
        elif message.id is None:
            await self._notified(post, session, message.method)
        elif operation := self._plain_call(message, session.protocol_version):
            await self._straight(post, operation)
        else:
            await self._through_sdk(post, self._connection(session))

    async def _initialize(self, post: Post) -> None:
        connection = Connection.for_loop(NO_CHANNEL)
        context = request_context(post.asked, None)
        context.request_id = post.message.id
        reply = await self._sdk.reply(connection, context, "initialize", post.message.params, is_modern=False)
        headers: HeaderList = []
        if connection.client_params is not None:
            params = kept_params(connection.client_params, post.message)
            session = await self._sessions.begin(post.asked.caller, connection.protocol_version, params)
            headers.append((b"mcp-session-id", session.id.encode()))
        await send_json(post.send, reply.status, reply.body, headers)

    async def _notified(self, post: Post, session: Session, method: str) -> None:
        await send_empty(post.send, 202, post.headers)
        params = post.message.params
        if method == "notifications/cancelled":
            await self._sessions.cancel(session, (params or {}).get("requestId"))
        else:
            context = request_context(post.asked, None, session)
            await self._sdk.notify(self._connection(session), context, method, params)

    def _connection(self, session: Session) -> Connection:
        return session_connection(session, SessionChannel(self._app.stream_log, self._app.replies, session.id))

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

    async def _straight(self, post: Post, operation: Operation) -> None:
        """The short way: no part of the SDK sees the call."""
        token = progress_token_from_params(post.message.params)
        exchange = self._exchange(post, becomes_stream=operation.is_waiting or token is not None)
        await self._answered(post, exchange, self._called(post, operation), operation.is_waiting)

    async def _called(self, post: Post, operation: Operation) -> Reply:
        params = post.message.params or {}
        answer = await self._tools.call(post.asked.caller, operation, params.get("arguments") or {})
        return Reply(200, self._envelope.message(post.message.id, answer, is_modern=post.session is None))

    async def _listen(self, post: Post, connection: Connection) -> None:
        """A call that is a stream until its client leaves or the server ends."""
        if not post.takes_streams:
            raise Refused(406, "The client must accept text/event-stream.", message_id=post.message.id)
        with self._held.place(post.asked.caller, post.message.id):
            self._metrics.streams += 1
            try:
                await self._through_sdk(post, connection, is_subscription=True)
            finally:
                self._metrics.streams -= 1

    async def _through_sdk(self, post: Post, connection: Connection, is_subscription: bool = False) -> None:
        message = post.message
        assert message.method is not None
        exchange = self._exchange(post, is_subscription=is_subscription)
        if message.method == "tools/list" and not self._lists_change and not set(message.params or ()) - {"_meta"}:
            work = self._listed(post, connection, exchange)
        else:
            work = self._replied(post, connection, exchange, message.method)
        await self._answered(post, exchange, work, is_subscription)

    async def _replied(self, post: Post, connection: Connection, exchange: Exchange, method: str) -> Reply:
        context = request_context(post.asked, exchange, post.session, self._app.replies)
        return await self._sdk.reply(connection, context, method, post.message.params, is_modern=post.session is None)

    async def _listed(self, post: Post, connection: Connection, exchange: Exchange) -> Reply:
        """The list of tools: the SDK makes it once for each revision, in a millisecond; it never changes."""
        key = (connection.protocol_version, post.asked.toolset)
        try:
            validate_client_request("tools/list", connection.protocol_version, post.message.params)
        except ValidationError:
            kept = None
        else:
            kept = self._lists.get(key)
        if kept is not None:
            return Reply(200, b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (orjson.dumps(post.message.id), kept))
        reply = await self._replied(post, connection, exchange, "tools/list")
        result = orjson.loads(reply.body).get("result")
        if result is not None:
            self._lists[key] = orjson.dumps(result)
        return reply

    def _exchange(self, post: Post, becomes_stream: bool = False, is_subscription: bool = False) -> Exchange:
        session = post.session
        return Exchange(
            post.receive,
            post.send,
            post.headers,
            post.message.id,
            self._pace,
            takes_streams=post.takes_streams,
            stops_when_gone=session is None,
            progress_token=progress_token_from_params(post.message.params),
            becomes_stream=becomes_stream,
            record=StreamRecord(self._app.stream_log, session) if session is not None and post.takes_streams else None,
            is_subscription=is_subscription,
        )

    async def _answered(
        self, post: Post, exchange: Exchange, work: Coroutine[Any, Any, Reply], is_waiting: bool
    ) -> None:
        """Answer; meanwhile the client of a session can cancel the call, and the server's end stops one that waits."""
        if is_waiting:
            self._running.begin_waiting(exchange)
        if post.session is not None:
            self._running.add(post.session.id, exchange)
        try:
            await exchange.answer(work)
        finally:
            if post.session is not None:
                self._running.remove(post.session.id, exchange)
            if is_waiting:
                self._running.end_waiting(exchange)


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
