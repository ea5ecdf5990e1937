"""How leases end without their holder: their time is over, or their agent retires."""

from agent_mail_core.agents import AgentRecord
from agent_mail_core.build_slots import slot_event
from agent_mail_core.ids import ProjectId, SlotId, TeamId
from agent_mail_core.ports import Transaction
from agent_mail_core.reservations import ending_events

EXPIRED_AT_ONCE = 100
"""How many leases past their time a request ends beside its own work; sweeps end the others."""


async def close_expired(db: Transaction, team_id: TeamId, project_id: ProjectId, limit: int) -> int:
    """End up to `limit` reservations and as many slot leases of a project whose time is over; how many it were.

    Takes the lease lock. When it were any, publish `leases_topic` after the commit.
    """
    await db.leases.lock(project_id)
    ended = await close_expired_reservations(db, team_id, project_id, limit)
    return ended + await close_expired_slot_leases(db, team_id, project_id, None, limit)


async def close_expired_reservations(db: Transaction, team_id: TeamId, project_id: ProjectId, limit: int) -> int:
    """The part of it that is about reservations, under the lock."""
    ended = await db.reservations.close_expired(project_id, limit)
    await db.events.add(*ending_events(team_id, ended))
    return len(ended)


async def close_expired_slot_leases(
    db: Transaction, team_id: TeamId, project_id: ProjectId, slot_id: SlotId | None, limit: int
) -> int:
    """The part of it that is about build slots, or about one slot, under the lock."""
    ended = await db.build_slots.close_expired(project_id, slot_id, limit)
    await db.events.add(*(slot_event("slot.expired", team_id, project_id, lease) for lease in ended))
    return len(ended)


async def release_all(db: Transaction, team_id: TeamId, agent: AgentRecord) -> None:
    """Let go of all leases and places of an agent that retires.

    Takes the lease lock: call it before anything else that locks, so that who asks for a lease at the same time either
    is seen here or sees the agent retired. Publish `leases_topic` after the commit: for who waits behind its places,
    and for its own waits, which end.
    """
    await db.leases.lock(agent.project_id)
    await db.leases.leave_all(agent.id)
    while records := await db.reservations.live(agent.project_id, agent.id, None, EXPIRED_AT_ONCE):
        records = await db.reservations.end([record.id for record in records], "retired", agent.name, None)
        await db.events.add(*ending_events(team_id, records))
    leases = await db.build_slots.release_all(agent.id)
    await db.events.add(*(slot_event("slot.released", team_id, agent.project_id, lease) for lease in leases))
