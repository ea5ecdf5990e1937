"""Marking what an agent received: as read, and as acknowledged, which is read too. A bcc is marked without an event."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from agent_mail_core.agents import Actor, acting_agent
from agent_mail_core.errors import MessageNotFound, NotARecipient
from agent_mail_core.events import NewEvent
from agent_mail_core.fields import AgentName, Id, ProjectRef, Request, Result
from agent_mail_core.ids import MessageId
from agent_mail_core.ports import App, Caller, Transaction


class MarkRead(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    message_ids: list[Id] = Field(min_length=1, max_length=100)


class MarkedMessage(Result):
    message_id: int
    read_at: datetime | None = None
    code: str | None = None
    """Why it is not marked: message_not_found or not_a_recipient."""


class MarkedRead(Result):
    messages: list[MarkedMessage]


async def mark_read(app: App, caller: Caller, request: MarkRead) -> MarkedRead:
    """Mark messages of your inbox as read; each id gets its time, or the code that says why not."""
    wanted = [MessageId(message_id) for message_id in dict.fromkeys(request.message_ids)]
    async with app.store.write() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        marks = {mark.message_id: mark for mark in await db.mailboxes.mark_read(actor.agent.id, wanted, False)}
        missing = {
            message_id: await _why_not(db, caller, actor, message_id)
            for message_id in wanted
            if message_id not in marks
        }
        await db.events.add(
            *(
                NewEvent("message.read", caller.team_id, mark.project_id, actor.agent.id, mark.message_id)
                for mark in (marks[message_id] for message_id in wanted if message_id in marks)
                if mark.is_newly_read and not mark.is_bcc
            )
        )
    return MarkedRead(
        messages=[
            MarkedMessage(message_id=message_id, read_at=marks[message_id].read_at)
            if message_id in marks
            else MarkedMessage(message_id=message_id, code=missing[message_id].code)
            for message_id in wanted
        ]
    )


async def _why_not(
    db: Transaction, caller: Caller, actor: Actor, message_id: MessageId
) -> MessageNotFound | NotARecipient:
    """Why a message is not in the agent's inbox; one of another project looks like none."""
    record = await db.messages.get(caller.team_id, message_id)
    if record is None or record.project_id != actor.project.id:
        return MessageNotFound(message_id=message_id)
    return NotARecipient(message_id=message_id, agent_name=actor.agent.name)


class AcknowledgeMessage(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    message_id: Id


class Acknowledged(Result):
    message_id: int
    read_at: datetime
    acknowledged_at: datetime


async def acknowledge_message(app: App, caller: Caller, request: AcknowledgeMessage) -> Acknowledged:
    """Acknowledge a message of your inbox, which also marks it read. The first time stays."""
    message_id = MessageId(request.message_id)
    async with app.store.write() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        marks = await db.mailboxes.mark_read(actor.agent.id, [message_id], True)
        if not marks:
            raise await _why_not(db, caller, actor, message_id)
        mark = marks[0]
        kinds: list[Literal["message.read", "message.acknowledged"]] = []
        if mark.is_newly_read and not mark.is_bcc:
            kinds.append("message.read")
        if mark.is_newly_acknowledged and not mark.is_bcc:
            kinds.append("message.acknowledged")
        await db.events.add(
            *(NewEvent(kind, caller.team_id, mark.project_id, actor.agent.id, message_id) for kind in kinds)
        )
    assert mark.acknowledged_at is not None
    return Acknowledged(message_id=message_id, read_at=mark.read_at, acknowledged_at=mark.acknowledged_at)
