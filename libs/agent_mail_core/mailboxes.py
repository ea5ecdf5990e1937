"""Mailboxes: what an agent received, in the order in which it became visible (SPEC §3.2, DESIGN 4).

Each delivery has the next position of its recipient's mailbox, taken under the mailbox's lock, so whoever reads on
after a position never misses a message that committed late. Reading a list never consumes; mark_read and
acknowledge_message do (`marking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import Field, field_validator

from agent_mail_core.addresses import ThreadRef
from agent_mail_core.agents import Actor, reading_agent
from agent_mail_core.cursors import inbox_cursor, open_inbox_cursor
from agent_mail_core.errors import CursorExpired
from agent_mail_core.fields import (
    AgentName,
    Cursor,
    PageSize,
    Priority,
    PriorityRank,
    PriorityWord,
    ProjectRef,
    RecipientKind,
    Request,
    Timestamp,
)
from agent_mail_core.ids import AgentId, MessageId, ProjectId, ThreadId
from agent_mail_core.inbox_items import InboxItem, InboxMessages, with_attachments
from agent_mail_core.pages import fitting
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.threads import the_addressed_thread


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """Which deliveries to show; None and False let all through."""

    unread_only: bool = False
    min_priority: int | None = None
    thread_id: ThreadId | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboxSlice:
    """Deliveries and the state of their mailbox, seen at one instant."""

    items: list[InboxItem]
    position: int
    """The mailbox's highest position at that instant."""
    unread: int


@dataclass(frozen=True, slots=True)
class ReadMark:
    """The outcome for one message of mark_read or acknowledge_message."""

    message_id: MessageId
    project_id: ProjectId
    """The message's, where events tell of it."""
    read_at: datetime
    acknowledged_at: datetime | None
    is_newly_read: bool
    is_newly_acknowledged: bool
    is_bcc: bool
    """Then no event tells of it."""


@dataclass(frozen=True, slots=True)
class PendingAck:
    """Somebody who has yet to acknowledge a message. Names and key are as the project that was asked writes them."""

    message_id: MessageId
    thread_key: str
    sender_id: AgentId
    sender_name: str
    subject: str
    priority: PriorityWord
    created_at: datetime
    agent_id: AgentId
    agent_name: str
    kind: RecipientKind
    read_at: datetime | None


class Mailboxes(Protocol):
    """Store of deliveries, one mailbox an agent. Items come with or without bodies, named as the agent writes."""

    async def newest(
        self, agent_id: AgentId, below: int | None, wanted: InboxFilter, with_bodies: bool, limit: int
    ) -> InboxSlice:
        """Newest first, below the position `below`."""
        ...

    async def after(
        self, agent_id: AgentId, position: int, wanted: InboxFilter, with_bodies: bool, limit: int
    ) -> InboxSlice:
        """Oldest first, above `position`."""
        ...

    async def positions(self, agent_ids: Sequence[AgentId]) -> dict[AgentId, int]:
        """The last position in each mailbox; those without mail may be missing. One query, whatever their number."""
        ...

    async def mark_read(self, agent_id: AgentId, message_ids: Sequence[MessageId], acknowledge: bool) -> list[ReadMark]:
        """Mark those that the agent received as read, and acknowledged if so asked; the first time stays.

        Messages that it did not receive are left out; the marks come in any order. Takes the mailbox's lock before the
        deliveries'; keeps `unread` exact.
        """
        ...

    async def pending_acks(
        self,
        project_id: ProjectId,
        owed_by: AgentId | None,
        owed_to: AgentId | None,
        sent_before: datetime | None,
        after: tuple[MessageId, AgentId] | None,
        with_bcc: bool,
        limit: int,
    ) -> list[PendingAck]:
        """Unacknowledged deliveries of messages that ask for it, by message id, then agent id, above `after`.

        `owed_by` selects by recipient, `owed_to` by sender, in whatever project the messages are; neither: those of
        the project, which is otherwise only who asks. What is of a deleted project is not owed. Without `with_bcc` no
        bcc is shown. Retired recipients owe nothing.
        """
        ...


# --- check_inbox ------------------------------------------------------------------------------------------------------


class CheckInbox(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    cursor: Cursor | None = Field(None, description="From an earlier answer: what came after it, oldest first")
    before: Cursor | None = Field(None, description="An older_cursor: the page before it, newest first")
    limit: PageSize = 20
    unread_only: bool = False
    min_priority: Priority | None = None
    thread_id: ThreadRef | None = None
    since: Timestamp | None = Field(None, description="Only what was sent at or after this time")
    include_bodies: bool = False

    @field_validator("before")
    @classmethod
    def _one_direction(cls, before: str | None, info: object) -> str | None:
        if before is not None and getattr(info, "data", {}).get("cursor") is not None:
            raise ValueError("give cursor or before, not both")
        return before


class Inbox(InboxMessages):
    unread_count: int
    cursor: str
    """Give it to the next check_inbox or wait_for_messages."""
    older_cursor: str | None = None


async def check_inbox(app: App, caller: Caller, request: CheckInbox) -> Inbox:
    """Show your agent's inbox, newest first, or with cursor what came since. Does not mark anything read."""
    identity = app.store.identity
    async with app.store.read() as db:
        actor = await reading_agent(app, db, caller, request.project_slug, request.agent_name)
        agent_id = actor.agent.id
        wanted = await _filter(db, caller, actor, request)
        if request.cursor is not None:
            position = open_inbox_cursor(identity, agent_id, request.cursor)
            found = await db.mailboxes.after(agent_id, position, wanted, request.include_bodies, request.limit)
            expect_reached(found, position)
            items, position = read_forward(found, request.limit)
            items = await with_attachments(db, items) if request.include_bodies else items
            return Inbox.with_items(
                items,
                unread_count=found.unread,
                cursor=inbox_cursor(identity, agent_id, position),
            )
        below = open_inbox_cursor(identity, agent_id, request.before) if request.before is not None else None
        found = await db.mailboxes.newest(agent_id, below, wanted, request.include_bodies, request.limit + 1)
        expect_reached(found, below or 0)
        items = fitting(found.items, request.limit)
        if request.include_bodies:
            items = await with_attachments(db, items)
    highest = found.position if below is None else max(below - 1, 0)
    return Inbox.with_items(
        items,
        unread_count=found.unread,
        cursor=inbox_cursor(identity, agent_id, highest),
        older_cursor=(inbox_cursor(identity, agent_id, items[-1].position) if len(found.items) > len(items) else None),
    )


def expect_reached(found: InboxSlice, position: int) -> None:
    """Raise CursorExpired when a cursor's position is beyond the mailbox's: it is from before a restore.

    Whoever waited there would miss all that comes until the mailbox has grown as far again.
    """
    if position > found.position:
        raise CursorExpired(suggestion="check_inbox")


def read_forward(found: InboxSlice, limit: int) -> tuple[list[InboxItem], int]:
    """What of a slice read forward goes into a page, and the highest position that this covers.

    That is all of the mailbox, what a filter left out included, unless the page is full or was cut.
    """
    items = fitting(found.items, limit)
    is_whole = len(items) == len(found.items) < limit
    return items, found.position if is_whole else items[-1].position


async def _filter(db: Transaction, caller: Caller, actor: Actor, request: CheckInbox) -> InboxFilter:
    thread_id = None
    if request.thread_id is not None:
        _, thread = await the_addressed_thread(db, caller, actor.project, request.thread_id, actor.agent.id)
        thread_id = thread.id
    return InboxFilter(
        unread_only=request.unread_only,
        min_priority=PriorityRank[request.min_priority] if request.min_priority else None,
        thread_id=thread_id,
        since=request.since,
    )
