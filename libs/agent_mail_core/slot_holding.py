"""What becomes of build slots once they are there: leases renewed and given back, capacities changed."""

from __future__ import annotations

from datetime import timedelta

from agent_mail_core.build_slot_errors import SlotNotHeld
from agent_mail_core.build_slots import (
    Capacity,
    Slot,
    SlotLease,
    SlotName,
    SlotTtl,
    SlotType,
    lease_result,
    slot_event,
    slots_shown,
    the_slot,
)
from agent_mail_core.fields import AgentName, ProjectRef, Request, Result
from agent_mail_core.leases import leases_topic, lock_leases, refuse_retired
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project


class RenewBuildSlot(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    slot_name: SlotName
    slot_type: SlotType = "build"
    ttl_seconds: SlotTtl = 1800


class RenewedBuildSlot(Result):
    lease: SlotLease


async def renew_build_slot(app: App, caller: Caller, request: RenewBuildSlot) -> RenewedBuildSlot:
    """Keep a build slot for ttl_seconds from now. Fails with slot_not_held when your lease is over."""
    async with app.store.write() as db:
        actor = await lock_leases(app, db, caller, request.project_slug, request.agent_name)
        refuse_retired(actor)
        slot = await the_slot(db, actor.project, request.slot_name, request.slot_type)
        lease = await db.build_slots.renew(slot.id, actor.agent.id, timedelta(seconds=request.ttl_seconds))
        if lease is None:
            raise SlotNotHeld(slot_name=slot.name, slot_type=slot.type, suggestion="acquire_build_slot")
    return RenewedBuildSlot(lease=lease_result(lease))


class ReleaseBuildSlot(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    slot_name: SlotName
    slot_type: SlotType = "build"


class ReleasedBuildSlot(Result):
    released: bool
    """False when your agent did not hold it any more."""


async def release_build_slot(app: App, caller: Caller, request: ReleaseBuildSlot) -> ReleasedBuildSlot:
    """Give a build slot back as soon as you are done. Twice is fine."""
    async with app.store.write() as db:
        actor = await lock_leases(app, db, caller, request.project_slug, request.agent_name)
        slot = await the_slot(db, actor.project, request.slot_name, request.slot_type)
        lease = await db.build_slots.release(slot.id, actor.agent.id)
        if lease is not None:
            await db.events.add(slot_event("slot.released", caller.team_id, actor.project.id, lease))
    if lease is not None:
        await app.wakeups.publish([leases_topic(actor.project.id)])
    return ReleasedBuildSlot(released=lease is not None)


class SetSlotCapacity(Request):
    project_slug: ProjectRef
    slot_name: SlotName
    slot_type: SlotType = "build"
    capacity: Capacity


async def set_slot_capacity(app: App, caller: Caller, request: SetSlotCapacity) -> Slot:
    """Change how many agents may hold a build slot at a time. Leases beyond a lower capacity run out by themselves."""
    async with app.store.write() as db:
        project = await the_project(db, caller, request.project_slug)
        await db.leases.lock(project.id)
        slot = await the_slot(db, project, request.slot_name, request.slot_type)
        slot = await db.build_slots.set_capacity(slot.id, request.capacity)
        [shown] = await slots_shown(db, project, [slot])
    await app.wakeups.publish([leases_topic(project.id)])
    return shown
