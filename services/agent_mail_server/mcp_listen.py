"""`subscriptions/listen` of revision 2026-07-28: a call that tells of resources until the client leaves."""

from __future__ import annotations

from typing import Any

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import (
    INVALID_PARAMS,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)

from agent_mail_core.errors import AgentMailError
from agent_mail_core.ports import App
from agent_mail_core.subscriptions import MAX_SUBSCRIPTIONS
from agent_mail_server.mcp_asked import asked_of
from agent_mail_server.mcp_resources import check_read, refusal_of
from agent_mail_server.mcp_streams import Pace
from agent_mail_server.mcp_subscriptions import watched_resource
from agent_mail_server.mcp_watch import Bell, ResourceWatch

CLOSED = "closed"


class Listen:
    """The handler, of the same shape as the SDK's own."""

    def __init__(self, app: App, pace: Pace) -> None:
        self._app = app
        self._every = pace.comment_every
        self._listening: set[Bell] = set()

    async def __call__(
        self, context: ServerRequestContext[Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Tell of resources until the server ends. The lists never change: wishes to hear of that are not honoured."""
        uris = list(dict.fromkeys(str(uri) for uri in params.notifications.resource_subscriptions or ()))
        if len(uris) > MAX_SUBSCRIPTIONS:
            raise MCPError(INVALID_PARAMS, f"At most {MAX_SUBSCRIPTIONS} resources.", {"limit": MAX_SUBSCRIPTIONS})
        meta = {SUBSCRIPTION_ID_META_KEY: context.request_id}
        bell = Bell()
        watch = ResourceWatch(self._app, asked_of(context).caller, bell)
        self._listening.add(bell)
        try:
            await self._watch(context, watch, uris)
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

    async def _watch(self, context: ServerRequestContext[Any], watch: ResourceWatch, uris: list[str]) -> None:
        for number, uri in enumerate(uris, 1):
            try:
                check_read(uris[:number])
                await watch.add(uri, await watched_resource(self._app, asked_of(context).caller, uri))
            except AgentMailError as error:
                raise refusal_of(context, error, uri) from None

    async def _tell(
        self, context: ServerRequestContext[Any], bell: Bell, watch: ResourceWatch, meta: dict[str, Any]
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
