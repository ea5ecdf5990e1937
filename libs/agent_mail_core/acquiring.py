"""acquire_build_slot: a lease while there is one to have, in order of arrival for those who wait (SPEC §3.3 rule 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic import Field

from agent_mail_core.agents import Actor, acting_agent
from agent_mail_core.build_slot_errors import SlotCapacityMismatch, TooManySlots
from agent_mail_core.build_slots import (
    MAX_SLOTS,
    Capacity,
    SlotHolder,
    SlotLease,
    SlotLeaseRecord,
    SlotName,
    SlotRecord,
    SlotTtl,
    SlotType,
    holder_results,
    lease_result,
    slot_event,
    slot_wanted,
)
from agent_mail_core.errors import TooManyWaiters
from agent_mail_core.fields import AgentName, ProjectRef, Request, Result
from agent_mail_core.lease_ends import EXPIRED_AT_ONCE, close_expired_slot_leases
from agent_mail_core.leases import (
    KEPT_PLACE_HINT,
    Look,
    Ticket,
    WaitSeconds,
    lease_holder,
    leases_topic,
    refuse_retired,
    wait_for_lease,
)
from agent_mail_core.ports import App, Caller, Transaction

YIELD_SECONDS, MOST_YIELD_SECONDS = 0.2, 2.0
"""What a waiting call leaves to each of those who came before, if they are still there, and to all of them."""

REFUSED_HINT = "Call again with wait_seconds to wait for it in a queue."


class AcquireBuildSlot(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    slot_name: SlotName
    slot_type: SlotType = Field("build", description="build, test, deploy, ...")
    capacity: Capacity | None = Field(None, description="How many may hold it; set by the first to ask, else 1")
    ttl_seconds: SlotTtl = 1800
    wait_seconds: WaitSeconds = 0


class AcquiredBuildSlot(Result):
    acquired: bool
    lease: SlotLease | None = None
    renewed: bool = False
    """Whether the agent had it already."""
    holders: list[SlotHolder]
    """When it is not acquired: who has it."""
    place: int | None = None
    """In the queue, when it waited in vain."""
    hint: str | None = None
    """When it is not acquired: what to do next."""


async def acquire_build_slot(app: App, caller: Caller, request: AcquireBuildSlot) -> AcquiredBuildSlot:
    """Get a build slot before you build, test or deploy, or see who has it. Again renews your lease."""
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
    refuse_retired(actor)
    asking = _Asking(app, caller, request, actor)
    return await wait_for_lease(app, caller, actor, request.wait_seconds, asking.look)


@dataclass(frozen=True, slots=True)
class Places:
    """What a slot has left for one who asks."""

    is_free: bool
    place: int
    """In the queue, from 1."""
    next_change: timedelta | None
    passed_over: int
    """How many who came before would go without if it had one: there is not enough for all of them."""


def places(capacity: int, leases: Sequence[SlotLeaseRecord], queue: Sequence[Ticket], own: Ticket | None) -> Places:
    """Whether there is a lease to have, when those who came before have first call on what has just become free.

    `leases` are live or were a moment ago, `queue` in order of arrival.
    """
    live = [lease for lease in leases if lease.is_live]
    kept = [lease for lease in leases if not lease.is_live]
    ahead = sum(own is None or ticket.id < own.id for ticket in queue)
    left = capacity - len(live)
    return Places(
        is_free=left > min(ahead, len(kept)),
        place=ahead + 1,
        next_change=min((lease.next_change for lease in leases), default=None),
        passed_over=max(ahead + 1 - left, 0),
    )


class _Asking:
    """One call of acquire_build_slot."""

    def __init__(self, app: App, caller: Caller, request: AcquireBuildSlot, actor: Actor) -> None:
        self._app = app
        self._caller = caller
        self._request = request
        self._actor = actor
        self._project = actor.project
        self._agent = actor.agent
        self._slot: SlotRecord | None = None
        self._yields_until: float | None = None

    async def look(self, keeps_place: bool) -> Look[AcquiredBuildSlot]:
        """Take a lease if there is one. Without `keeps_place` nothing is written unless there is."""
        if not keeps_place and self._slot is not None:
            refused = await self._still_refused(self._slot)
            if refused is not None:
                return refused
        async with self._app.store.write() as db:
            await lease_holder(self._app, db, self._caller, self._actor)
            self._slot = await self._slot_asked_for(db)
            # A slot has at most as many leases as this, so none is left to stand in the way.
            expired = await close_expired_slot_leases(
                db, self._caller.team_id, self._project.id, self._slot.id, EXPIRED_AT_ONCE
            )
            look = await self._decide(db, self._slot)
        if expired:
            await self._app.wakeups.publish([leases_topic(self._project.id)])
        return look

    async def _still_refused(self, slot: SlotRecord) -> Look[AcquiredBuildSlot] | None:
        async with self._app.store.read() as db:
            found = await db.build_slots.find(self._project.id, slot.name, slot.type)
            leases = await db.build_slots.leases([slot.id])
            tickets = await db.leases.tickets(self._project.id, "slot")
        if found is None or any(lease.is_live and lease.agent_id == self._agent.id for lease in leases):
            return None
        queue = [ticket for ticket in tickets if ticket.wanted == slot_wanted(slot)]
        own = next((ticket for ticket in queue if ticket.agent_id == self._agent.id), None)
        left = places(found.capacity, leases, queue, own)
        wait = self._yields(left)
        if wait is not None:
            return replace(self._refusal(leases, left, own), next_look=wait)
        return None if left.is_free else self._refusal(leases, left, own)

    def _yields(self, left: Places) -> timedelta | None:
        """How long to leave a place that is kept for nobody to those who came before.

        They were woken at the same moment: by a higher capacity, or because the head has not come for its place.
        """
        if not left.is_free or not left.passed_over:
            self._yields_until = None
            return None
        now = asyncio.get_running_loop().time()
        if self._yields_until is None:
            self._yields_until = now + min(left.passed_over * YIELD_SECONDS, MOST_YIELD_SECONDS)
        remaining = self._yields_until - now
        return timedelta(seconds=remaining) if remaining > 0 else None

    async def _decide(self, db: Transaction, slot: SlotRecord) -> Look[AcquiredBuildSlot]:
        """Under the lock."""
        ttl = timedelta(seconds=self._request.ttl_seconds)
        renewed = await db.build_slots.renew(slot.id, self._agent.id, ttl)
        if renewed is not None:
            answer = AcquiredBuildSlot(acquired=True, lease=lease_result(renewed), renewed=True, holders=[])
            return Look(answer, is_over=True)
        leases = await db.build_slots.leases([slot.id])
        tickets = await db.leases.tickets(self._project.id, "slot")
        queue = [ticket for ticket in tickets if ticket.wanted == slot_wanted(slot)]
        own = next((ticket for ticket in queue if ticket.agent_id == self._agent.id), None)
        left = places(slot.capacity, leases, queue, own)
        if not left.is_free:
            return self._refusal(leases, left, await self._queued(db, slot, own))
        [fence] = await db.leases.fences(self._project.id, 1)
        lease = await db.build_slots.acquire(slot.id, self._agent.id, fence, ttl)
        if own is not None:
            await db.leases.leave(own.id)
        await db.events.add(slot_event("slot.acquired", self._caller.team_id, self._project.id, lease))
        return Look(AcquiredBuildSlot(acquired=True, lease=lease_result(lease), holders=[]), is_over=True)

    async def _slot_asked_for(self, db: Transaction) -> SlotRecord:
        """The slot, made if it is new. Raises SlotCapacityMismatch, TooManySlots."""
        request = self._request
        slot = await db.build_slots.find(self._project.id, request.slot_name, request.slot_type)
        if slot is None:
            slot = await db.build_slots.make(
                self._caller.team_id, self._project.id, request.slot_name, request.slot_type, request.capacity or 1
            )
        if slot is None:
            raise TooManySlots(limit=MAX_SLOTS, suggestion="list_slots")
        # Only at first: who waits with the capacity that the slot had then is let in when that is raised.
        if self._slot is None and request.capacity is not None and request.capacity != slot.capacity:
            raise SlotCapacityMismatch(slot_name=slot.name, slot_type=slot.type, capacity=slot.capacity)
        return slot

    async def _queued(self, db: Transaction, slot: SlotRecord, own: Ticket | None) -> Ticket | None:
        """The caller's place in the queue, kept or new."""
        may_join = self._request.wait_seconds > 0
        if own is None and not may_join:
            return None
        ticket, _ = await db.leases.ask(self._project.id, self._agent.id, "slot", slot_wanted(slot), may_join)
        if ticket is None and may_join:
            raise TooManyWaiters(
                "The queue for build slots of this project is full.", suggestion="wait a minute, then call again"
            )
        return ticket

    def _refusal(self, leases: Sequence[SlotLeaseRecord], left: Places, own: Ticket | None) -> Look[AcquiredBuildSlot]:
        place = left.place if own is not None else None
        hint = KEPT_PLACE_HINT if own is not None else REFUSED_HINT
        answer = AcquiredBuildSlot(acquired=False, holders=holder_results(leases), place=place, hint=hint)
        return Look(answer, is_over=False, next_look=left.next_change)
