"""Delivering webhooks: the job of one webhook, and finding those that have something to do.

A webhook's job sends one event after another, in the events' order; the next one only once the one before was taken.
The position is stored after each, so a worker that dies sends at most one event again, under the same id. When one
fails, the webhook waits, longer each time, for about a day; then it is switched off, and the Overseer is told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta

from agent_mail_core.agents import OVERSEER, SERVICE_OWNER, SYSTEM
from agent_mail_core.errors import NotFound
from agent_mail_core.event_feed import events_topic
from agent_mail_core.events import EventEntry, EventFilter, EventSlice
from agent_mail_core.ids import AgentId, WebhookId
from agent_mail_core.jobs import NOW, Job
from agent_mail_core.leases import insist
from agent_mail_core.ports import App, Caller, Role, Transaction, inbox_topics
from agent_mail_core.posts import Post, PostBody, indexed, send_post
from agent_mail_core.webhook_addresses import host_of
from agent_mail_core.webhook_messages import Outcome, event_message, send
from agent_mail_core.webhooks import Attempt, WebhookTarget

log = logging.getLogger("agent_mail.webhooks")

RETRIES = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=8),
    timedelta(hours=8, minutes=30),
)
"""How long to wait after the first failure, the second, …: 24 hours in all. The beginning is Standard Webhooks' own."""

JITTER = 0.1
"""A wait is up to so much longer, so that receivers that were away are not called all at once."""

LONGEST_ASKED_FOR = timedelta(hours=1)
"""A receiver's Retry-After lengthens a wait at most to this."""

EVENTS_AT_ONCE = 100
RUN_SECONDS = 20.0
"""After this long a job lets others have its place: it is due again at once, behind them."""

SETTLE = timedelta(seconds=1)
"""When to look again for events that an open transaction hides."""

WEBHOOKS_A_PAGE, WEBHOOK_PAGES = 500, 20

GONE_REASON = "the receiver answered that it is gone (410)"


# --- finding what there is to do --------------------------------------------------------------------------------------


async def want_webhooks(app: App) -> None:
    """Want the jobs of all webhooks that have new events before them."""
    after = WebhookId(0)
    for _ in range(WEBHOOK_PAGES):
        async with app.store.read() as db:
            found = await db.webhooks.behind(after, WEBHOOKS_A_PAGE)
        if not found:
            return
        async with app.store.write() as db:
            for webhook_id, team_id in found:
                await db.jobs.want("webhook", webhook_id, team_id)
        for webhook_id, _ in found:
            app.jobs.wake("webhook", webhook_id)
        after = found[-1][0]


# --- delivering -------------------------------------------------------------------------------------------------------


async def deliver_webhook(app: App, job: Job) -> timedelta | None:
    """Send the webhook `job.subject_id` what it has not had yet; when to go on, if there will be more."""
    webhook_id = WebhookId(job.subject_id)
    until = asyncio.get_running_loop().time() + RUN_SECONDS
    while True:
        async with app.store.read() as db:
            target = await db.webhooks.target(webhook_id)
            if target is None or not target.is_enabled:
                return None
            if target.due_in > NOW:
                return target.due_in
            wanted = EventFilter(target.team_id, target.project_id)
            found = await db.events.after(target.position, wanted, EVENTS_AT_ONCE)
        is_through, again_after = await _deliver(app, job, target, found, until)
        if not is_through:
            return again_after
        if not found.has_more:
            return SETTLE if found.is_behind else None
        if asyncio.get_running_loop().time() >= until:
            return NOW


async def _deliver(
    app: App, job: Job, target: WebhookTarget, found: EventSlice, until: float
) -> tuple[bool, timedelta | None]:
    """Send what the webhook wants of these events; whether that is done, else when to go on."""
    for entry in found.entries:
        if not target.wants(entry.kind):
            continue
        if asyncio.get_running_loop().time() >= until:
            return False, NOW
        async with app.store.read() as db:
            now = await db.webhooks.target(target.id)
            is_told = entry.kind == "project.deleted" or await db.webhooks.tells_of(entry.project_id)
        if now is None or not now.is_enabled:
            return False, None
        if not is_told:
            continue
        outcome = await send(app, target, event_message(app.store.identity.epoch, target.team_name, entry))
        attempt = attempt_of(target, entry, outcome)
        if outcome.error is not None:
            return False, await _failed(app, job, target, entry, attempt, outcome)
        if not await _delivered(app, job, attempt):
            return False, None
    if found.entries:
        async with app.store.write() as db:
            await db.jobs.hold(job)
            await db.webhooks.move_on(target.id, found.position)
    return True, None


def attempt_of(target: WebhookTarget, entry: EventEntry, outcome: Outcome) -> Attempt:
    """What is stored of it."""
    return Attempt(target.id, entry.position, entry.kind, outcome.status_code, outcome.error)


async def _delivered(app: App, job: Job, attempt: Attempt) -> bool:
    async def write() -> bool:
        async with app.store.write() as db:
            await db.jobs.hold(job)
            return await db.webhooks.delivered(attempt)

    return await insist(write)


# --- failing ----------------------------------------------------------------------------------------------------------


async def _failed(
    app: App, job: Job, target: WebhookTarget, entry: EventEntry, attempt: Attempt, outcome: Outcome
) -> timedelta | None:
    """Store it; when to try again. None: never."""
    pause = pause_after(target.attempts + 1, outcome.retry_after)
    if pause is None or outcome.is_gone:
        await _give_up(app, job, target, entry, attempt, GONE_REASON if outcome.is_gone else _reason(attempt))
        return None

    async def write() -> bool:
        async with app.store.write() as db:
            await db.jobs.hold(job)
            return await db.webhooks.failed(attempt, pause)

    return pause if await insist(write) else None


def pause_after(failures: int, asked_for: timedelta | None = None) -> timedelta | None:
    """How long to wait after so many failures in a row, 1 or more; None: it is enough."""
    if failures > len(RETRIES):
        return None
    pause = RETRIES[failures - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311 - jitter, not a secret
    return max(pause, min(asked_for, LONGEST_ASKED_FOR)) if asked_for is not None else pause


def _reason(attempt: Attempt) -> str:
    return f"it failed {len(RETRIES) + 1} times within a day, at last with: {attempt.error}"


class _IsGone(Exception):
    """The webhook was removed, or switched off, meanwhile."""


async def _give_up(app: App, job: Job, target: WebhookTarget, entry: EventEntry, attempt: Attempt, reason: str) -> None:
    """Switch it off and tell the Overseer of the project whose event it did not take, in one transaction."""
    body = await indexed(
        f"Webhook {target.id} to {host_of(target.url)} is switched off: {reason}.\n\n"
        "What happens meanwhile is kept for it. An administrator can have it go on (redeliver_webhook), or remove it."
    )

    async def write() -> tuple[AgentId, ...]:
        async with app.store.write() as db:
            await db.jobs.hold(job)
            # The mail comes first: its mailboxes are locked before the webhook, as when a project is deleted.
            mailboxes = await _tell_overseer(db, target, entry, body)
            if not await db.webhooks.switch_off(attempt, reason):
                raise _IsGone
            return mailboxes

    try:
        mailboxes = await insist(write)
    except _IsGone:
        return
    log.warning("webhook switched off", extra={"webhook_id": target.id, "team_id": target.team_id, "reason": reason})
    await app.wakeups.publish([events_topic(entry.project_id), *inbox_topics(mailboxes)])
    app.jobs.wake("outbox", 0)


async def _tell_overseer(
    db: Transaction, target: WebhookTarget, entry: EventEntry, body: PostBody
) -> tuple[AgentId, ...]:
    """Whose inboxes have news: nobody's when the project was deleted a moment ago."""
    caller = Caller(target.team_id, SERVICE_OWNER, Role.admin, "webhook")
    post = Post("escalate", SYSTEM, f"Webhook {target.id} is switched off", body, to=(OVERSEER,), is_of_service=True)
    try:
        return (await send_post(db, caller, entry.project_slug, post)).mailboxes
    except NotFound:
        return ()
