"""What an administrator does with webhooks that are there: try one, see what was delivered, have it delivered again."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.events import EventEntry, EventFilter, EventPosition
from agent_mail_core.fields import Cursor, Id, PageSize, Request, Result
from agent_mail_core.ids import WebhookDeliveryId, WebhookId
from agent_mail_core.leases import insist
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.webhook_errors import WebhookDeliveryNotFound, WebhookEventGone
from agent_mail_core.webhook_jobs import attempt_of
from agent_mail_core.webhook_messages import event_message, send, trial_message
from agent_mail_core.webhooks import (
    DeliveryRecord,
    DeliveryState,
    Webhook,
    WebhookTarget,
    the_webhook,
    webhook_not_found,
    webhook_result,
)


class WebhookDelivery(Result):
    """What came of delivering one event."""

    delivery_id: int
    event: str
    """Its kind."""
    event_id: int
    """The last number of the `webhook-id` header."""
    state: DeliveryState
    attempts: int
    status_code: int | None = None
    error: str | None = None
    first_attempt_at: datetime
    last_attempt_at: datetime


def _delivery_result(record: DeliveryRecord) -> WebhookDelivery:
    return WebhookDelivery(
        delivery_id=record.id,
        event=record.kind,
        event_id=record.position.event_id,
        state=record.state,
        attempts=record.attempts,
        status_code=record.status_code,
        error=record.error,
        first_attempt_at=record.created_at,
        last_attempt_at=record.attempted_at,
    )


# --- list_webhook_deliveries ------------------------------------------------------------------------------------------


class ListWebhookDeliveries(Request):
    webhook_id: Id
    limit: PageSize = 20
    cursor: Cursor | None = None


class WebhookDeliveryPage(Result):
    deliveries: list[WebhookDelivery]
    next_cursor: str | None = None


async def list_webhook_deliveries(app: App, caller: Caller, request: ListWebhookDeliveries) -> WebhookDeliveryPage:
    """List a webhook's last deliveries, up to 200, newest first, and what came of them."""
    scope = list_scope("list_webhook_deliveries", caller.team_id, request.webhook_id)
    last = open_list_cursor(app.store.identity, scope, request.cursor, int)
    async with app.store.read() as db:
        webhook = await the_webhook(db, caller, request.webhook_id)
        before = WebhookDeliveryId(last[0]) if last else None
        rows = await db.webhooks.deliveries(webhook.id, before, request.limit + 1)
    page = rows[: request.limit]
    has_more = len(rows) > len(page)
    return WebhookDeliveryPage(
        deliveries=[_delivery_result(record) for record in page],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if has_more else None,
    )


# --- test_webhook -----------------------------------------------------------------------------------------------------


class TryWebhook(Request):
    webhook_id: Id


class TriedWebhook(Result):
    is_delivered: bool
    status_code: int | None = None
    """None: there was no answer."""
    error: str | None = None


async def test_webhook(app: App, caller: Caller, request: TryWebhook) -> TriedWebhook:
    """Send a webhook an event `webhook.test` at once, and say what it answers. Nothing else changes."""
    async with app.store.read() as db:
        target = await _the_target(db, caller, request.webhook_id)
    message = trial_message(app.store.identity.epoch, target.team_name, target.id, app.clock.now())
    outcome = await send(app, target, message)
    return TriedWebhook(is_delivered=outcome.error is None, status_code=outcome.status_code, error=outcome.error)


async def _the_target(db: Transaction, caller: Caller, webhook_id: int) -> WebhookTarget:
    webhook = await the_webhook(db, caller, webhook_id)
    target = await db.webhooks.target(webhook.id)
    if target is None:
        raise webhook_not_found(webhook_id)
    return target


# --- redeliver_webhook ------------------------------------------------------------------------------------------------


class RedeliverWebhook(Request):
    webhook_id: Id
    delivery_id: Id | None = Field(
        None, description="Send this one again, now; left out: go on with what failed, also when it was switched off"
    )


class RedeliveredWebhook(Result):
    webhook: Webhook
    delivery: WebhookDelivery | None = None
    """What came of it; None: it goes on in the background."""


async def redeliver_webhook(app: App, caller: Caller, request: RedeliverWebhook) -> RedeliveredWebhook:
    """Send one delivery again, out of turn, or switch a webhook on that was switched off. A success does that too."""
    delivery_id = WebhookDeliveryId(request.delivery_id) if request.delivery_id is not None else None
    if delivery_id is not None:
        await _send_again(app, caller, request.webhook_id, delivery_id)

    async def write() -> RedeliveredWebhook:
        async with app.store.write() as db:
            webhook = await the_webhook(db, caller, request.webhook_id)
            # The job comes before the webhook, as where it is done: each is locked.
            await db.jobs.want("webhook", webhook.id, caller.team_id)
            if delivery_id is None:
                await db.webhooks.switch_on(webhook.id)
                webhook = await the_webhook(db, caller, webhook.id)
            delivery = await db.webhooks.delivery(webhook.id, delivery_id) if delivery_id is not None else None
        shown = _delivery_result(delivery) if delivery is not None else None
        return RedeliveredWebhook(webhook=webhook_result(webhook), delivery=shown)

    redelivered = await insist(write)
    app.jobs.wake("webhook", request.webhook_id)
    return redelivered


async def _send_again(app: App, caller: Caller, webhook_id: int, delivery_id: WebhookDeliveryId) -> None:
    async with app.store.read() as db:
        target = await _the_target(db, caller, webhook_id)
        delivery = await db.webhooks.delivery(target.id, delivery_id)
        if delivery is None:
            raise WebhookDeliveryNotFound(delivery_id=delivery_id, suggestion="list_webhook_deliveries")
        entry = await _event(db, target, delivery.position)
    outcome = await send(app, target, event_message(app.store.identity.epoch, target.team_name, entry))
    attempt = attempt_of(target, entry, outcome)

    async def write() -> None:
        async with app.store.write() as db:
            if outcome.error is None:
                await db.webhooks.delivered(attempt)
            else:
                await db.webhooks.failed(attempt, None)

    await insist(write)


async def _event(db: Transaction, target: WebhookTarget, position: EventPosition) -> EventEntry:
    """The event of a delivery. Raises WebhookEventGone."""
    just_before = EventPosition(position.transaction, position.event_id - 1)
    found = await db.events.after(just_before, EventFilter(target.team_id, target.project_id), 1)
    entry = found.entries[0] if found.entries else None
    if entry is None or entry.position != position or not await db.webhooks.tells_of(entry.project_id):
        raise WebhookEventGone(webhook_id=WebhookId(target.id))
    return entry
