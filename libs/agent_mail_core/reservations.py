"""Reservations: paths that an agent keeps for itself, or shares, until it lets go or its time is over (SPEC §3.6).

What is stored, and how it is shown. How reservations are granted is in `reserving`, how they go on and end in
`holding`. Two agents never hold overlapping reservations of which one is exclusive, unless one is advisory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field

from agent_mail_core.agents import the_agent
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.events import EventKind, NewEvent
from agent_mail_core.fields import AgentName, Cursor, PageSize, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, ProjectId, ReservationId, TeamId
from agent_mail_core.leases import HOLD_TTL, Ticket
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import the_project

MAX_RESERVATIONS = 5_000
"""Of a project, at a time."""

MAX_PATHS = 100
"""That one call names."""

ReleaseKind = Literal["released", "expired", "forced", "transferred", "retired"]


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """A reservation as stored, and the database's time when it was read."""

    id: ReservationId
    project_id: ProjectId
    agent_id: AgentId
    agent_name: str
    pattern: str
    is_literal: bool
    is_exclusive: bool
    is_advisory: bool
    reason: str | None
    fence: int
    granted_at: datetime
    renewed_at: datetime
    expires_at: datetime
    released_at: datetime | None
    release_kind: ReleaseKind | None
    released_by: str | None
    release_reason: str | None
    seen_at: datetime

    @property
    def is_live(self) -> bool:
        """Whether it was held when it was read."""
        return self.released_at is None and self.expires_at > self.seen_at

    @property
    def freed_at(self) -> datetime:
        """When it ends, or did."""
        return min(self.released_at or self.expires_at, self.expires_at)

    @property
    def is_kept(self) -> bool:
        """Whether it has ended so lately that the head of a queue still has it to itself."""
        return not self.is_live and self.seen_at - self.freed_at < HOLD_TTL

    @property
    def next_change(self) -> timedelta:
        """How long what `is_live` or `is_kept` says stays as it is, if nobody does anything."""
        return (self.expires_at if self.is_live else self.freed_at + HOLD_TTL) - self.seen_at


@dataclass(frozen=True, slots=True)
class NewReservation:
    """A reservation to grant. `ttl` counts from when it is stored, unless `expires_at` is given."""

    team_id: TeamId
    project_id: ProjectId
    agent_id: AgentId
    pattern: str
    is_literal: bool
    is_exclusive: bool
    is_advisory: bool
    reason: str | None
    fence: int
    ttl: timedelta
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """A live reservation to go on with, `ttl` from now."""

    id: ReservationId
    is_exclusive: bool
    is_advisory: bool
    reason: str | None
    ttl: timedelta


class ReservedPattern(NamedTuple):
    """The part of a reservation that decides what it overlaps, and never changes."""

    id: ReservationId
    agent_id: AgentId
    pattern: str
    is_literal: bool


NO_RESERVATION = ReservationId(0)
"""Before all of them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stands in a project, at least as new as its lease version says."""

    version: int
    patterns: list[ReservedPattern]
    """Of reservations that are live or were within HOLD_TTL; only the newer ones, if those were asked for."""
    tickets: list[Ticket]
    count: int
    """Of all such reservations, those included that were not asked for."""


class Reservations(Protocol):
    """Store of reservations. Whatever changes them is called under the project's lease lock."""

    async def snapshot(self, project_id: ProjectId, after: ReservationId = NO_RESERVATION) -> Snapshot:
        """What to look for overlaps in; the version is read first.

        With `after` only reservations beyond it. Ids grow in the order in which a project's reservations are added: who
        has seen a snapshot asks for what came after the last one in it.
        """
        ...

    async def records(self, ids: Sequence[ReservationId]) -> list[ReservationRecord]:
        """Those of the ids that there are, by id."""
        ...

    async def live(
        self, project_id: ProjectId, agent_id: AgentId | None, below: ReservationId | None, limit: int
    ) -> list[ReservationRecord]:
        """Live ones of the project, or of one agent of it, newest first, below an id."""
        ...

    async def page(
        self, project_id: ProjectId, agent_id: AgentId | None, below: ReservationId | None, limit: int
    ) -> list[ReservationRecord]:
        """Live and ended ones, likewise."""
        ...

    async def live_of(self, agent_id: AgentId, patterns: Sequence[str]) -> list[ReservationRecord]:
        """The agent's live reservations of these patterns, literal and not, by id. However many have ended."""
        ...

    async def last_of(self, agent_id: AgentId, patterns: Sequence[str]) -> list[ReservationRecord]:
        """The agent's newest reservation of each of these patterns, live or ended; literal and not are two."""
        ...

    async def grant(self, new: Sequence[NewReservation]) -> list[ReservationRecord]:
        """Store them, in order."""
        ...

    async def renew(self, renewals: Sequence[Renewal]) -> list[ReservationRecord]:
        """Let them end `ttl` from now, with another mode, and a reason that is not None; their fences stay."""
        ...

    async def end(
        self, ids: Sequence[ReservationId], kind: ReleaseKind, by: str | None, reason: str | None
    ) -> list[ReservationRecord]:
        """End those of the ids that have not ended; which they were, by id.

        Those past their time end as expired, whatever the kind.
        """
        ...

    async def close_expired(self, project_id: ProjectId, limit: int) -> list[ReservationRecord]:
        """End up to `limit` reservations whose time is over, each as of that time."""
        ...


def reservation_event(kind: EventKind, team_id: TeamId, record: ReservationRecord, **more: Any) -> NewEvent:
    """What happened to a reservation; the event is its holder's."""
    data = {"reservation_id": record.id, "pattern": record.pattern, "fence": record.fence, **more}
    return NewEvent(kind, team_id, record.project_id, record.agent_id, data=data)


_ENDINGS: dict[ReleaseKind, EventKind] = {
    "released": "reservation.released",
    "expired": "reservation.expired",
    "forced": "reservation.forced",
    "transferred": "reservation.transferred",
    "retired": "reservation.released",
}


def ending_events(team_id: TeamId, records: Iterable[ReservationRecord]) -> list[NewEvent]:
    """That reservations have ended, each in its own way."""
    return [
        reservation_event(_ENDINGS[record.release_kind], team_id, record, ended_by=record.released_by)
        for record in records
        if record.release_kind is not None
    ]


# --- results ----------------------------------------------------------------------------------------------------------


class Reservation(Result):
    """A file reservation."""

    id: int
    holder: str
    pattern: str
    literal: bool
    exclusive: bool
    advisory: bool
    reason: str | None = None
    fence: int
    granted_at: datetime
    expires_at: datetime
    ended: ReleaseKind | None = None
    """How, if it has."""
    ended_at: datetime | None = None
    ended_by: str | None = None
    end_reason: str | None = None


def reservation_result(record: ReservationRecord) -> Reservation:
    """A stored reservation as the wire shows it: past its time it has expired, whoever has noticed."""
    return Reservation(
        id=record.id,
        holder=record.agent_name,
        pattern=record.pattern,
        literal=record.is_literal,
        exclusive=record.is_exclusive,
        advisory=record.is_advisory,
        reason=record.reason,
        fence=record.fence,
        granted_at=record.granted_at,
        expires_at=record.expires_at,
        ended=None if record.is_live else record.release_kind or "expired",
        ended_at=None if record.is_live else record.freed_at,
        ended_by=record.released_by,
        end_reason=record.release_reason,
    )


async def live_reservations(
    db: Transaction, project_id: ProjectId, agent_id: AgentId | None, limit: int
) -> list[Reservation]:
    """The newest live reservations of a project, or of one of its agents, for answers that show more than these."""
    return [reservation_result(record) for record in await db.reservations.live(project_id, agent_id, None, limit)]


# --- list_reservations ------------------------------------------------------------------------------------------------


class ListReservations(Request):
    project_slug: ProjectRef
    agent_name: AgentName | None = Field(None, description="Only this agent's")
    active_only: bool = True
    limit: PageSize = 20
    cursor: Cursor | None = None


class ReservationPage(Result):
    reservations: list[Reservation]
    next_cursor: str | None = None


async def list_reservations(app: App, caller: Caller, request: ListReservations) -> ReservationPage:
    """List file reservations, newest first: who keeps which paths, why, and until when."""
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        agent_id = None
        if request.agent_name is not None:
            agent_id = (await the_agent(db, caller, request.project_slug, request.agent_name)).agent.id
        scope = list_scope("list_reservations", caller.team_id, project.id, agent_id, request.active_only)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        below = ReservationId(last[0]) if last else None
        found = db.reservations.live if request.active_only else db.reservations.page
        rows = await found(project.id, agent_id, below, request.limit + 1)
    page = rows[: request.limit]
    return ReservationPage(
        reservations=[reservation_result(record) for record in page],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if len(rows) > len(page) else None,
    )
