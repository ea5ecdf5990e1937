"""Changes to an agent that is there: its profile, its owner, its retirement."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent_mail_core.agents import (
    Actor,
    Agent,
    AgentChanges,
    AgentRecord,
    acting_agent,
    agent_result,
    profile_data,
    the_agent,
)
from agent_mail_core.errors import AgentNotYours, AgentRetired
from agent_mail_core.events import EventKind, NewEvent
from agent_mail_core.fields import AgentName, ContactPolicy, Description, Line, Profile, ProjectRef, Request
from agent_mail_core.ids import Principal
from agent_mail_core.lease_ends import release_all
from agent_mail_core.leases import leases_topic
from agent_mail_core.ports import App, Caller, Transaction


async def _changed(db: Transaction, actor: Actor, agent: AgentRecord, kind: EventKind = "agent.updated") -> None:
    await db.events.add(NewEvent(kind, actor.project.team_id, actor.project.id, agent.id, data=profile_data(agent)))


# --- update_agent -----------------------------------------------------------------------------------------------------


class UpdateAgent(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    task_description: Description | None = None
    contact_policy: ContactPolicy | None = None
    program: Profile | None = None
    model: Profile | None = None


async def update_agent(app: App, caller: Caller, request: UpdateAgent) -> Agent:
    """Change an agent's profile; what is left out stays."""
    async with app.store.write() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        if actor.agent.retired_at is not None:
            raise AgentRetired(agent_name=actor.agent.name, suggestion="register_agent")
        agent = await db.agents.update(
            actor.agent.id,
            AgentChanges(
                program=request.program,
                model=request.model,
                task_description=request.task_description,
                contact_policy=request.contact_policy,
            ),
        )
        await _changed(db, actor, agent)
    return agent_result(agent)


# --- retire_agent -----------------------------------------------------------------------------------------------------


class RetireAgent(Request):
    project_slug: ProjectRef
    agent_name: AgentName


async def retire_agent(app: App, caller: Caller, request: RetireAgent) -> Agent:
    """Retire an agent: it holds nothing and gets no mail any more. Registering the name again brings it back."""
    async with app.store.write() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        await release_all(db, caller.team_id, actor.agent)
        await db.reviews.release_claims(actor.agent.id)
        agent, is_new = await db.agents.retire(actor.agent.id)
        if is_new:
            await _changed(db, actor, agent, "agent.retired")
    await app.wakeups.publish([leases_topic(actor.project.id)])
    return agent_result(agent)


# --- transfer_agent ---------------------------------------------------------------------------------------------------

PrincipalName = Annotated[
    Line,
    Field(
        pattern=r"^(local|static|token:[^|]+|jwt:[^|]+\|.+)$",
        max_length=1024,
        description="token:{id}, jwt:{issuer}|{subject}, static, or local",
    ),
]


class TransferAgent(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    principal: PrincipalName


async def transfer_agent(app: App, caller: Caller, request: TransferAgent) -> Agent:
    """Give an agent, with its mail and leases, to another principal: from then on only that one may act as it."""
    async with app.store.write() as db:
        actor = await the_agent(db, caller, request.project_slug, request.agent_name)
        if actor.agent.is_service:
            raise AgentNotYours(agent_name=actor.agent.name)
        agent = await db.agents.transfer(actor.agent.id, Principal(request.principal))
        if agent.owner != actor.agent.owner:
            await _changed(db, actor, agent)
    return agent_result(agent)
