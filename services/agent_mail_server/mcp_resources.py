"""Resources over MCP: their templates, reading them, and a session's subscriptions to them.

`resources/subscribe` belongs to a session, whose own stream tells of the changes; what a stateless client listens to is
in `mcp_listen`. A resource is read by the operation that the table in `mcp_uris` names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    EmptyResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    SubscribeRequestParams,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from agent_mail_core.errors import AgentMailError, Forbidden, Invalid, NotFound
from agent_mail_core.ports import App, Caller
from agent_mail_server.errors import error_body
from agent_mail_server.limiting import count
from agent_mail_server.mcp_asked import asked_of
from agent_mail_server.mcp_subscriptions import MAX_READ, is_read, kept_subscription, subscribed, watched_resource
from agent_mail_server.mcp_tools import Tools
from agent_mail_server.mcp_uris import JSON, LONGEST_URI, RESOURCES, Named, parse_uri

RESOURCE_NOT_FOUND = -32002
"""The code of the handshake revisions; 2026-07-28 has INVALID_PARAMS for it."""


class Resources:
    """The handlers of the methods about resources."""

    def __init__(self, app: App, tools: Tools) -> None:
        self._app = app
        self._tools = tools

    async def list(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """No resource is there for all: they are named by templates."""
        check_one_page(params)
        return ListResourcesResult(resources=[])

    async def list_templates(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """The URIs that there are."""
        check_one_page(params)
        return ListResourceTemplatesResult(resource_templates=[resource.listed for resource in RESOURCES])

    async def read(self, context: ServerRequestContext[Any], params: ReadResourceRequestParams) -> ReadResourceResult:
        """A resource as its operation answers it."""
        asked, uri = asked_of(context), str(params.uri)
        try:
            named = await self._named(asked.caller, uri)
            result = await self._tools.result(asked.caller, named.resource.operation, named.arguments)
        except AgentMailError as error:
            raise refusal_of(context, error, uri) from None
        text = result.to_json().decode()
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=JSON, text=text)])

    async def _named(self, caller: Caller, uri: str) -> Named:
        """What a URI names. Reading it counts for the agent in it, if any; a URI that names nothing for its caller."""
        try:
            return parse_uri(uri)
        except AgentMailError:
            await count(self._app, caller, is_write=False)
            raise

    async def subscribe(self, context: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
        """The session's stream tells of a resource from now on."""
        asked, uri = asked_of(context), str(params.uri)
        subscriptions = self._app.subscriptions
        try:
            watched = await watched_resource(self._app, asked.caller, uri)
            known = subscribed(await subscriptions.uris(asked.session_id))
            if uri not in known:
                check_read([*known, uri])
                await subscriptions.add(asked.session_id, kept_subscription(uri, watched.mark))
        except AgentMailError as error:
            raise refusal_of(context, error, uri) from None
        return EmptyResult()

    async def unsubscribe(self, context: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
        """It does no longer. Twice is fine."""
        asked, uri = asked_of(context), str(params.uri)
        try:
            for kept in await self._app.subscriptions.uris(asked.session_id):
                if kept.rpartition("#")[0] == uri:
                    await self._app.subscriptions.remove(asked.session_id, kept)
        except AgentMailError as error:
            raise refusal_of(context, error, uri) from None
        return EmptyResult()


def check_one_page(params: PaginatedRequestParams | None) -> None:
    """Refuse a cursor of a list that has one page."""
    if params is not None and params.cursor is not None:
        raise MCPError(INVALID_PARAMS, "Unknown cursor: the list has one page.")


def check_read(uris: Iterable[str]) -> None:
    """Refuse to watch more than MAX_READ resources that are no inboxes."""
    if sum(is_read(uri) for uri in uris) > MAX_READ:
        raise MCPError(INVALID_PARAMS, f"At most {MAX_READ} resources that are no inboxes.", {"limit": MAX_READ})


def refusal_of(context: ServerRequestContext[Any], error: AgentMailError, uri: str) -> MCPError:
    """An error of ours about a resource, in the words of the context's revision."""
    data = {"uri": uri[:LONGEST_URI], **error_body(error, asked_of(context).caller.request_id)["error"]}
    if not isinstance(error, NotFound | Forbidden | Invalid):
        return MCPError(INTERNAL_ERROR, error.message, data)
    is_older = context.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS
    return MCPError(RESOURCE_NOT_FOUND if is_older else INVALID_PARAMS, error.message, data)
