"""A project seen whole: what get_project answers."""

from agent_mail_core.agents import Agent, agent_result
from agent_mail_core.build_slots import Slot, active_slots
from agent_mail_core.fields import ProjectRef, Request
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import Project, project_result, the_project
from agent_mail_core.reservations import Reservation, live_reservations

AGENTS_SHOWN = 100
LEASES_SHOWN = 100


class GetProject(Request):
    project_slug: ProjectRef


class ProjectDetails(Project):
    agent_count: int
    message_count: int
    thread_count: int
    agents: list[Agent]
    """At most 100, the most recently active first; list_agents shows all."""
    reservations: list[Reservation]
    """At most 100, the newest first; list_reservations shows all."""
    slots: list[Slot]
    """At most 100 that are held or queued for; list_slots shows all."""


async def get_project(app: App, caller: Caller, request: GetProject) -> ProjectDetails:
    """Show a project: its agents (up to 100, recently active first), what is reserved, and how much it holds."""
    async with app.store.read() as db:
        record = await the_project(db, caller, request.project_slug)
        counts = await db.projects.counts(record.id)
        agents = await db.agents.recent(record.id, AGENTS_SHOWN)
        reservations = await live_reservations(db, record.id, None, LEASES_SHOWN)
        slots = await active_slots(db, record, LEASES_SHOWN)
    return ProjectDetails(
        **project_result(record).model_dump(),
        agent_count=counts.agents,
        message_count=counts.messages,
        thread_count=counts.threads,
        agents=[agent_result(agent) for agent in agents],
        reservations=reservations,
        slots=slots,
    )
