"""broadcast_message: one message to every agent that was active lately, none of whom learns who the others are."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from agent_mail_core.agents import Actor, acting_agent
from agent_mail_core.delivery import Skipped
from agent_mail_core.errors import TooManyRecipients
from agent_mail_core.fields import AgentName, Body, IdempotencyKey, Priority, ProjectRef, Request, Result, Subject
from agent_mail_core.kept_answers import answered_before, keep_answer, key_scope
from agent_mail_core.leases import refuse_retired
from agent_mail_core.ports import App, Caller, Transaction, inbox_topics
from agent_mail_core.posts import Post, indexed, send_post

MAX_RECIPIENTS = 500


class BroadcastMessage(Request):
    project_slug: ProjectRef
    sender_name: AgentName = Field(description="Your agent name")
    subject: Subject
    body_md: Body
    # Activity is written at most every 30 s: a shorter time would leave out who is active.
    active_within_seconds: int = Field(3600, ge=60, le=366 * 86_400, description="To those active within this time")
    priority: Priority = "normal"
    idempotency_key: IdempotencyKey | None = None


class Broadcast(Result):
    message_id: int
    thread_id: str
    created_at: datetime
    delivered: list[str]
    """Whom it went to, which only the sender is told."""
    skipped: list[Skipped]
    """Those who do not take mail from the sender, and why."""
    replayed: bool = False


async def broadcast_message(app: App, caller: Caller, request: BroadcastMessage) -> Broadcast:
    """Send a message to all recently active agents of your project (at most 500); each sees only itself as bcc."""
    body = await indexed(request.body_md)
    async with app.store.write() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.sender_name)
        scope = key_scope(caller, actor.agent.id, "broadcast_message", request.idempotency_key)
        replay = await answered_before(db, scope, request, Broadcast)
        if replay is not None:
            return replay
        refuse_retired(actor)
        names = await active_names(app, db, actor, timedelta(seconds=request.active_within_seconds))
        post = Post(
            operation="broadcast_message",
            sender_name=actor.agent.name,
            subject=request.subject,
            body=body,
            bcc=names,
            priority=request.priority,
            allow_partial=True,
        )
        delivered = await send_post(db, caller, actor.project.slug, post)
        sent = delivered.sent
        answer = Broadcast(
            message_id=sent.message_id,
            thread_id=sent.thread_id,
            created_at=sent.created_at,
            delivered=[recipient.name for recipient in sent.deliveries],
            skipped=sent.skipped,
        )
        await keep_answer(db, scope, answer)
    await app.wakeups.publish(inbox_topics(delivered.mailboxes))
    return answer


async def active_names(app: App, db: Transaction, sender: Actor, within: timedelta) -> list[str]:
    """The agents of the sender's project that were active within that time, without itself; or TooManyRecipients."""
    since = app.clock.now() - within
    found = await db.agents.page(sender.project.id, since, False, None, MAX_RECIPIENTS + 2)
    names = [agent.name for agent in found if agent.id != sender.agent.id]
    if len(names) > MAX_RECIPIENTS:
        raise TooManyRecipients(limit=MAX_RECIPIENTS, suggestion="a shorter active_within_seconds")
    return names
