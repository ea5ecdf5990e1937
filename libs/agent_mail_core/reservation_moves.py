"""Reservations that are handed from one agent to another, all or none (hand_off)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from agent_mail_core.agents import AgentRecord
from agent_mail_core.errors import InvalidPath
from agent_mail_core.globs import Pattern, compile_pattern
from agent_mail_core.ids import AgentId, ReservationId, TeamId
from agent_mail_core.ports import Transaction
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.reservation_errors import ReservationNotHeld, ReservationsSplit
from agent_mail_core.reservation_overlaps import Overlaps, Wanted
from agent_mail_core.reservation_patterns import Key, keys_of
from agent_mail_core.reservations import (
    NewReservation,
    ReservationRecord,
    Snapshot,
    ending_events,
    reservation_event,
)
from agent_mail_core.time_slices import in_slices

KEPT_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Handover:
    """Paths to hand over, and what of the giver's reservations overlaps with them as far as patterns go."""

    keys: Mapping[str, set[Key]]
    """What each path may have been reserved as."""
    patterns: tuple[Pattern, ...]
    """All that they may have been reserved as."""
    overlaps: Overlaps
    """Of `patterns` with all that the giver has."""


async def handover_of(
    paths: Sequence[str],
    project: ProjectRecord,
    from_agent: AgentRecord,
    to_agent: AgentRecord,
    seen: Snapshot,
    turn: asyncio.Lock,
) -> Handover:
    """Compare patterns, in slices, before anything is locked (DESIGN 8). Raises InvalidPath."""
    keys: dict[str, set[Key]] = {}
    patterns: dict[Pattern, None] = {}

    def steps() -> Iterator[None]:
        for path in paths:
            keys[path] = keys_of(path, project)
            for text, is_literal in sorted(keys[path]):
                with suppress(InvalidPath):  # then nobody has reserved it as that
                    patterns[compile_pattern(text, is_literal)] = None
                yield

    await in_slices(steps(), turn)
    overlaps = Overlaps(to_agent.id, Wanted(tuple(patterns), is_exclusive=True))
    await overlaps.learn(_only_of(from_agent.id, seen), turn)
    return Handover(keys, tuple(patterns), overlaps)


def _only_of(agent_id: AgentId, seen: Snapshot) -> Snapshot:
    return replace(seen, patterns=[one for one in seen.patterns if one.agent_id == agent_id], tickets=[])


async def move_reservations(
    db: Transaction,
    team_id: TeamId,
    project: ProjectRecord,
    from_agent: AgentRecord,
    to_agent: AgentRecord,
    handover: Handover,
) -> list[ReservationRecord]:
    """Hand live reservations whose patterns equal these paths to another agent: same expiry, new fence.

    All or nothing: ReservationNotHeld when from_agent lacks one; ReservationsSplit when it would keep another that
    overlaps, so that two agents held what only one of them can. What to_agent had of the same pattern becomes part of
    it. Takes the lease lock: call it before anything else that locks, and publish `leases_topic` after the commit.
    """
    if not handover.keys:
        return []
    await db.leases.lock(project.id)
    theirs = await _live_of(db, from_agent, {key for several in handover.keys.values() for key in several})
    missing = [path for path, several in handover.keys.items() if not several & theirs.keys()]
    if missing:
        raise ReservationNotHeld(agent_name=from_agent.name, paths=missing, suggestion="list_reservations")
    if from_agent.id == to_agent.id:
        return list(theirs.values())
    since = await db.reservations.snapshot(project.id, handover.overlaps.newest)
    handover.overlaps.learn_now(_only_of(from_agent.id, since))
    await _refuse_to_split(db, from_agent, theirs, handover)
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


async def _refuse_to_split(
    db: Transaction, from_agent: AgentRecord, going: Mapping[Key, ReservationRecord], handover: Handover
) -> None:
    """Raise ReservationsSplit if a reservation that stays would conflict with one that goes."""
    leaving = {record.id for record in going.values()}
    touched: dict[Key, set[ReservationId]] = {
        (pattern.text, pattern.is_literal): ids - leaving
        for pattern, ids in zip(handover.patterns, handover.overlaps.touched, strict=True)
    }
    met = {key: touched[key] for key in going if touched[key]}
    if not met:
        return
    records = {record.id: record for record in await db.reservations.records(sorted(set().union(*met.values())))}
    kept = {records[one].pattern for key, ids in met.items() for one in ids if _exclude(going[key], records[one])}
    if kept:
        raise ReservationsSplit(agent_name=from_agent.name, kept=sorted(kept)[:KEPT_SHOWN])


def _exclude(going: ReservationRecord, staying: ReservationRecord) -> bool:
    """Whether two agents cannot hold them at a time, given that they overlap."""
    is_binding = not (going.is_advisory or staying.is_advisory)
    return staying.is_live and is_binding and (going.is_exclusive or staying.is_exclusive)


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
