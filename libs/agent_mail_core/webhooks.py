"""Webhooks: URLs of others that are told, in order, what happens in a project or in a whole team (SPEC §7).

Each follows the events from the moment when it was added, at a pace of its own: the job in `webhook_jobs` delivers. Its
secret signs what it is sent. It is stored as it is, shown once, and in no other answer and no log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from pydantic import Field

from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.events import EventKind, EventPosition
from agent_mail_core.fields import Cursor, Id, PageSize, ProjectRef, Request, Result
from agent_mail_core.ids import ProjectId, TeamId, WebhookDeliveryId, WebhookId
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import the_project
from agent_mail_core.webhook_errors import WebhookNotFound

KEPT_DELIVERIES = 200
"""Of a webhook; the oldest ones are forgotten."""

DeliveryState = Literal["delivered", "waiting", "failed"]
"""Waiting: to be tried again. Failed: given up."""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook to add."""

    team_id: TeamId
    project_id: ProjectId | None
    """None: the events of all projects of the team."""
    url: str
    kinds: Sequence[EventKind]
    """None of them: all."""
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """A webhook as stored, without its secret."""

    id: WebhookId
    project_slug: str | None
    url: str
    kinds: Sequence[str]
    attempts: int
    """At the delivery that fails, if one does."""
    failing_since: datetime | None
    next_attempt_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """What delivering takes."""

    id: WebhookId
    team_id: TeamId
    team_name: str
    project_id: ProjectId | None
    url: str
    kinds: Sequence[str]
    secret: str = field(repr=False)
    position: EventPosition
    """Everything up to here was delivered, given up, or was none of the webhook's business."""
    attempts: int
    due_in: timedelta
    """When to try again; zero or less: now."""
    is_enabled: bool

    def wants(self, kind: str) -> bool:
        """Whether events of this kind are delivered."""
        return not self.kinds or kind in self.kinds


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call for one event, and what came of it."""

    webhook_id: WebhookId
    position: EventPosition
    kind: str
    status_code: int | None
    """None: there was no answer."""
    error: str | None
    """None: it was delivered."""


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """What came of delivering one event."""

    id: WebhookDeliveryId
    position: EventPosition
    kind: str
    state: DeliveryState
    attempts: int
    status_code: int | None
    error: str | None
    created_at: datetime
    """Of the first attempt."""
    attempted_at: datetime


class Webhooks(Protocol):
    """Store of webhooks. Those of deleted projects are as good as gone; time is the database's."""

    async def add(self, new: NewWebhook, limit: int) -> WebhookRecord:
        """Add one that follows what comes from now on. TooManyWebhooks when the team has `limit` of them.

        Atomic: callers racing never add more than `limit`.
        """
        ...

    async def remove(self, team_id: TeamId, webhook_id: WebhookId) -> bool:
        """Remove it with its deliveries; False when the team has none of that id."""
        ...

    async def find(self, team_id: TeamId, webhook_id: WebhookId) -> WebhookRecord | None:
        """By id."""
        ...

    async def page(
        self, team_id: TeamId, project_id: ProjectId | None, after: WebhookId, limit: int
    ) -> list[WebhookRecord]:
        """The team's, or of these only the project's own, by id, those after `after`."""
        ...

    async def target(self, webhook_id: WebhookId) -> WebhookTarget | None:
        """What delivering takes, enabled or not; None when it is gone."""
        ...

    async def tells_of(self, project_id: ProjectId) -> bool:
        """Whether what happened in the project may still be told: it is not deleted."""
        ...

    async def behind(self, after: WebhookId, limit: int) -> list[tuple[WebhookId, TeamId]]:
        """Enabled ones that have events before them and do not wait for their next attempt, by id, after `after`."""
        ...

    async def move_on(self, webhook_id: WebhookId, position: EventPosition) -> None:
        """It has been looked at everything up to there. Never moves back."""
        ...

    async def delivered(self, attempt: Attempt) -> bool:
        """Note a success: the webhook goes on behind the event, and is enabled and not failing. False: it is gone.

        Of the deliveries all but the newest KEPT_DELIVERIES go. A position is never moved back.
        """
        ...

    async def failed(self, attempt: Attempt, retry_after: timedelta | None) -> bool:
        """Note a failure, and when to try again. False: the webhook is gone, or is not enabled.

        None: an attempt out of turn, which changes nothing but the delivery's note; also of one that is not enabled.
        """
        ...

    async def switch_off(self, attempt: Attempt, reason: str) -> bool:
        """Note that the delivery is given up, and disable the webhook, before that event. False: as from `failed`."""
        ...

    async def switch_on(self, webhook_id: WebhookId) -> None:
        """Enable it, as if nothing had failed: it goes on where it stopped."""
        ...

    async def deliveries(
        self, webhook_id: WebhookId, before: WebhookDeliveryId | None, limit: int
    ) -> list[DeliveryRecord]:
        """What was tried, newest event first, below `before`."""
        ...

    async def delivery(self, webhook_id: WebhookId, delivery_id: WebhookDeliveryId) -> DeliveryRecord | None:
        """One of them."""
        ...


async def the_webhook(db: Transaction, caller: Caller, webhook_id: int) -> WebhookRecord:
    """The caller's webhook of that id, or WebhookNotFound."""
    found = await db.webhooks.find(caller.team_id, WebhookId(webhook_id))
    if found is None:
        raise webhook_not_found(webhook_id)
    return found


def webhook_not_found(webhook_id: int) -> WebhookNotFound:
    """The error for an unknown webhook."""
    return WebhookNotFound(f"There is no webhook {webhook_id}.", webhook_id=webhook_id, suggestion="list_webhooks")


# --- results ----------------------------------------------------------------------------------------------------------


class Webhook(Result):
    """A webhook. Its secret was shown when it was added."""

    webhook_id: int
    project_slug: str | None = None
    """None: the events of all projects of the team."""
    url: str
    events: list[str]
    """None of them: all."""
    is_enabled: bool
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    failing_since: datetime | None = None
    failed_attempts: int
    next_attempt_at: datetime | None = None
    created_at: datetime


def webhook_result(record: WebhookRecord) -> Webhook:
    """A stored webhook as the wire shows it."""
    return Webhook(
        webhook_id=record.id,
        project_slug=record.project_slug,
        url=record.url,
        events=list(record.kinds),
        is_enabled=record.disabled_at is None,
        disabled_at=record.disabled_at,
        disabled_reason=record.disabled_reason,
        failing_since=record.failing_since,
        failed_attempts=record.attempts,
        next_attempt_at=record.next_attempt_at,
        created_at=record.created_at,
    )


# --- remove_webhook ---------------------------------------------------------------------------------------------------


class RemoveWebhook(Request):
    webhook_id: Id


class RemovedWebhook(Result):
    webhook_id: int


async def remove_webhook(app: App, caller: Caller, request: RemoveWebhook) -> RemovedWebhook:
    """Remove a webhook with its history. What is not delivered yet never is."""
    async with app.store.write() as db:
        if not await db.webhooks.remove(caller.team_id, WebhookId(request.webhook_id)):
            raise webhook_not_found(request.webhook_id)
    return RemovedWebhook(webhook_id=request.webhook_id)


# --- list_webhooks ----------------------------------------------------------------------------------------------------


class ListWebhooks(Request):
    project_slug: ProjectRef | None = Field(None, description="Only this project's own")
    limit: PageSize = 20
    cursor: Cursor | None = None


class WebhookPage(Result):
    webhooks: list[Webhook]
    next_cursor: str | None = None


async def list_webhooks(app: App, caller: Caller, request: ListWebhooks) -> WebhookPage:
    """List the team's webhooks and how they fare, in the order in which they were added."""
    async with app.store.read() as db:
        project = None
        if request.project_slug is not None:
            project = await the_project(db, caller, request.project_slug)
        project_id = project.id if project else None
        scope = list_scope("list_webhooks", caller.team_id, project_id)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        after = WebhookId(last[0] if last else 0)
        rows = await db.webhooks.page(caller.team_id, project_id, after, request.limit + 1)
    page = rows[: request.limit]
    has_more = len(rows) > len(page)
    return WebhookPage(
        webhooks=[webhook_result(record) for record in page],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if has_more else None,
    )
