"""Build slots: places to build, test or deploy, of which a project has only so many (SPEC §2, §3.3 rule 5).

What is stored, and how it is shown. How leases are got is in `acquiring`, how they go on and end in `slot_holding`. At
most `capacity` leases of a slot are live, unless an administrator has lowered it since; an agent has one of them at
most.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Protocol

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from agent_mail_core.agents import AgentRecord
from agent_mail_core.build_slot_errors import SlotNotFound
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.events import EventKind, NewEvent
from agent_mail_core.fields import Cursor, Line, PageSize, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, ProjectId, SlotId, SlotLeaseId, TeamId
from agent_mail_core.leases import HOLD_TTL
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import ProjectRecord, the_project
from agent_mail_core.suggestions import near_names

MAX_SLOTS = 1000
"""Of a project."""

NEAR_NAME_POOL = 1000


NAME_LENGTH, TYPE_LENGTH = 128, 64


def _normal(text: str, length: int) -> str:
    """In NFC: two spellings that look the same are one slot, whose capacity holds for both."""
    normal = unicodedata.normalize("NFC", text)
    if normal != normal.strip() or not normal:
        raise PydanticCustomError("blank", "must not be blank, nor begin or end with a blank")
    if len(normal) > length:
        raise PydanticCustomError("too_long", f"must have at most {length} characters once normalized (NFC)")
    return normal


SlotName = Annotated[
    Line, Field(min_length=1, max_length=NAME_LENGTH), AfterValidator(partial(_normal, length=NAME_LENGTH))
]
SlotType = Annotated[
    Line, Field(min_length=1, max_length=TYPE_LENGTH), AfterValidator(partial(_normal, length=TYPE_LENGTH))
]
Capacity = Annotated[int, Field(ge=1, le=100)]
SlotTtl = Annotated[int, Field(ge=60, le=86_400)]


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """A slot as stored."""

    id: SlotId
    project_id: ProjectId
    name: str
    type: str
    capacity: int


@dataclass(frozen=True, slots=True)
class SlotLeaseRecord:
    """A lease as stored, its slot, and the database's time when it was read."""

    id: SlotLeaseId
    slot_id: SlotId
    slot_name: str
    slot_type: str
    agent_id: AgentId
    agent_name: str
    fence: int
    acquired_at: datetime
    expires_at: datetime
    released_at: datetime | None
    seen_at: datetime

    @property
    def is_live(self) -> bool:
        """Whether it was held when it was read."""
        return self.released_at is None and self.expires_at > self.seen_at

    @property
    def next_change(self) -> timedelta:
        """How long until it ends by itself; once it has, until its place is nobody's in particular."""
        freed_at = min(self.released_at or self.expires_at, self.expires_at)
        return (self.expires_at if self.is_live else freed_at + HOLD_TTL) - self.seen_at


class BuildSlots(Protocol):
    """Store of slots and their leases. Whatever changes them is called under the project's lease lock."""

    async def find(self, project_id: ProjectId, name: str, slot_type: str) -> SlotRecord | None:
        """The slot of that name and type, compared exactly."""
        ...

    async def make(
        self, team_id: TeamId, project_id: ProjectId, name: str, slot_type: str, capacity: int
    ) -> SlotRecord | None:
        """A new slot; None when the project has MAX_SLOTS."""
        ...

    async def set_capacity(self, slot_id: SlotId, capacity: int) -> SlotRecord:
        """Change it; leases that are held go on."""
        ...

    async def names(self, project_id: ProjectId, limit: int) -> list[str]:
        """Some of the project's slot names."""
        ...

    async def page(
        self, project_id: ProjectId, active_only: bool, after: tuple[str, str] | None, limit: int
    ) -> list[SlotRecord]:
        """In order of name and type. Active are those that somebody holds or queues for."""
        ...

    async def leases(self, slot_ids: Sequence[SlotId]) -> list[SlotLeaseRecord]:
        """The leases of slots that are live or were within HOLD_TTL, by id."""
        ...

    async def leases_of(self, agent_id: AgentId) -> list[SlotLeaseRecord]:
        """The live leases of an agent, by id."""
        ...

    async def acquire(self, slot_id: SlotId, agent_id: AgentId, fence: int, ttl: timedelta) -> SlotLeaseRecord:
        """Store a lease that ends `ttl` from now. What the agent had of this slot before has been ended."""
        ...

    async def renew(self, slot_id: SlotId, agent_id: AgentId, ttl: timedelta) -> SlotLeaseRecord | None:
        """Let the agent's live lease end `ttl` from now; None when it has none. Its fence stays."""
        ...

    async def release(self, slot_id: SlotId, agent_id: AgentId) -> SlotLeaseRecord | None:
        """End the agent's live lease; None when it has none."""
        ...

    async def release_all(self, agent_id: AgentId) -> list[SlotLeaseRecord]:
        """End all live leases of an agent."""
        ...

    async def close_expired(self, project_id: ProjectId, slot_id: SlotId | None, limit: int) -> list[SlotLeaseRecord]:
        """End up to `limit` leases of the project, or of one slot of it, whose time is over, each as of that time."""
        ...


def slot_event(kind: EventKind, team_id: TeamId, project_id: ProjectId, lease: SlotLeaseRecord) -> NewEvent:
    """What happened to a lease of a slot; the event is its holder's."""
    data = {"slot_name": lease.slot_name, "slot_type": lease.slot_type, "lease_id": lease.id, "fence": lease.fence}
    return NewEvent(kind, team_id, project_id, lease.agent_id, data=data)


def slot_wanted(slot: SlotRecord) -> str:
    """What a place in a slot's queue is for."""
    return f'{{"slot": {slot.id}}}'


async def the_slot(db: Transaction, project: ProjectRecord, name: str, slot_type: str) -> SlotRecord:
    """The project's slot of that name and type, or SlotNotFound with near names."""
    slot = await db.build_slots.find(project.id, name, slot_type)
    if slot is None:
        near = near_names(name, await db.build_slots.names(project.id, NEAR_NAME_POOL))
        raise SlotNotFound(slot_name=name, slot_type=slot_type, near=near or None, suggestion="list_slots")
    return slot


# --- results ----------------------------------------------------------------------------------------------------------


class SlotLease(Result):
    """A lease of a build slot."""

    id: int
    fence: int
    expires_at: datetime


class SlotHolder(Result):
    """Who holds a lease, and until when."""

    holder: str
    expires_at: datetime


class Slot(Result):
    """A build slot, who holds it, and who waits for it, the next one first."""

    slot_name: str
    slot_type: str
    capacity: int
    holders: list[SlotHolder]
    queue: list[str]


class HeldSlot(Result):
    """A lease of a build slot as part of its agent's profile."""

    slot_name: str
    slot_type: str
    fence: int
    expires_at: datetime


def lease_result(lease: SlotLeaseRecord) -> SlotLease:
    """A stored lease as its holder sees it."""
    return SlotLease(id=lease.id, fence=lease.fence, expires_at=lease.expires_at)


def holder_results(leases: Sequence[SlotLeaseRecord]) -> list[SlotHolder]:
    """Stored leases as others see them; only live ones."""
    return [SlotHolder(holder=lease.agent_name, expires_at=lease.expires_at) for lease in leases if lease.is_live]


async def slots_shown(db: Transaction, project: ProjectRecord, slots: Sequence[SlotRecord]) -> list[Slot]:
    """Slots of one project with their holders and queues."""
    leases = await db.build_slots.leases([slot.id for slot in slots])
    tickets = await db.leases.tickets(project.id, "slot")
    return [
        Slot(
            slot_name=slot.name,
            slot_type=slot.type,
            capacity=slot.capacity,
            holders=holder_results([lease for lease in leases if lease.slot_id == slot.id]),
            queue=[ticket.agent_name for ticket in tickets if ticket.wanted == slot_wanted(slot)],
        )
        for slot in slots
    ]


async def active_slots(db: Transaction, project: ProjectRecord, limit: int) -> list[Slot]:
    """Slots that somebody holds or waits for, for answers that show more than these."""
    return await slots_shown(db, project, await db.build_slots.page(project.id, True, None, limit))


async def slots_held(db: Transaction, agent: AgentRecord) -> list[HeldSlot]:
    """The slots that an agent has leases of, likewise."""
    return [
        HeldSlot(slot_name=lease.slot_name, slot_type=lease.slot_type, fence=lease.fence, expires_at=lease.expires_at)
        for lease in await db.build_slots.leases_of(agent.id)
    ]


# --- list_slots -------------------------------------------------------------------------------------------------------


class ListSlots(Request):
    project_slug: ProjectRef
    active_only: bool = Field(True, description="Only those held or queued for")
    limit: PageSize = 20
    cursor: Cursor | None = None


class SlotPage(Result):
    slots: list[Slot]
    next_cursor: str | None = None


async def list_slots(app: App, caller: Caller, request: ListSlots) -> SlotPage:
    """List build slots A-Z with their capacity, holders and queue."""
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        scope = list_scope("list_slots", caller.team_id, project.id, request.active_only)
        last = open_list_cursor(app.store.identity, scope, request.cursor, str, str)
        after = (last[0], last[1]) if last else None
        rows = await db.build_slots.page(project.id, request.active_only, after, request.limit + 1)
        page = rows[: request.limit]
        slots = await slots_shown(db, project, page)
    more = len(rows) > len(page)
    cursor = list_cursor(app.store.identity, scope, [page[-1].name, page[-1].type]) if more else None
    return SlotPage(slots=slots, next_cursor=cursor)
