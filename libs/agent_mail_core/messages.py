"""Messages as stored and as read: one message with its recipients, and what an agent sent.

Sending is in `sending`. A bcc is known to the sender and to its recipient only: `message_fields` is where that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import Field

from agent_mail_core.addresses import seen_from
from agent_mail_core.agents import acting_agent
from agent_mail_core.attachments import AttachmentInfo, AttachmentRecord, attachment_info
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import MessageNotFound
from agent_mail_core.fields import (
    AgentName,
    Cursor,
    Id,
    PageSize,
    PriorityWord,
    ProjectRef,
    RecipientKind,
    Request,
    Result,
)
from agent_mail_core.ids import AgentId, MessageId, ProjectId, TeamId, ThreadId
from agent_mail_core.pages import fitting
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import the_project


@dataclass(frozen=True, slots=True)
class RecipientState:
    """One recipient of a message."""

    message_id: MessageId
    agent_id: AgentId
    name: str
    """As the message's project writes it."""
    kind: RecipientKind
    read_at: datetime | None
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message as stored."""

    id: MessageId
    team_id: TeamId
    project_id: ProjectId
    project_slug: str
    thread_id: ThreadId
    thread_key: str
    parent_id: MessageId | None
    sender_id: AgentId
    sender_name: str
    """As the message's project writes it."""
    subject: str
    body_md: str | None
    """None when the bodies were not asked for."""
    priority: PriorityWord
    ack_required: bool
    created_at: datetime
    has_attachments: bool = False
    """Said by `get` and `of_thread` alone."""


class Messages(Protocol):
    """Store of messages, but for those of deleted projects. Sends go through `Store.deliver`."""

    async def get(self, team_id: TeamId, message_id: MessageId) -> MessageRecord | None:
        """A message of the team, with its body."""
        ...

    async def recipients(self, message_ids: Sequence[MessageId]) -> list[RecipientState]:
        """All recipients of these messages, bcc included, in the order they were given, message by message."""
        ...

    async def sent_by(
        self, agent_id: AgentId, before: MessageId | None, with_bodies: bool, limit: int
    ) -> list[MessageRecord]:
        """What an agent sent, newest first, below the id `before`."""
        ...

    async def of_thread(
        self,
        thread_id: ThreadId,
        after: MessageId | None,
        with_bodies: bool,
        limit: int,
        party: AgentId | None = None,
    ) -> list[MessageRecord]:
        """A thread's messages, oldest first, above the id `after`. A message that commits later has a higher id.

        With `party` only those that this agent sent or got.
        """
        ...

    async def newest_of_thread(
        self, thread_id: ThreadId, limit: int, party: AgentId | None = None
    ) -> list[MessageRecord]:
        """A thread's last messages without bodies, newest first; with `party` as in `of_thread`."""
        ...


class Recipient(Result):
    """Somebody that a message went to."""

    name: str
    kind: RecipientKind


# --- get_message ------------------------------------------------------------------------------------------------------


class RecipientView(Recipient):
    read_at: datetime | None = None
    acknowledged_at: datetime | None = None


class Message(Result):
    """A message as the project that was asked sees it: bcc only for the sender and that recipient."""

    message_id: int
    project_slug: str
    thread_id: str
    parent_id: int | None = None
    sender_name: str
    subject: str
    body_md: str | None = None
    priority: PriorityWord
    ack_required: bool
    created_at: datetime
    recipients: list[RecipientView]
    attachments: list[AttachmentInfo] | None = None


def message_fields(
    record: MessageRecord,
    states: Sequence[RecipientState],
    viewer: AgentId | None,
    asked_slug: str | None = None,
    files: Sequence[AttachmentRecord] = (),
) -> dict[str, Any]:
    """The fields of a Message for the eyes of `viewer`; None sees what everyone in the project does.

    `asked_slug` is the project that names and keys are shown for; None: the message's own.
    """
    home = record.project_slug
    asked = asked_slug or home
    return {
        "message_id": record.id,
        "project_slug": record.project_slug,
        "thread_id": seen_from(asked, home, record.thread_key),
        "parent_id": record.parent_id,
        "sender_name": seen_from(asked, home, record.sender_name),
        "subject": record.subject,
        "body_md": record.body_md,
        "priority": record.priority,
        "ack_required": record.ack_required,
        "created_at": record.created_at,
        "recipients": [
            RecipientView(
                name=seen_from(asked, home, state.name),
                kind=state.kind,
                read_at=state.read_at,
                acknowledged_at=state.acknowledged_at,
            )
            for state in states
            if state.kind != "bcc" or viewer in (record.sender_id, state.agent_id)
        ],
        "attachments": [attachment_info(file) for file in files] or None,
    }


async def attached_files(
    db: Transaction, records: Sequence[MessageRecord]
) -> Mapping[MessageId, Sequence[AttachmentRecord]]:
    """The attachments of messages by message. Nearly always no query."""
    wanted = [record.id for record in records if record.has_attachments]
    return await db.attachments.of_messages(wanted) if wanted else {}


def by_message(states: Sequence[RecipientState]) -> dict[MessageId, list[RecipientState]]:
    """Recipients grouped by their message, order kept."""
    grouped: dict[MessageId, list[RecipientState]] = {}
    for state in states:
        grouped.setdefault(state.message_id, []).append(state)
    return grouped


class GetMessage(Request):
    message_id: Id
    project_slug: ProjectRef | None = None
    agent_name: AgentName | None = Field(
        None, description="Your agent: adds your own read state, and bcc if you sent it"
    )


class MessageDetails(Message):
    read_at: datetime | None = None
    acknowledged_at: datetime | None = None


async def get_message(app: App, caller: Caller, request: GetMessage) -> MessageDetails:
    """Read one message: body, recipients, and who read or acknowledged it. Does not mark it read."""
    async with app.store.read() as db:
        asked = await the_project(db, caller, request.project_slug) if request.project_slug is not None else None
        record = await db.messages.get(caller.team_id, MessageId(request.message_id))
        if record is None:
            raise MessageNotFound(message_id=request.message_id)
        asked_slug = asked.slug if asked is not None else record.project_slug
        viewer = None
        if request.agent_name is not None:
            viewer = (await acting_agent(app, db, caller, asked_slug, request.agent_name)).agent.id
        states = await db.messages.recipients([record.id])
        own = next((state for state in states if state.agent_id == viewer), None)
        # From another project only the sender and the recipients read it (SPEC 3.3 rule 7).
        if asked_slug != record.project_slug and own is None and viewer != record.sender_id:
            raise MessageNotFound(message_id=request.message_id)
        files = await attached_files(db, [record])
    return MessageDetails(
        **message_fields(record, states, viewer, asked_slug, files.get(record.id, ())),
        read_at=own.read_at if own else None,
        acknowledged_at=own.acknowledged_at if own else None,
    )


# --- list_outbox ------------------------------------------------------------------------------------------------------


class ListOutbox(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    include_bodies: bool = False
    limit: PageSize = 20
    cursor: Cursor | None = None


class MessagePage(Result):
    messages: list[Message]
    next_cursor: str | None = None


async def list_outbox(app: App, caller: Caller, request: ListOutbox) -> MessagePage:
    """List what your agent sent, newest first, with who read and acknowledged it."""
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        scope = list_scope("list_outbox", caller.team_id, actor.agent.id)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        before = MessageId(int(last[0])) if last else None
        rows = await db.messages.sent_by(actor.agent.id, before, request.include_bodies, request.limit + 1)
        page = fitting(rows, request.limit)
        states = by_message(await db.messages.recipients([record.id for record in page]))
    return MessagePage(
        messages=[
            Message(**message_fields(record, states.get(record.id, ()), actor.agent.id, actor.project.slug))
            for record in page
        ],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if len(rows) > len(page) else None,
    )
