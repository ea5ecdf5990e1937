"""An agent seen whole: what whois answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from agent_mail_core.agents import Agent, agent_result, may_read_as, the_agent
from agent_mail_core.build_slots import HeldSlot, slots_held
from agent_mail_core.fields import AgentName, ProjectRef, Request, Result
from agent_mail_core.ports import App, Caller
from agent_mail_core.reservations import Reservation, live_reservations

RECENT_EVENTS = 10
RESERVATIONS_SHOWN = 100


class Whois(Request):
    project_slug: ProjectRef
    agent_name: AgentName


class AgentActivity(Result):
    """One thing that an agent did."""

    kind: str
    at: datetime
    message_id: int | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class AgentDetails(Result):
    agent: Agent
    unread_count: int
    received_count: int
    sent_count: int
    reservations: list[Reservation]
    """At most 100, the newest first; list_reservations shows all."""
    slots: list[HeldSlot]
    recent_activity: list[AgentActivity]


async def whois(app: App, caller: Caller, request: Whois) -> AgentDetails:
    """Show one agent: profile, mail counts, what it has reserved, and the last things it did."""
    async with app.store.read() as db:
        actor = await the_agent(db, caller, request.project_slug, request.agent_name)
        counts = await db.agents.counts(actor.agent.id, may_read_as(caller, actor.agent))
        reservations = await live_reservations(db, actor.project.id, actor.agent.id, RESERVATIONS_SHOWN)
        slots = await slots_held(db, actor.agent)
        events = await db.events.of_agent(actor.agent.id, RECENT_EVENTS)
    return AgentDetails(
        agent=agent_result(actor.agent),
        unread_count=counts.unread,
        received_count=counts.received,
        sent_count=counts.sent,
        reservations=reservations,
        slots=slots,
        recent_activity=[
            AgentActivity(kind=event.kind, at=event.created_at, message_id=event.message_id, data=event.data)
            for event in events
        ],
    )
