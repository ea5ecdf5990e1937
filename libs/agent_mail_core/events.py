"""Events: the append-only record of what happened (SPEC §3.4), written in the transaction that caused it.

Events hold ids, names and times, never bodies, and never a trace of a bcc. The outbox rows that background work starts
from point at them and are written with them. Followers (streams, the archive) read on with `Events.after`,
which never skips an event that commits late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from agent_mail_core.ids import AgentId, MessageId, ProjectId, TeamId

EventKind = Literal[
    "message.sent",
    "message.read",
    "message.acknowledged",
    "message.overdue",
    "agent.registered",
    "agent.updated",
    "agent.retired",
    "contact.requested",
    "contact.accepted",
    "contact.rejected",
    "contact.blocked",
    "contact.unblocked",
    "reservation.granted",
    "reservation.renewed",
    "reservation.released",
    "reservation.expired",
    "reservation.forced",
    "reservation.transferred",
    "slot.acquired",
    "slot.released",
    "slot.expired",
    "review.requested",
    "review.claimed",
    "review.completed",
    "review.cancelled",
    "project.created",
    "project.deleted",
    "product.linked",
    "product.unlinked",
    "thread.summarized",
]

ARCHIVE_TOPIC = "archive"
"""The outbox topic of what the git archive follows: every event."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to add; `agent_id` is who did it. The store gives it an id, a time and its outbox row."""

    kind: EventKind
    team_id: TeamId
    project_id: ProjectId
    agent_id: AgentId | None = None
    message_id: MessageId | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event as stored."""

    id: int
    kind: str
    agent_id: AgentId | None
    message_id: MessageId | None
    data: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True, order=True)
class EventPosition:
    """Where a follower stands, in the order in which events become readable: all up to here has been read."""

    transaction: int
    """Of PostgreSQL, whose events commit in another order than their ids'; 0 where ids are in the order of commits."""
    event_id: int


FIRST_POSITION = EventPosition(0, 0)
"""Before all events."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Whose events to follow: those of everybody, of a team, or of a project, and among them those about an agent.

    About an agent is what it did, and what is told of messages that it sent or received.
    """

    team_id: TeamId | None = None
    project_id: ProjectId | None = None
    agent_id: AgentId | None = None
    with_hidden: bool = False
    """Count messages in that the agent got as bcc: for its own eyes."""


@dataclass(frozen=True, slots=True)
class EventEntry:
    """An event with the names in it."""

    position: EventPosition
    kind: str
    team_id: TeamId
    project_id: ProjectId
    project_slug: str
    agent_id: AgentId | None
    agent_name: str | None
    message_id: MessageId | None
    data: dict[str, Any]
    created_at: datetime
    agent_project_id: ProjectId | None
    """The agent's own project: agents of others write here, and read what they got from here."""
    agent_project_slug: str | None
    """For a deleted project, the one it had."""
    agent_project_is_deleted: bool


@dataclass(frozen=True, slots=True)
class EventSlice:
    """What a follower reads at once."""

    entries: list[EventEntry]
    position: EventPosition
    """Where to go on: what the filter left out up to here has been looked at."""
    has_more: bool
    """Whether to go on at once."""
    is_behind: bool
    """Whether events are stored that cannot be read yet, because an older transaction is still open."""


class Events(Protocol):
    """Store of events."""

    async def add(self, *events: NewEvent) -> None:
        """Append them in order, each with its outbox row.

        Raises TransactionConflict when a project was deleted since this transaction found it, unless it is that which
        is told: what caused the event must not be left in it, and who tries again finds the project unknown.
        """
        ...

    async def of_agent(self, agent_id: AgentId, limit: int) -> list[EventRecord]:
        """What the agent did last, newest first."""
        ...

    async def marks(self, project_ids: Sequence[ProjectId]) -> dict[ProjectId, int]:
        """A number for each project, another one once an event was added; those that have none left out.

        An event that commits after 50 later ones may leave it as it is: only for who also looks from time to time.
        """
        ...

    async def after(self, position: EventPosition, wanted: EventFilter, limit: int) -> EventSlice:
        """The next events behind `position`, oldest first, of at most `limit` that are looked at.

        Whoever goes on from each slice's position reads every event exactly once, however late it was committed.
        """
        ...

    async def last_position(self) -> EventPosition:
        """Behind all that can be read now: where a follower begins who wants what comes from now on."""
        ...

    async def forgotten(self) -> EventPosition:
        """Up to here retention may have removed events: whoever stands before it has missed some."""
        ...

    async def forget(self, project_id: ProjectId, older_than: timedelta, limit: int) -> int:
        """Remove a project's oldest events, at most `limit`, that are older; how many.

        Stops at the first that background work still has to see, and removes none of a project on legal hold. Keeps
        `forgotten` true in the same transaction.
        """
        ...

    async def page(self, wanted: EventFilter, before: EventPosition | None, limit: int) -> list[EventEntry]:
        """Events of a team or project that is not deleted, newest first, below `before`; of an agent, what it did.

        That a project was deleted is told all the same.
        """
        ...
