"""What the SDK's low-level server does for the endpoint: initialize, discover, list, ping, and whatever is wrong.

Handlers find out who asks in `context.request`, an `Asked`. A connection lives for one request: sessions are records
behind a port, so it is made anew from the record, or from a request's own envelope in revision 2026-07-28.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner, aclose_shielded, modern_error_data, serve_one
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp.shared.message import MessageMetadata, ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    InitializeRequestParams,
    ListToolsResult,
    PaginatedRequestParams,
    RequestId,
)

from agent_mail_core.ports import Caller
from agent_mail_core.sessions import Session
from agent_mail_server.mcp_exchange import Exchange
from agent_mail_server.mcp_tools import Tools, Toolset, as_result
from agent_mail_server.mcp_wire import Reply, error_message, result_message

NAME = "agent-mail"
LIST_HINT = CacheHint(ttl_ms=300_000, scope="private")
INSTRUCTIONS = (
    "Mail between coding agents of a project. Start: ensure_project (human_key: the repository's absolute path), then "
    "register_agent once; keep the name it answers. Then check_inbox, or wait_for_messages instead of polling, each "
    "time with the cursor of the last answer. Write with send_message; answer with reply_message, which keeps the "
    "thread. acknowledge_message what asks for it. Reading marks nothing; mark_read does. After an error, read code, "
    "message and data: they say what to call next. Repeat a write that failed with the same idempotency_key."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and through which list of tools."""

    caller: Caller
    toolset: Toolset
    headers: Mapping[str, str]


def _asked(context: ServerRequestContext[Any]) -> Asked:
    assert isinstance(context.request, Asked)
    return context.request


def build_server(tools: Tools, version: str) -> Server[Any]:
    """The server whose tools are the operations."""

    async def list_tools(context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        if params is not None and params.cursor is not None:
            raise MCPError(INVALID_PARAMS, "Unknown cursor: the list has one page.")
        return ListToolsResult(tools=tools.listed(_asked(context).toolset))

    async def call_tool(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        operation = tools.find(params.name)
        if operation is None:
            near = tools.near(params.name)
            hint = f" Did you mean {' or '.join(near)}?" if near else " See tools/list."
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:100]}.{hint}")
        return as_result(await tools.call(_asked(context).caller, operation, params.arguments or {}))

    return Server(
        NAME,
        version=version,
        title="Agent Mail",
        instructions=INSTRUCTIONS,
        cache_hints={"tools/list": LIST_HINT, "server/discover": LIST_HINT},
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


class NoChannel:
    """The way to a client outside its requests, while there is none."""

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        return

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)


NO_CHANNEL = NoChannel()


@dataclass(slots=True)
class RequestContext(NoChannel):
    """The SDK's view of one message (its `DispatchContext`): a handler's notifications go into the message's answer."""

    transport: TransportContext
    message_metadata: MessageMetadata
    exchange: Exchange | None = None
    request_id: RequestId | None = None
    can_send_request: bool = False
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        if self.exchange is not None:
            given = {} if params is None else {"params": dict(params)}
            await self.exchange.tell({"method": method, **given})

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self.exchange is not None:
            await self.exchange.tell_progress(progress, total, message)


def request_context(asked: Asked, exchange: Exchange | None) -> RequestContext:
    """The context of a request, or of a notification when there is no exchange."""
    return RequestContext(
        transport=TransportContext(kind="streamable-http", can_send_request=False, headers=asked.headers),
        message_metadata=ServerMessageMetadata(request_context=asked),
        exchange=exchange,
        request_id=exchange.message_id if exchange is not None else None,
    )


def session_connection(session: Session) -> Connection:
    """A session's connection, for one request."""
    connection = Connection(
        NO_CHANNEL,
        protocol_version=session.protocol_version,
        session_id=session.id,
        client_params=InitializeRequestParams.model_validate(session.client_params, by_name=False),
    )
    connection.initialized.set()
    return connection


class SdkServer:
    """Runs single messages on a low-level server. It has no lifespan of its own."""

    def __init__(self, server: Server[Any]) -> None:
        self.server = server

    async def reply(
        self,
        connection: Connection,
        context: RequestContext,
        method: str,
        params: dict[str, Any] | None,
        is_modern: bool,
    ) -> Reply:
        """Perform a request. Errors are replies too; revision 2026-07-28 gives some of them an HTTP status."""
        try:
            result = await serve_one(self.server, context, method, params, connection=connection, lifespan_state={})
        except Exception as error:  # noqa: BLE001 - the SDK's boundary: it logs what it does not know
            data = modern_error_data(error)
            status = ERROR_CODE_HTTP_STATUS.get(data.code, 200) if is_modern else 200
            return Reply(status, error_message(context.request_id, data))
        return Reply(200, result_message(context.request_id, result))

    async def notify(
        self, connection: Connection, context: RequestContext, method: str, params: dict[str, Any] | None
    ) -> None:
        """Tell a handler of notifications, if there is one."""
        if self.server.get_notification_handler(method) is None:
            return
        try:
            await ServerRunner(self.server, connection, {}).on_notify(context, method, params)
        finally:
            await aclose_shielded(connection)
