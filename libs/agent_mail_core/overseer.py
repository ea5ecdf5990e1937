"""send_overseer_message: how a person writes to agents, past every policy and block (SPEC §3.3 rule 4).

It comes from Overseer, an agent of the project that nobody registers or acts as. Agents may answer it; its inbox is
read by those who may write as it.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from agent_mail_core.agents import OVERSEER, the_agent
from agent_mail_core.broadcasting import active_names
from agent_mail_core.delivery import SentMessage
from agent_mail_core.fields import Address, Body, IdempotencyKey, ProjectRef, Request, Subject
from agent_mail_core.kept_answers import answered_before, keep_answer, key_scope
from agent_mail_core.ports import App, Caller, inbox_topics
from agent_mail_core.posts import Post, indexed, send_post
from agent_mail_core.sending import MAX_RECIPIENTS

ACTIVE_WITHIN = timedelta(hours=1)
"""Who is written to when nobody is named: the default of broadcast_message."""


class SendOverseerMessage(Request):
    project_slug: ProjectRef
    recipient_names: list[Address] = Field(
        default_factory=list, max_length=MAX_RECIPIENTS, description="Nobody: all that were active within an hour"
    )
    subject: Subject
    body_md: Body
    idempotency_key: IdempotencyKey | None = None


async def send_overseer_message(app: App, caller: Caller, request: SendOverseerMessage) -> SentMessage:
    """Write to agents as the project's Overseer: urgent, and past every contact policy and block."""
    body = await indexed(request.body_md)
    async with app.store.write() as db:
        overseer = await the_agent(db, caller, request.project_slug, OVERSEER)
        scope = key_scope(caller, overseer.agent.id, "send_overseer_message", request.idempotency_key)
        replay = await answered_before(db, scope, request, SentMessage)
        if replay is not None:
            return replay
        names = request.recipient_names or await active_names(app, db, overseer, ACTIVE_WITHIN)
        post = Post(
            operation="send_overseer_message",
            sender_name=overseer.agent.name,
            subject=request.subject,
            body=body,
            to=names,
            priority="urgent",
            # Whoever was found active and has retired a moment later was not asked for by name.
            allow_partial=not request.recipient_names,
            is_of_service=True,
        )
        delivered = await send_post(db, caller, overseer.project.slug, post)
        await keep_answer(db, scope, delivered.sent)
    await app.wakeups.publish(inbox_topics(delivered.mailboxes))
    return delivered.sent
