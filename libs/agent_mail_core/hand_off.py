"""hand_off: work goes from one agent to another: one message, and the reservations that it needs, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field

from agent_mail_core.agents import Actor, acting_agent, still_acting, the_agent
from agent_mail_core.errors import Invalid, RecipientsRefused
from agent_mail_core.fields import AgentName, Description, IdempotencyKey, Line, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId
from agent_mail_core.kept_answers import answered_before, keep_answer, key_scope
from agent_mail_core.leases import leases_topic, refuse_retired
from agent_mail_core.ports import App, Caller, Transaction, inbox_topics
from agent_mail_core.posts import Post, PostBody, indexed, send_post
from agent_mail_core.reservation_moves import Handover, handover_of, move_reservations
from agent_mail_core.reservations import MAX_PATHS, Reservation, Snapshot, reservation_result
from agent_mail_core.sending import with_contacts_asked

Task = Annotated[Line, Field(min_length=1, max_length=1000)]


class HandOff(Request):
    project_slug: ProjectRef
    from_agent: AgentName = Field(description="Your agent name")
    to_agent: AgentName
    task: Task = Field(description="What is to be done, in a line")
    paths: list[Line] = Field(
        default_factory=list, max_length=MAX_PATHS, description="Reservations of yours to move, as you reserved them"
    )
    notes: Description | None = Field(None, description="What it needs to know, in Markdown")
    idempotency_key: IdempotencyKey | None = None


class HandedOff(Result):
    message_id: int
    thread_id: str
    created_at: datetime
    reservations: list[Reservation]
    """As to_agent now holds them: with their expiry and new fences."""
    replayed: bool = False


async def hand_off(app: App, caller: Caller, request: HandOff) -> HandedOff:
    """Hand work over to another agent: a message, and your reservations of paths move to it; all of it or nothing."""
    body = await indexed(_text(request))
    giver, handover = await _looked_at(app, caller, request)
    try:
        async with app.store.write() as db:
            giver = await still_acting(app, db, caller, giver)
            await db.leases.lock(giver.project.id)
            scope = key_scope(caller, giver.agent.id, "hand_off", request.idempotency_key)
            replay = await answered_before(db, scope, request, HandedOff)
            if replay is not None:
                return replay
            answer, mailboxes = await _hand_off(app, db, caller, request, body, giver, handover)
            await keep_answer(db, scope, answer)
    except RecipientsRefused as error:
        raise await with_contacts_asked(app, caller, error) from None
    await app.wakeups.publish([*inbox_topics(mailboxes), leases_topic(giver.project.id)])
    return answer


async def _looked_at(app: App, caller: Caller, request: HandOff) -> tuple[Actor, Handover]:
    """Who hands over, and what: compared before anything is locked, and found again under the lock."""
    async with app.store.read() as db:
        giver = await acting_agent(app, db, caller, request.project_slug, request.from_agent)
        taker = await the_agent(db, caller, request.project_slug, request.to_agent)
        seen = await db.reservations.snapshot(giver.project.id) if request.paths else Snapshot(0, [], [], 0)
    handover = await handover_of(request.paths, giver.project, giver.agent, taker.agent, seen, app.long_turn)
    return giver, handover


async def _hand_off(
    app: App,
    db: Transaction,
    caller: Caller,
    request: HandOff,
    body: PostBody,
    known: Actor,
    handover: Handover,
) -> tuple[HandedOff, Sequence[AgentId]]:
    """Under the lease lock; the answer, and whose inboxes have news."""
    giver = await still_acting(app, db, caller, known)  # it may have retired while the lock was waited for
    taker = await the_agent(db, caller, giver.project.slug, request.to_agent)
    _refuse(giver, taker)
    moved = await move_reservations(db, caller.team_id, giver.project, giver.agent, taker.agent, handover)
    post = Post(
        operation="hand_off",
        sender_name=giver.agent.name,
        subject=f"Hand-off: {request.task}",
        body=body,
        to=(taker.agent.name,),
        asks_for_contacts=True,
    )
    delivered = await send_post(db, caller, giver.project.slug, post)
    answer = HandedOff(
        message_id=delivered.sent.message_id,
        thread_id=delivered.sent.thread_id,
        created_at=delivered.sent.created_at,
        reservations=[reservation_result(record) for record in moved],
    )
    return answer, delivered.mailboxes


def _refuse(giver: Actor, taker: Actor) -> None:
    """Raise unless one agent can hand over to the other. Whether the taker is retired, the send decides."""
    refuse_retired(giver)
    if taker.agent.id == giver.agent.id:
        raise Invalid("from_agent and to_agent are the same agent.", agent_name=giver.agent.name)
    if taker.agent.is_service:
        recipients = [{"name": taker.agent.name, "code": "service_agent"}]
        raise RecipientsRefused("Overseer and System take over no work.", recipients=recipients)


def _text(request: HandOff) -> str:
    parts = [request.task]
    if request.notes:
        parts.append(request.notes)
    if request.paths:
        # Indented, so that no character of a path means anything in Markdown.
        paths = "\n".join(f"    {path}" for path in request.paths)
        parts.append(f"Reserved for you (list_reservations shows until when):\n\n{paths}")
    return "\n\n".join(parts)
