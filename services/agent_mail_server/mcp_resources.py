"""Inboxes as MCP resources: templates, reading, and both eras' ways to hear of new mail in one.

`resources/subscribe` belongs to a session, whose own stream tells of the mail. `subscriptions/listen` is itself a
stream: the call lasts until the client leaves or the server ends.
"""

from __future__ import annotations

from typing import Any

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    EmptyResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    ResourceTemplate,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from agent_mail_core.errors import AgentMailError, Forbidden, Invalid, NotFound
from agent_mail_core.ports import App
from agent_mail_core.subscriptions import MAX_SUBSCRIPTIONS
from agent_mail_server.errors import error_body
from agent_mail_server.mcp_asked import asked_of
from agent_mail_server.mcp_inboxes import (
    INBOX_TEMPLATE,
    inbox_of_uri,
    kept_subscription,
    parse_inbox_uri,
    subscribed,
)
from agent_mail_server.mcp_streams import Pace
from agent_mail_server.mcp_tools import Tools
from agent_mail_server.mcp_watch import Bell, InboxWatch

RESOURCE_NOT_FOUND = -32002
"""The code of the handshake revisions; 2026-07-28 has INVALID_PARAMS for it."""

INBOX = ResourceTemplate(
    name="inbox",
    title="Inbox",
    uri_template=INBOX_TEMPLATE,
    description="An agent's newest mail, without bodies, as check_inbox answers it. Subscribe to hear of new mail.",
    mime_type="application/json",
)

CLOSED = "closed"


class InboxResources:
    """The handlers of the methods about resources."""

    def __init__(self, app: App, tools: Tools) -> None:
        self._app = app
        self._tools = tools

    async def list(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """No resource is there for all: they are named by templates."""
        _check_one_page(params)
        return ListResourcesResult(resources=[])

    async def list_templates(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """The URIs that there are."""
        _check_one_page(params)
        return ListResourceTemplatesResult(resource_templates=[INBOX])

    async def read(self, context: ServerRequestContext[Any], params: ReadResourceRequestParams) -> ReadResourceResult:
        """An inbox as `check_inbox` answers it."""
        asked, uri = asked_of(context), str(params.uri)
        try:
            result = await self._tools.result(asked.caller, "check_inbox", parse_inbox_uri(uri))
        except AgentMailError as error:
            raise _refusal(context, error, uri) from None
        text = result.model_dump_json(exclude_none=True)
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=INBOX.mime_type, text=text)])

    async def subscribe(self, context: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
        """The session's stream tells of an inbox from now on."""
        asked, uri = asked_of(context), str(params.uri)
        subscriptions = self._app.subscriptions
        try:
            inbox = await inbox_of_uri(self._app, asked.caller, uri)
            if uri not in subscribed(await subscriptions.uris(asked.session_id)):
                await subscriptions.add(asked.session_id, kept_subscription(uri, inbox.position))
        except AgentMailError as error:
            raise _refusal(context, error, uri) from None
        return EmptyResult()

    async def unsubscribe(self, context: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
        """It does no longer. Twice is fine."""
        asked, uri = asked_of(context), str(params.uri)
        try:
            for kept in await self._app.subscriptions.uris(asked.session_id):
                if kept.rpartition("#")[0] == uri:
                    await self._app.subscriptions.remove(asked.session_id, kept)
        except AgentMailError as error:
            raise _refusal(context, error, uri) from None
        return EmptyResult()


class InboxListen:
    """The handler of `subscriptions/listen`, of the same shape as the SDK's own."""

    def __init__(self, app: App, pace: Pace) -> None:
        self._app = app
        self._every = pace.comment_every
        self._listening: set[Bell] = set()

    async def __call__(
        self, context: ServerRequestContext[Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Tell of inboxes until the server ends. The lists never change: wishes to hear of that are not honoured."""
        uris = list(dict.fromkeys(str(uri) for uri in params.notifications.resource_subscriptions or ()))
        if len(uris) > MAX_SUBSCRIPTIONS:
            raise MCPError(INVALID_PARAMS, f"At most {MAX_SUBSCRIPTIONS} resources.", {"limit": MAX_SUBSCRIPTIONS})
        meta = {SUBSCRIPTION_ID_META_KEY: context.request_id}
        bell = Bell()
        watch = InboxWatch(self._app, asked_of(context).caller, bell)
        self._listening.add(bell)
        try:
            for uri in uris:
                try:
                    await watch.add(uri, await inbox_of_uri(self._app, asked_of(context).caller, uri))
                except AgentMailError as error:
                    raise _refusal(context, error, uri) from None
            honoured = SubscriptionFilter(resource_subscriptions=uris or None)
            await context.session.send_notification(
                SubscriptionsAcknowledgedNotification(
                    params=SubscriptionsAcknowledgedNotificationParams(notifications=honoured, meta=meta)
                ),
                related_request_id=context.request_id,
            )
            await self._tell(context, bell, watch, meta)
        finally:
            self._listening.discard(bell)
            await bell.close()
        return SubscriptionsListenResult(meta=meta)

    async def _tell(
        self, context: ServerRequestContext[Any], bell: Bell, watch: InboxWatch, meta: dict[str, Any]
    ) -> None:
        reasons: frozenset[str] | None = None
        while not self._app.is_draining() and CLOSED not in (reasons or ()):
            for uri in await watch.grown(reasons):
                await context.session.send_notification(
                    ResourceUpdatedNotification(params=ResourceUpdatedNotificationParams(uri=uri, meta=meta)),
                    related_request_id=context.request_id,
                )
            # After a while without a reason, look everywhere.
            reasons = await bell.wait(self._every) or None

    def close(self) -> None:
        """End what listens, each with its result."""
        for bell in self._listening:
            bell.ring(CLOSED)


def _check_one_page(params: PaginatedRequestParams | None) -> None:
    if params is not None and params.cursor is not None:
        raise MCPError(INVALID_PARAMS, "Unknown cursor: the list has one page.")


def _refusal(context: ServerRequestContext[Any], error: AgentMailError, uri: str) -> MCPError:
    """An error of ours about a resource, in the words of the context's revision."""
    data = {"uri": uri, **error_body(error, asked_of(context).caller.request_id)["error"]}
    if not isinstance(error, NotFound | Forbidden | Invalid):
        return MCPError(INTERNAL_ERROR, error.message, data)
    is_older = context.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS
    return MCPError(RESOURCE_NOT_FOUND if is_older else INVALID_PARAMS, error.message, data)
