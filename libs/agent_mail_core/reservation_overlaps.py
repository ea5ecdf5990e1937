"""What of a project's reservations overlaps with what an agent asks for, as far as patterns go.

Overlap never changes, so it is computed outside the project's lock and kept; who holds what, in which mode and whether
still, is judged under the lock. Only what came since is looked at again (DESIGN 8).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from agent_mail_core.globs import Pattern, PatternIndex, compile_pattern
from agent_mail_core.ids import AgentId, ReservationId
from agent_mail_core.leases import Ticket
from agent_mail_core.reservations import NO_RESERVATION, ReservedPattern, Snapshot
from agent_mail_core.time_slices import in_slices

BLOCK = 16
"""Reservations compared in one go: with the worst of patterns a millisecond or two."""

_Block: TypeAlias = tuple[PatternIndex, list[ReservationId], list[AgentId]]
"""Reservations, and whose they are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call asks for."""

    patterns: tuple[Pattern, ...]
    is_exclusive: bool

    def canonical(self) -> str:
        """As JSON, the same for whatever is the same."""
        patterns = sorted([pattern.text, pattern.is_literal] for pattern in self.patterns)
        return json.dumps({"exclusive": self.is_exclusive, "patterns": patterns}, ensure_ascii=False)


def wanted_of(ticket: Ticket) -> Wanted:
    """What a place in the queue is for."""
    wanted = json.loads(ticket.wanted)
    patterns = tuple(compile_pattern(text, is_literal) for text, is_literal in wanted["patterns"])
    return Wanted(patterns, wanted["exclusive"])


@dataclass(slots=True)
class Rival:
    """Somebody's place in the queue for what overlaps."""

    ticket: Ticket
    is_exclusive: bool
    meeting: tuple[int, str]
    """Which pattern that is asked for here, and which of the rival's."""
    touched: set[ReservationId] = field(default_factory=set)
    """Others' reservations that overlap with what the rival asks for."""


class Overlaps:
    """What is known of one asking. Reservations of the asking agent are left out."""

    def __init__(self, agent_id: AgentId, wanted: Wanted) -> None:
        self._agent_id = agent_id
        self._wanted = wanted
        self._examined: set[ReservationId] = set()
        self._blocks: list[_Block] = []
        self._tickets: set[int] = set()
        self.touched: list[set[ReservationId]] = [set() for _ in wanted.patterns]
        """For each pattern the reservations that overlap with it."""
        self.rivals: list[Rival] = []
        """In order of arrival."""

    @property
    def newest(self) -> ReservationId:
        """The last reservation that was looked at: what is newer is to be learnt."""
        return max(self._examined, default=NO_RESERVATION)

    def ids(self) -> list[ReservationId]:
        """All reservations that have a say."""
        return sorted(set().union(*self.touched, *(rival.touched for rival in self.rivals)))

    async def learn(self, seen: Snapshot, turn: asyncio.Lock) -> None:
        """Compare what was not yet seen, in slices. Outside of the project's lock."""
        await in_slices(self._steps(seen), turn)

    def learn_now(self, seen: Snapshot) -> None:
        """The same in one go."""
        for _ in self._steps(seen):
            pass

    def _steps(self, seen: Snapshot) -> Iterator[None]:
        new = [pattern for pattern in seen.patterns if pattern.id not in self._examined]
        for index, ids, owners in _blocks(new):
            self._blocks.append((index, ids, owners))
            for place, pattern in enumerate(self._wanted.patterns):
                found = index.overlapping(pattern)
                self.touched[place].update(ids[at] for at in found if owners[at] != self._agent_id)
                yield
            for rival in self.rivals:
                yield from _touch(rival, wanted_of(rival.ticket), index, ids, owners)
        self._examined.update(pattern.id for pattern in new)
        yield from self._meet_rivals(seen.tickets)

    def _meet_rivals(self, tickets: Iterable[Ticket]) -> Iterator[None]:
        tickets = list(tickets)
        standing = {ticket.id for ticket in tickets}
        self.rivals = [rival for rival in self.rivals if rival.ticket.id in standing]
        for ticket in tickets:
            if ticket.id in self._tickets or ticket.agent_id == self._agent_id:
                continue
            self._tickets.add(ticket.id)
            theirs = wanted_of(ticket)
            meeting = self._meeting(theirs)
            yield
            if meeting is not None:
                rival = Rival(ticket, theirs.is_exclusive, meeting)
                self.rivals.append(rival)
                for index, ids, owners in self._blocks:
                    yield from _touch(rival, theirs, index, ids, owners)
        self.rivals.sort(key=lambda rival: rival.ticket.id)

    def _meeting(self, theirs: Wanted) -> tuple[int, str] | None:
        index = PatternIndex(theirs.patterns)
        for place, pattern in enumerate(self._wanted.patterns):
            found = index.overlapping(pattern)
            if found:
                return place, theirs.patterns[found[0]].text
        return None


def _blocks(patterns: Sequence[ReservedPattern]) -> Iterator[_Block]:
    for start in range(0, len(patterns), BLOCK):
        block = patterns[start : start + BLOCK]
        yield (
            PatternIndex(compile_pattern(one.pattern, one.is_literal) for one in block),
            [one.id for one in block],
            [one.agent_id for one in block],
        )


def _touch(
    rival: Rival, theirs: Wanted, index: PatternIndex, ids: list[ReservationId], owners: list[AgentId]
) -> Iterator[None]:
    for pattern in theirs.patterns:
        found = index.overlapping(pattern)
        rival.touched.update(ids[at] for at in found if owners[at] != rival.ticket.agent_id)
        yield
