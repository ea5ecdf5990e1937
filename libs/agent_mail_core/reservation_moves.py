"""Reservations that are handed from one agent to another, all or none (hand_off)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from agent_mail_core.agents import AgentRecord
from agent_mail_core.errors import ReservationNotHeld
from agent_mail_core.ids import TeamId
from agent_mail_core.ports import Transaction
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.reservation_patterns import Key, keys_of
from agent_mail_core.reservations import NewReservation, ReservationRecord, ending_events, reservation_event


async def move_reservations(
    db: Transaction,
    team_id: TeamId,
    project: ProjectRecord,
    from_agent: AgentRecord,
    to_agent: AgentRecord,
    paths: Sequence[str],
) -> list[ReservationRecord]:
    """Hand live reservations whose patterns equal these paths to another agent: same expiry, new fence.

    All or nothing: ReservationNotHeld when from_agent lacks one, InvalidPath for what is no path. What to_agent had of
    the same pattern becomes part of it. Takes the lease lock: call it before anything else that locks, and publish
    `leases_topic` after the commit.
    """
    if not paths:
        return []
    await db.leases.lock(project.id)
    keys = {path: keys_of(path, project) for path in paths}
    wanted = {key for several in keys.values() for key in several}
    theirs = await _live_of(db, from_agent, wanted)
    missing = [path for path, several in keys.items() if not several & theirs.keys()]
    if missing:
        raise ReservationNotHeld(agent_name=from_agent.name, paths=missing, suggestion="list_reservations")
    if from_agent.id == to_agent.id:
        return list(theirs.values())
    had = await _live_of(db, to_agent, set(theirs))
    old = [*theirs.values(), *had.values()]
    ended = await db.reservations.end([record.id for record in old], "transferred", to_agent.name, None)
    if any(record.release_kind == "expired" for record in ended):
        raise ReservationNotHeld(agent_name=from_agent.name, suggestion="list_reservations")
    fences = await db.leases.fences(project.id, len(theirs))
    await db.leases.change(project.id)
    moved = await db.reservations.grant(
        [
            _moved(team_id, to_agent, record, had.get(key), fence)
            for (key, record), fence in zip(theirs.items(), fences, strict=True)
        ]
    )
    await db.events.add(
        *ending_events(team_id, (record for record in ended if record.agent_id == from_agent.id)),
        *(reservation_event("reservation.granted", team_id, record) for record in moved),
    )
    return moved


def _moved(
    team_id: TeamId, to_agent: AgentRecord, record: ReservationRecord, had: ReservationRecord | None, fence: int
) -> NewReservation:
    """The reservation in its new hands, with what those had of the same pattern."""
    binding = _binding(record, had)
    return NewReservation(
        team_id=team_id,
        project_id=record.project_id,
        agent_id=to_agent.id,
        pattern=record.pattern,
        is_literal=record.is_literal,
        is_exclusive=binding.is_exclusive,
        is_advisory=binding.is_advisory,
        reason=record.reason,
        fence=fence,
        ttl=timedelta(0),
        expires_at=max(record.expires_at, (had or record).expires_at),
    )


async def _live_of(db: Transaction, agent: AgentRecord, keys: set[Key]) -> dict[Key, ReservationRecord]:
    last = await db.reservations.last_of(agent.id, sorted({text for text, _ in keys}))
    by_key = {(record.pattern, record.is_literal): record for record in last if record.is_live}
    return {key: by_key[key] for key in sorted(keys & by_key.keys())}


def _binding(moved: ReservationRecord, had: ReservationRecord | None) -> ReservationRecord:
    """The one of two whose mode holds when they become one: others have agreed to that one only."""
    return had if had is not None and moved.is_advisory and not had.is_advisory else moved
