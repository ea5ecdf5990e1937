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
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner, aclose_shielded, modern_error_data, serve_one
from mcp.shared.dispatcher import CallOptions, Outbound
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp.shared.message import MessageMetadata, ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    DiscoverResult,
    InitializeRequestParams,
    ListToolsResult,
    PaginatedRequestParams,
    RequestId,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agent_mail_core.replies import Replies
from agent_mail_core.sessions import Session
from agent_mail_server.mcp_asked import Asked, asked_of
from agent_mail_server.mcp_channel import ask, notification
from agent_mail_server.mcp_completion import Completing
from agent_mail_server.mcp_exchange import Exchange
from agent_mail_server.mcp_listen import Listen
from agent_mail_server.mcp_prompts import Prompts
from agent_mail_server.mcp_resources import Resources, check_one_page
from agent_mail_server.mcp_streams import primes_streams
from agent_mail_server.mcp_tools import Tools, as_result
from agent_mail_server.mcp_wire import Reply, error_message, result_message

NAME = "agent-mail"
LISTS: tuple[CacheableMethod, ...] = (
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "server/discover",
)
LIST_HINT = CacheHint(ttl_ms=300_000, scope="private")
READ_HINT = CacheHint(ttl_ms=0, scope="private")
LONGEST_REPEATED = 300
"""Characters of a request that an error of the SDK's repeats."""

INSTRUCTIONS = (
    "Mail between coding agents of a project. Start: start_session (human_key: the repository's absolute path), which "
    "is ensure_project, register_agent and check_inbox in one call; keep the slug and the name that it answers. Then "
    "wait_for_messages instead of polling, each time with the cursor of the last answer. reserve_file before you edit, "
    "release_file when you are done. Write with send_message; answer with reply_message, which keeps the thread. "
    "acknowledge_message what asks for it. Reading marks nothing; mark_read does. After an error, read code, message "
    "and data: they say what to call next. Repeat a write that failed with the same idempotency_key."
)


def build_server(
    tools: Tools, resources: Resources, listen: Listen, prompts: Prompts, completing: Completing, version: str
) -> Server[Any]:
    """The server whose tools are the operations, and whose resources are what some of them answer."""

    async def list_tools(context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        check_one_page(params)
        return ListToolsResult(tools=tools.listed(asked_of(context).toolset))

    async def call_tool(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        operation = tools.find(params.name)
        if operation is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:100]}. {tools.instead(params.name)}")
        return as_result(await tools.call(asked_of(context).caller, operation, params.arguments or {}))

    async def discover(context: ServerRequestContext[Any], params: RequestParams | None) -> DiscoverResult:
        """As the SDK's, which takes every server that is listened to for one whose lists change."""
        capabilities = server.get_capabilities()
        return DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS), capabilities=capabilities, instructions=INSTRUCTIONS
        )

    server = Server[Any](
        NAME,
        version=version,
        title="Agent Mail",
        instructions=INSTRUCTIONS,
        cache_hints={**dict.fromkeys(LISTS, LIST_HINT), "resources/read": READ_HINT},
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=resources.list,
        on_list_resource_templates=resources.list_templates,
        on_read_resource=resources.read,
        on_subscribe_resource=resources.subscribe,
        on_unsubscribe_resource=resources.unsubscribe,
        on_subscriptions_listen=listen,
        on_list_prompts=prompts.list,
        on_get_prompt=prompts.get,
        on_completion=completing.complete,
    )
    server.add_request_handler("server/discover", RequestParams, discover)
    return server


@dataclass(slots=True)
class RequestContext(Outbound):
    """The SDK's view of one message (its `DispatchContext`): what a handler sends goes into the message's answer."""

    transport: TransportContext
    message_metadata: MessageMetadata
    exchange: Exchange | None = None
    replies: Replies | None = None
    session_id: str = ""
    request_id: RequestId | None = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)

    @property
    def can_send_request(self) -> bool:
        return self.transport.can_send_request

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        if self.exchange is not None:
            await self.exchange.tell(notification(method, params))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self.exchange is not None:
            await self.exchange.tell_progress(progress, total, message)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        if self.exchange is None or self.replies is None or not self.can_send_request:
            raise NoBackChannelError(method)
        return await ask(self.replies, self.session_id, self.exchange.tell, method, params, opts)


def request_context(
    asked: Asked, exchange: Exchange | None, session: Session | None = None, replies: Replies | None = None
) -> RequestContext:
    """The context of a request, or of a notification when there is no exchange.

    In a session whose client takes streams a handler can ask the client, and let it go while the handler works on.
    """
    can_ask = session is not None and exchange is not None and exchange.takes_streams
    can_park = can_ask and session is not None and primes_streams(session)
    metadata = ServerMessageMetadata(
        request_context=asked._replace(session_id=session.id) if session is not None else asked,
        close_sse_stream=exchange.park if can_park and exchange is not None else None,
    )
    return RequestContext(
        transport=TransportContext(kind="streamable-http", can_send_request=can_ask, headers=asked.headers),
        message_metadata=metadata,
        exchange=exchange,
        replies=replies,
        session_id=session.id if session is not None else "",
        request_id=exchange.message_id if exchange is not None else None,
    )


def session_connection(session: Session, channel: Outbound) -> Connection:
    """A session's connection, for one request."""
    connection = Connection(
        channel,
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

    def close_listening(self) -> None:
        """End the calls that listen, each with its result, when the handler knows how (as the SDK's own does)."""
        entry = self.server.get_request_handler("subscriptions/listen")
        close = getattr(entry.handler, "close", None) if entry is not None else None
        if close is not None:
            close()

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
            if isinstance(data.data, str):  # what the SDK repeats of the request
                data = data.model_copy(update={"data": data.data[:LONGEST_REPEATED]})
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
