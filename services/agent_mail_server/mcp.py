"""The MCP endpoint: Streamable HTTP for revision 2026-07-28 and the handshake revisions, side by side.

Owns which request belongs to which revision and session. Host, Origin and credentials are checked before: the caller is
found in the request's state. A plain tool call goes straight to its operation; whatever else there is, and every call
that is not exactly as the protocol says, goes through the SDK, so that its errors are the SDK's.

No request depends on an earlier one but by its session's record, and no worker keeps what another would need: what
lasts longer than a request is in the ports of the cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types.methods import validate_client_request
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from agent_mail_core.errors import AgentMailError, Limited
from agent_mail_core.ports import App, Caller
from agent_mail_core.sessions import Session
from agent_mail_server.deadlines import deadline
from agent_mail_server.limiting import Tally
from agent_mail_server.mcp_asked import Asked
from agent_mail_server.mcp_calls import RunningCalls
from agent_mail_server.mcp_channel import NO_CHANNEL, SessionChannel
from agent_mail_server.mcp_completion import Completing
from agent_mail_server.mcp_exchange import Exchange
from agent_mail_server.mcp_held import HeldStreams
from agent_mail_server.mcp_listen import Listen
from agent_mail_server.mcp_plain import PlainCalls, is_named_in_headers
from agent_mail_server.mcp_prompts import Prompts
from agent_mail_server.mcp_resources import Resources
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

LISTEN = "subscriptions/listen"
UNCOUNTED_METHODS = (None, "ping")
"""Nor do notifications count; a message without a method is a response."""

CLOSE_PATIENCE = 2.5
"""Seconds for waiting calls to notice that the server drains: they have been woken."""


class Post(NamedTuple):
    """One POST with its message, and its session in the revisions that have one."""

    asked: Asked
    message: Message
    tally: Tally
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
        self._plain = PlainCalls()
        self._running = RunningCalls()
        self._held = HeldStreams()
        self._sessions = McpSessions(app, self._running, self._held)
        self._streams = SessionStreams(app, self._held, pace)

    def _own_server(self) -> Server[Any]:
        app = self._app
        return build_server(
            self._tools, Resources(app, self._tools), Listen(app, self._pace), Prompts(), Completing(app), app.version
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = read_headers(scope)
        caller: Caller = scope["state"]["caller"]
        tally = Tally(self._app, caller)
        is_modern = says_modern(headers)
        try:
            match scope["method"]:
                case "POST":
                    await self._post(scope, headers, tally, is_modern, receive, send)
                case "GET" if not is_modern:
                    await tally.count()
                    await self._get(headers, caller, receive, send)
                case "DELETE" if not is_modern:
                    await tally.count()
                    await self._sessions.end(await self._sessions.find(headers, caller))
                    await send_empty(send, 200, [])
                case _:
                    allowed = b"POST" if is_modern else b"GET, POST, DELETE"
                    raise Refused(405, "Method not allowed.", headers=[(b"allow", allowed)])
        except Refused as refused:
            try:
                await tally.count()
            except Limited as limited:
                refused = refusal(limited, caller.request_id, refused.message_id)
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
        self, scope: Scope, headers: dict[str, str], tally: Tally, is_modern: bool, receive: Receive, send: Send
    ) -> None:
        takes_json, takes_streams = accepted(headers.get("accept", "application/json"))
        if not takes_json:
            raise Refused(406, "The client must accept application/json.")
        if not is_json(headers.get("content-type", "")):
            raise Refused(415, "Content-Type must be application/json.")
        settings = self._app.settings
        try:
            with deadline(settings.request_timeout_seconds):
                body = await read_body(receive, headers, settings.max_body_bytes)
        except TimeoutError:
            raise Refused(400, "The body did not arrive in time.") from None
        if body is None:
            return
        message = parse_message(body, settings.max_json_depth)
        if message.id is None or message.method in UNCOUNTED_METHODS:
            tally.leave()
        asked = Asked(tally.caller, _toolset(scope["query_string"]), headers)
        if is_modern:
            await self._modern(Post(asked, message, tally, takes_streams, receive, send), scope)
            return
        if message.method == "initialize" and message.id is not None:
            await self._initialize(Post(asked, message, tally, takes_streams, receive, send))
            return
        check_not_modern(message, headers)
        session = await self._sessions.find(headers, tally.caller)
        await self._in_session(Post(asked, message, tally, takes_streams, receive, send, session), session)

    async def _modern(self, post: Post, scope: Scope) -> None:
        """Revision 2026-07-28: each request says who asks, there are no sessions, and a client cancels by leaving."""
        message = post.message
        if message.method is None:
            raise Refused(400, "Clients send no responses in this revision.", message_id=message.id)
        if message.id is None:
            check_served(message, post.asked.headers)
            await send_empty(post.send, 202, [])
            return
        headers = post.asked.headers
        if operation := self._known_call(message, headers, scope):
            await self._straight(post, operation)
            return
        route = modern_route(message, headers, scope)
        if operation := self._plain_call(message, route.protocol_version):
            await self._straight(post, operation)
            return
        await self._counted(post)
        check_param_headers(message, headers, self._sdk.server.get_tool_input_schema)
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
            await self._counted(post)
            await self._through_sdk(post, self._connection(session))

    async def _counted(self, post: Post) -> None:
        """Count the request once, unless its handler does. Raises Refused for one too many."""
        message = post.message
        if message.method == "resources/read" and isinstance((message.params or {}).get("uri"), str):
            post.tally.leave()  # it counts for the agent whose inbox is read
        try:
            await post.tally.count()
        except Limited as limited:
            raise refusal(limited, post.asked.caller.request_id, message.id) from None

    async def _initialize(self, post: Post) -> None:
        await self._counted(post)
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
        return operation if operation is not None and self._plain.is_allowed(version, params) else None

    def _known_call(self, message: Message, headers: Mapping[str, str], scope: Scope) -> Operation | None:
        """The operation of a call of revision 2026-07-28, all of which but tool and arguments has passed before."""
        params = message.params
        if params is None or len(headers) != len(scope["headers"]) or not is_named_in_headers(message, headers):
            return None
        if not self._plain.is_known(headers[MCP_PROTOCOL_VERSION_HEADER], params):
            return None
        return self._tools.find(params.get("name"))

    def _straight(self, post: Post, operation: Operation) -> Awaitable[None]:
        """The short way: no part of the SDK sees the call."""
        post.tally.leave()  # the operation counts for itself
        exchange = self._exchange(post)
        exchange.becomes_stream = operation.is_waiting or exchange.progress_token is not None
        return self._answered(post, exchange, self._called(post, operation), operation.is_waiting)

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

    def _exchange(self, post: Post, is_subscription: bool = False) -> Exchange:
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
            record=StreamRecord(self._app.stream_log, session, post.message.id)
            if session is not None and post.takes_streams
            else None,
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
