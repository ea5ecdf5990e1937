"""Events: the append-only record of what happened (SPEC §3.4), written in the transaction that caused it.

Events hold ids, names and times, never bodies, and never a trace of a bcc. The outbox rows that background work starts
from point at them and are written with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
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


class Events(Protocol):
    """Store of events."""

    async def add(self, *events: NewEvent) -> None:
        """Append them in order, each with its outbox row."""
        ...

    async def of_agent(self, agent_id: AgentId, limit: int) -> list[EventRecord]:
        """What the agent did last, newest first."""
        ...
