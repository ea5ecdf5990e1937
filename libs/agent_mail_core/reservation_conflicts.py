"""Who stands in the way of a reservation: a pure rule over what overlaps and how things are now (SPEC §3.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agent_mail_core.fields import Result
from agent_mail_core.globs import Pattern
from agent_mail_core.ids import ReservationId
from agent_mail_core.leases import Ticket
from agent_mail_core.reservation_overlaps import Overlaps, Rival, Wanted
from agent_mail_core.reservations import ReservationRecord

CONFLICTS_SHOWN = 100


class ReservationConflict(Result):
    """What stands, or with advisory would stand, in the way of a pattern."""

    pattern: str
    holder: str
    reservation_id: int | None = None
    """Theirs; none where it is `queued`."""
    their_pattern: str
    expires_at: datetime
    exclusive: bool
    advisory: bool = False
    """Then it stops nobody."""
    queued: bool = False
    """The holder is first in the queue for what has just become free."""
    reason: str | None = None


@dataclass(slots=True)
class Judgement:
    """Who stands in the way at one instant."""

    conflicts: list[ReservationConflict] = field(default_factory=list)
    """The first of them, as many as an answer shows."""
    more_conflicts: int = 0
    refused: set[int] = field(default_factory=set)
    """Places of the patterns that cannot be granted."""
    holding: set[ReservationId] = field(default_factory=set)
    """The reservations that they cannot be granted for."""
    next_change: timedelta | None = None
    """When the first of these reasons ends by itself."""

    def refuse(self, place: int, ends_in: timedelta) -> None:
        """A pattern cannot be granted before that time."""
        self.refused.add(place)
        self.next_change = ends_in if self.next_change is None else min(self.next_change, ends_in)

    def shows_more(self, count: int) -> int:
        """How many of so many more conflicts are to be described; the others are only counted."""
        shown = min(count, CONFLICTS_SHOWN - len(self.conflicts))
        self.more_conflicts += count - shown
        return shown


class _Standing:
    """Reservations by what they are now: as sets, since a call may meet each of them with each of its patterns."""

    def __init__(self, records: Mapping[ReservationId, ReservationRecord]) -> None:
        live = {one for one, record in records.items() if record.is_live}
        self._exclusive = {one for one, record in records.items() if record.is_exclusive}
        self._binding = {one for one, record in records.items() if not record.is_advisory}
        self._live = live
        self._kept = {one for one in self._binding - live if records[one].is_kept}

    def met(self, is_exclusive: bool) -> set[ReservationId]:
        """Live ones that are not shared in peace with what is exclusive, or not."""
        return self._live if is_exclusive else self._live & self._exclusive

    def refusing(self, is_exclusive: bool) -> set[ReservationId]:
        """Those of them that are not advisory."""
        return self.met(is_exclusive) & self._binding

    def kept(self, is_exclusive: bool) -> set[ReservationId]:
        """Those that would have refused a moment ago."""
        return self._kept if is_exclusive else self._kept & self._exclusive


def judge(
    wanted: Wanted,
    is_advisory: bool,
    overlaps: Overlaps,
    records: Mapping[ReservationId, ReservationRecord],
    own_ticket: Ticket | None,
) -> Judgement:
    """Who stands in the way of what an agent asks for, from what overlaps and how things are now.

    A live reservation of another agent, unless both share. It refuses unless it, or what is asked for, is advisory:
    such ones are there to be seen. Else a rival who came before and whose whole wish has just become free.
    """
    judgement = Judgement()
    standing = _Standing(records)
    met = standing.met(wanted.is_exclusive)
    refusing = set() if is_advisory else standing.refusing(wanted.is_exclusive)
    for place, touched in enumerate(overlaps.touched):
        found = touched & met
        if not found:
            continue
        shown = judgement.shows_more(len(found))
        if shown:
            judgement.conflicts += [_conflict(wanted.patterns[place], records[one]) for one in sorted(found)[:shown]]
        holding = found & refusing
        if holding:
            judgement.refused.add(place)
            judgement.holding |= holding
    if judgement.holding:
        judgement.next_change = min(records[one].next_change for one in judgement.holding)
    if not is_advisory:
        for rival in overlaps.rivals:
            if own_ticket is None or rival.ticket.id < own_ticket.id:
                _yield_to(rival, wanted, records, standing, judgement)
    return judgement


def _conflict(pattern: Pattern, record: ReservationRecord) -> ReservationConflict:
    return ReservationConflict(
        pattern=pattern.text,
        holder=record.agent_name,
        reservation_id=record.id,
        their_pattern=record.pattern,
        expires_at=record.expires_at,
        exclusive=record.is_exclusive,
        advisory=record.is_advisory,
        reason=record.reason,
    )


def _yield_to(
    rival: Rival,
    wanted: Wanted,
    records: Mapping[ReservationId, ReservationRecord],
    standing: _Standing,
    judgement: Judgement,
) -> None:
    """Refuse the pattern that a rival is to have, if all that it waits for has become free a moment ago."""
    if not (wanted.is_exclusive or rival.is_exclusive):
        return
    if not rival.touched.isdisjoint(standing.refusing(rival.is_exclusive)):
        return
    kept = rival.touched & standing.kept(rival.is_exclusive)
    if not kept:
        return
    last = max((records[one] for one in kept), key=lambda record: record.freed_at)
    place, their_pattern = rival.meeting
    if judgement.shows_more(1):
        judgement.conflicts.append(
            ReservationConflict(
                pattern=wanted.patterns[place].text,
                holder=rival.ticket.agent_name,
                their_pattern=their_pattern,
                expires_at=last.seen_at + last.next_change,
                exclusive=rival.is_exclusive,
                queued=True,
            )
        )
    judgement.refuse(place, last.next_change)
