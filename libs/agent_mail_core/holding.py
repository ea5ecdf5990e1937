"""What becomes of reservations once they are granted: renewed, released, taken away (SPEC §3.6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field, model_validator

from agent_mail_core.agents import Actor, AgentRecord, the_agent
from agent_mail_core.fields import AgentName, Id, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, ReservationId
from agent_mail_core.leases import LeaseReason, leases_topic, lock_leases, refuse_retired
from agent_mail_core.ports import App, Caller, Role, Transaction, inbox_topics
from agent_mail_core.posts import tell
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.reservation_errors import HolderActive, ReservationNotFound
from agent_mail_core.reservation_patterns import Key, keys_of
from agent_mail_core.reservations import (
    MAX_PATHS,
    MAX_RESERVATIONS,
    Renewal,
    Reservation,
    ReservationRecord,
    ending_events,
    reservation_event,
    reservation_result,
)

ACTIVE_FOR = timedelta(minutes=10)
"""A reservation that was granted or renewed so lately is in use, whatever its holder does."""

Paths = Annotated[list[str], Field(min_length=1, max_length=MAX_PATHS)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=MAX_PATHS)]


class OwnReservations(Request):
    """Some of an agent's reservations."""

    project_slug: ProjectRef
    agent_name: AgentName
    paths: Paths | None = Field(None, description="As you reserved them; neither paths nor ids: all you have")
    ids: Ids | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> OwnReservations:
        if self.paths is not None and self.ids is not None:
            raise ValueError("give paths or ids, not both")
        return self


async def _named(
    db: Transaction, project: ProjectRecord, agent: AgentRecord, request: OwnReservations
) -> list[tuple[str, ReservationRecord | None]]:
    """The agent's reservations that a request names, live or ended, each with the path or id that it gives for it.

    A path may name two: one of a pattern and one of a literal. None where it names nothing.
    """
    if request.ids is not None:
        ids = list(dict.fromkeys(map(ReservationId, request.ids)))
        own = {record.id: record for record in await db.reservations.records(ids) if record.agent_id == agent.id}
        return [(str(one), own.get(one)) for one in ids]
    if request.paths is not None:
        return await _of_paths(db, project, agent, request.paths)
    live = await db.reservations.live(project.id, agent.id, None, MAX_RESERVATIONS)
    return [(record.pattern, record) for record in live]


async def _of_paths(
    db: Transaction, project: ProjectRecord, agent: AgentRecord, paths: Iterable[str]
) -> list[tuple[str, ReservationRecord | None]]:
    """For each path all that are live; where none is, the one that ended last, or None."""
    keys = {path: keys_of(path, project) for path in dict.fromkeys(paths)}
    found = _by_key(await db.reservations.live_of(agent.id, _texts(keys.values())))
    missing = _texts(several for several in keys.values() if several.isdisjoint(found))
    ended = _by_key(await db.reservations.last_of(agent.id, missing)) if missing else {}
    named: list[tuple[str, ReservationRecord | None]] = []
    for path, several in keys.items():
        if several.isdisjoint(found):
            over = [ended[key] for key in several & ended.keys()]
            named.append((path, max(over, key=lambda record: record.id, default=None)))
        named += [(path, found[key]) for key in sorted(several & found.keys())]
    return named


def _by_key(records: Iterable[ReservationRecord]) -> dict[Key, ReservationRecord]:
    return {(record.pattern, record.is_literal): record for record in records}


def _texts(keys: Iterable[set[Key]]) -> list[str]:
    return sorted({text for several in keys for text, _ in several})


# --- release_file -----------------------------------------------------------------------------------------------------


class ReleaseFile(OwnReservations):
    pass


class Released(Result):
    released_ids: list[int]
    count: int


async def release_file(app: App, caller: Caller, request: ReleaseFile) -> Released:
    """Let go of your reservations, of some or of all, as soon as you are done. Twice is fine."""
    async with app.store.write() as db:
        actor = await lock_leases(app, db, caller, request.project_slug, request.agent_name)
        if request.ids is None and request.paths is None:
            chosen = await db.reservations.live(actor.project.id, actor.agent.id, None, MAX_RESERVATIONS)
        else:
            named = await _named(db, actor.project, actor.agent, request)
            chosen = [record for _, record in named if record is not None]
        ended = await db.reservations.end([record.id for record in chosen], "released", actor.agent.name, None)
        await db.events.add(*ending_events(caller.team_id, ended))
    if ended:
        await app.wakeups.publish([leases_topic(actor.project.id)])
    ids = [record.id for record in ended if record.release_kind == "released"]
    return Released(released_ids=list(ids), count=len(ids))


# --- renew_file -------------------------------------------------------------------------------------------------------


class RenewFile(OwnReservations):
    ttl_seconds: int = Field(3600, ge=60, le=604_800)


class RenewedReservation(Result):
    """One lease: until when it goes on, or why it does not."""

    id: int | None = None
    path: str
    """The pattern, or the path or id that was given."""
    expires_at: datetime | None = None
    fence: int | None = None
    code: str | None = None
    """reservation_not_found, reservation_expired or reservation_released."""
    ended_at: datetime | None = None
    ended_by: str | None = None
    reason: str | None = None
    """Why it was taken away."""


class RenewedReservations(Result):
    reservations: list[RenewedReservation]


async def renew_file(app: App, caller: Caller, request: RenewFile) -> RenewedReservations:
    """Keep your reservations for ttl_seconds from now; each tells until when, or how it ended."""
    async with app.store.write() as db:
        actor = await lock_leases(app, db, caller, request.project_slug, request.agent_name)
        refuse_retired(actor)
        named = await _named(db, actor.project, actor.agent, request)
        ttl = timedelta(seconds=request.ttl_seconds)
        going_on = {record.id: record for _, record in named if record is not None and record.is_live}
        renewals = [Renewal(one.id, one.is_exclusive, one.is_advisory, None, ttl) for one in going_on.values()]
        renewed = {record.id: record for record in await db.reservations.renew(renewals)}
        await db.events.add(
            *(reservation_event("reservation.renewed", caller.team_id, record) for record in renewed.values())
        )
    return RenewedReservations(
        reservations=[
            _renewed(given, renewed.get(record.id, record) if record is not None else None) for given, record in named
        ]
    )


def _renewed(given: str, record: ReservationRecord | None) -> RenewedReservation:
    if record is None:
        return RenewedReservation(path=given, code="reservation_not_found")
    if record.is_live:
        return RenewedReservation(id=record.id, path=record.pattern, expires_at=record.expires_at, fence=record.fence)
    is_expired = record.release_kind in (None, "expired")
    return RenewedReservation(
        id=record.id,
        path=record.pattern,
        code="reservation_expired" if is_expired else "reservation_released",
        ended_at=record.freed_at,
        ended_by=record.released_by,
        reason=record.release_reason,
    )


# --- force_release_file -----------------------------------------------------------------------------------------------


class ForceReleaseFile(Request):
    project_slug: ProjectRef
    agent_name: AgentName = Field(description="Your agent")
    reservation_id: Id
    reason: LeaseReason = Field(description="Told to the holder")
    override: bool = Field(False, description="Administrators only: even if the holder is active")


class ForceReleased(Result):
    released: bool
    """False when it had ended before."""
    reservation: Reservation


async def force_release_file(app: App, caller: Caller, request: ForceReleaseFile) -> ForceReleased:
    """End a reservation that another agent seems to have left behind; refused while the holder is active."""
    async with app.store.write() as db:
        actor = await lock_leases(app, db, caller, request.project_slug, request.agent_name)
        refuse_retired(actor)
        found = await db.reservations.records([ReservationId(request.reservation_id)])
        record = next((one for one in found if one.project_id == actor.project.id), None)
        if record is None:
            raise ReservationNotFound(reservation_id=request.reservation_id, suggestion="list_reservations")
        if record.is_live and not (request.override and caller.role >= Role.admin):
            await _refuse_while_in_use(app, db, caller, request, record)
        ended = await db.reservations.end([record.id], "forced", actor.agent.name, request.reason)
        told: Sequence[AgentId] = ()
        if ended:
            record = ended[0]
            told = await _tell_holder(db, caller, actor, record, request.reason)
    if ended:
        await app.wakeups.publish([leases_topic(actor.project.id), *inbox_topics(told)])
    return ForceReleased(
        released=bool(ended) and record.release_kind == "forced", reservation=reservation_result(record)
    )


async def _refuse_while_in_use(
    app: App, db: Transaction, caller: Caller, request: ForceReleaseFile, record: ReservationRecord
) -> None:
    """Raise HolderActive unless the holder has long been idle, and the reservation is not new."""
    stale_for = timedelta(seconds=app.settings.reservation_stale_seconds)
    holder = await the_agent(db, caller, request.project_slug, record.agent_name)
    idle_since = holder.agent.last_active_at
    seen_here = app.presence.last_seen(record.agent_id)
    if seen_here is not None:
        idle_since = max(idle_since, seen_here)
    allowed_at = max(idle_since + stale_for, record.renewed_at + ACTIVE_FOR)
    if record.seen_at < allowed_at:
        raise HolderActive(holder=record.agent_name, allowed_at=allowed_at, suggestion="send_message")


async def _tell_holder(
    db: Transaction, caller: Caller, actor: Actor, record: ReservationRecord, reason: str
) -> Sequence[AgentId]:
    """Record that a reservation was taken away, and tell its holder by whom and why; whose inboxes have news."""
    if record.release_kind != "forced":
        await db.events.add(*ending_events(caller.team_id, [record]))
        return ()
    event = reservation_event("reservation.forced", caller.team_id, record, ended_by=actor.agent.name, reason=reason)
    await db.events.add(event)
    about = f"Your reservation {record.id} was released by {actor.agent.name}"
    # Indented, so that no character of pattern or reason means anything in Markdown.
    text = f"{about}.\n\n    {record.pattern}\n\nThe reason given:\n\n    {reason}"
    return await tell(db, caller, actor.project, record.agent_name, "force_release_file", about, text)
