"""reserve_file: granting reservations, waiting for them, and saying who stands in the way (SPEC §3.6, §3.3 rule 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import Field, model_validator

from agent_mail_core.agents import Actor, acting_agent
from agent_mail_core.errors import TooManyWaiters
from agent_mail_core.fields import AgentName, ProjectRef, Request, Result
from agent_mail_core.globs import Pattern
from agent_mail_core.ids import ReservationId
from agent_mail_core.lease_ends import EXPIRED_AT_ONCE, close_expired_reservations
from agent_mail_core.leases import (
    KEPT_PLACE_HINT,
    TRIES,
    LeaseReason,
    Look,
    Ticket,
    WaitSeconds,
    lease_holder,
    leases_topic,
    refuse_retired,
    wait_for_lease,
)
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.reservation_conflicts import Judgement, ReservationConflict, judge
from agent_mail_core.reservation_errors import TooManyReservations
from agent_mail_core.reservation_overlaps import Overlaps, Wanted
from agent_mail_core.reservation_patterns import patterns_of
from agent_mail_core.reservations import (
    MAX_PATHS,
    MAX_RESERVATIONS,
    NewReservation,
    Renewal,
    ReservationRecord,
    Snapshot,
    reservation_event,
)

REFUSED_HINT = (
    "Write to the holder with send_message, or call reserve_file with wait_seconds to wait for it in a queue. "
    "What a holder left behind, force_release_file ends."
)


class ReserveFile(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    paths: list[str] = Field(
        min_length=1, max_length=MAX_PATHS, description="Files, directories, or globs (src/**/*.py)"
    )
    exclusive: bool = Field(True, description="false: share with others that share")
    literal: bool = Field(False, description="Take *, ? and [ as they are")
    ttl_seconds: int = Field(3600, ge=60, le=604_800)
    reason: LeaseReason | None = None
    advisory: bool = Field(False, description="Reserve in spite of conflicts; stops nobody")
    allow_partial: bool = Field(False, description="Reserve the free ones of paths")
    wait_seconds: WaitSeconds = 0

    @model_validator(mode="after")
    def _fits_together(self) -> ReserveFile:
        if self.wait_seconds > 0 and (self.allow_partial or self.advisory):
            raise ValueError("wait_seconds waits for all of paths: leave it out with allow_partial or advisory")
        if self.allow_partial and self.advisory:
            raise ValueError("advisory reserves all of paths: leave allow_partial out")
        return self


class GrantedReservation(Result):
    id: int
    pattern: str
    fence: int
    expires_at: datetime
    renewed: bool
    """Whether the agent had it already."""


class Reserved(Result):
    granted: list[GrantedReservation]
    conflicts: list[ReservationConflict]
    """At most 100."""
    more_conflicts: int = 0
    place: int | None = None
    """In the queue, when it waited in vain."""
    hint: str | None = None
    """When something is refused: what to do next."""


async def reserve_file(app: App, caller: Caller, request: ReserveFile) -> Reserved:
    """Reserve paths before you edit them; all or none, or see who holds them. The same path again renews it."""
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
    refuse_retired(actor)
    patterns = await patterns_of(request.paths, actor.project, request.literal, app.long_turn)
    asking = _Asking(app, caller, request, actor, Wanted(patterns, request.exclusive))
    return await wait_for_lease(app, caller, actor, request.wait_seconds, asking.look)


class _Asking:
    """One call of reserve_file, and what it has learnt between its looks."""

    def __init__(self, app: App, caller: Caller, request: ReserveFile, actor: Actor, wanted: Wanted) -> None:
        self._app = app
        self._caller = caller
        self._request = request
        self._actor = actor
        self._project = actor.project
        self._agent = actor.agent
        self._wanted = wanted
        self._overlaps = Overlaps(actor.agent.id, wanted)
        self._holding: Sequence[ReservationId] = ()
        self._refusal: Look[Reserved] | None = None

    async def look(self, keeps_place: bool) -> Look[Reserved]:
        """Take it if it can be had. Without `keeps_place` nothing is written unless it can."""
        if not keeps_place and self._refusal is not None:
            refusal = await self._still_refused(self._refusal)
            if refusal is not None:
                return refusal
        for _ in range(TRIES - 1):
            async with self._app.store.read() as db:
                seen = await db.reservations.snapshot(self._project.id, self._overlaps.newest)
            await self._overlaps.learn(seen, self._app.long_turn)
            self._refusal = await self._refused(seen, keeps_place)
            if self._refusal is not None:
                return self._refusal
            found = await self._decide(seen)
            if found is not None:
                return found
        found = await self._decide(None)
        assert found is not None
        return found

    async def _still_refused(self, refusal: Look[Reserved]) -> Look[Reserved] | None:
        """The last refusal, if something that stood in the way still does; a few rows tell."""
        if not self._holding:
            return None
        async with self._app.store.read() as db:
            records = await db.reservations.records(self._holding)
        holding = [
            record
            for record in records
            if record.is_live and not record.is_advisory and (self._wanted.is_exclusive or record.is_exclusive)
        ]
        if not holding:
            return None
        return replace(refusal, next_look=min(record.next_change for record in holding))

    async def _refused(self, seen: Snapshot, keeps_place: bool) -> Look[Reserved] | None:
        """The refusal that needs no lock; None when there is something to write."""
        async with self._app.store.read() as db:
            records = await db.reservations.records(self._overlaps.ids())
        own_ticket = self._own_ticket(seen)
        judgement = self._judged(records, own_ticket)
        has_place = own_ticket is not None or self._request.wait_seconds > 0
        if self._can_have(judgement) or (keeps_place and has_place):
            return None
        return self._refusal_of(judgement, own_ticket)

    async def _decide(self, seen: Snapshot | None) -> Look[Reserved] | None:
        """Grant or refuse under the lock. None when the snapshot is out of date; without one it is taken there."""
        project_id = self._project.id
        async with self._app.store.write() as db:
            version = await lease_holder(self._app, db, self._caller, self._actor)
            if seen is None:
                seen = await db.reservations.snapshot(project_id, self._overlaps.newest)
                self._overlaps.learn_now(seen)
            elif seen.version != version:
                return None
            frees = await close_expired_reservations(db, self._caller.team_id, project_id, EXPIRED_AT_ONCE) > 0
            records = await db.reservations.records(self._overlaps.ids())
            ticket = self._own_ticket(seen)
            judgement = self._judged(records, ticket)
            if self._can_have(judgement):
                look, weakens = await self._grant(db, seen, judgement)
                frees |= weakens
                if ticket is not None:
                    await db.leases.leave(ticket.id)
            else:
                ticket = await self._queued(db, ticket)
                look = self._refusal_of(judgement, ticket)
        if frees:
            await self._app.wakeups.publish([leases_topic(project_id)])
        self._refusal = None if look.is_over else look
        return look

    def _own_ticket(self, seen: Snapshot) -> Ticket | None:
        wanted = self._wanted.canonical()
        return next((one for one in seen.tickets if one.agent_id == self._agent.id and one.wanted == wanted), None)

    def _judged(self, records: Iterable[ReservationRecord], own_ticket: Ticket | None) -> Judgement:
        by_id = {record.id: record for record in records}
        judgement = judge(self._wanted, self._request.advisory, self._overlaps, by_id, own_ticket)
        self._holding = sorted(judgement.holding)
        return judgement

    def _can_have(self, judgement: Judgement) -> bool:
        if self._request.allow_partial:
            return len(judgement.refused) < len(self._wanted.patterns)
        return not judgement.refused

    def _refusal_of(self, judgement: Judgement, ticket: Ticket | None) -> Look[Reserved]:
        place = None
        if ticket is not None:
            place = 1 + sum(rival.ticket.id < ticket.id for rival in self._overlaps.rivals)
        return Look(_answer([], judgement, place), is_over=False, next_look=judgement.next_change)

    async def _queued(self, db: Transaction, ticket: Ticket | None) -> Ticket | None:
        """The caller's place in the queue, kept or new."""
        may_join = self._request.wait_seconds > 0
        if ticket is None and not may_join:
            return None
        ticket, is_new = await db.leases.ask(
            self._project.id, self._agent.id, "reservation", self._wanted.canonical(), may_join
        )
        if ticket is None and may_join:
            raise TooManyWaiters(
                "The queue for reservations of this project is full.", suggestion="wait a minute, then call again"
            )
        if is_new:
            await db.leases.change(self._project.id)
        return ticket

    async def _grant(self, db: Transaction, seen: Snapshot, judgement: Judgement) -> tuple[Look[Reserved], bool]:
        """Renew what the agent has and grant what it has not; and whether others are less in the way than before."""
        chosen = [pattern for place, pattern in enumerate(self._wanted.patterns) if place not in judgement.refused]
        live = await db.reservations.live_of(self._agent.id, [pattern.text for pattern in chosen])
        mine = {(record.pattern, record.is_literal): record for record in live}
        new = [pattern for pattern in chosen if _key(pattern) not in mine]
        if seen.count + len(new) > MAX_RESERVATIONS:
            raise TooManyReservations(limit=MAX_RESERVATIONS, suggestion="release_file")
        granted = await self._add(db, new) if new else []
        renewed = await self._renew(db, [mine[_key(pattern)] for pattern in chosen if _key(pattern) in mine])
        await db.events.add(
            *(reservation_event("reservation.granted", self._caller.team_id, record) for record in granted),
            *(reservation_event("reservation.renewed", self._caller.team_id, record) for record in renewed),
        )
        by_key = {(record.pattern, record.is_literal): record for record in (*granted, *renewed)}
        answer = _answer([(by_key[_key(pattern)], _key(pattern) in mine) for pattern in chosen], judgement, None)
        weakens = any(
            record.is_exclusive != mine[record.pattern, record.is_literal].is_exclusive
            or record.is_advisory != mine[record.pattern, record.is_literal].is_advisory
            for record in renewed
        )
        return Look(answer, is_over=True), weakens

    async def _add(self, db: Transaction, patterns: Sequence[Pattern]) -> list[ReservationRecord]:
        request = self._request
        fences = await db.leases.fences(self._project.id, len(patterns))
        await db.leases.change(self._project.id)
        return await db.reservations.grant(
            [
                NewReservation(
                    team_id=self._caller.team_id,
                    project_id=self._project.id,
                    agent_id=self._agent.id,
                    pattern=pattern.text,
                    is_literal=pattern.is_literal,
                    is_exclusive=request.exclusive,
                    is_advisory=request.advisory,
                    reason=request.reason,
                    fence=fence,
                    ttl=timedelta(seconds=request.ttl_seconds),
                )
                for pattern, fence in zip(patterns, fences, strict=True)
            ]
        )

    async def _renew(self, db: Transaction, records: Sequence[ReservationRecord]) -> list[ReservationRecord]:
        if not records:
            return []
        request = self._request
        ttl = timedelta(seconds=request.ttl_seconds)
        return await db.reservations.renew(
            [Renewal(record.id, request.exclusive, request.advisory, request.reason, ttl) for record in records]
        )


def _key(pattern: Pattern) -> tuple[str, bool]:
    return pattern.text, pattern.is_literal


def _answer(granted: Sequence[tuple[ReservationRecord, bool]], judgement: Judgement, place: int | None) -> Reserved:
    return Reserved(
        granted=[
            GrantedReservation(
                id=record.id,
                pattern=record.pattern,
                fence=record.fence,
                expires_at=record.expires_at,
                renewed=is_renewed,
            )
            for record, is_renewed in granted
        ],
        conflicts=judgement.conflicts,
        more_conflicts=judgement.more_conflicts,
        place=place,
        hint=_hint(judgement, place),
    )


def _hint(judgement: Judgement, place: int | None) -> str | None:
    if place is not None:
        return KEPT_PLACE_HINT
    return REFUSED_HINT if judgement.refused else None
