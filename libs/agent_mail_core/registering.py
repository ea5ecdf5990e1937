"""Joining a project: an agent is registered under a name of its own choice, or is given a free one."""

from __future__ import annotations

from pydantic import Field

from agent_mail_core import agent_names
from agent_mail_core.agents import Agent, AgentRecord, NewAgent, Registered, agent_result, profile_data
from agent_mail_core.errors import AgentNameTaken
from agent_mail_core.events import EventKind, NewEvent
from agent_mail_core.fields import (
    ContactPolicy,
    Description,
    IdempotencyKey,
    Line,
    NewAgentName,
    Profile,
    ProjectRef,
    Request,
    Result,
)
from agent_mail_core.kept_answers import answered_before, keep_answer, newcomer_scope
from agent_mail_core.ports import App, Caller, Role, Transaction
from agent_mail_core.projects import ProjectRecord, the_project

NAME_ROUNDS = 8
NAMES_A_ROUND = 16


# --- register_agent ---------------------------------------------------------------------------------------------------


class RegisterAgent(Request):
    project_slug: ProjectRef
    program: Profile = Field(description="Program that runs the agent, such as claude-code")
    model: Profile = Field(description="Language model")
    name: NewAgentName | None = Field(None, description="Leave out to be given a free, memorable one")
    task_description: Description | None = Field(None, description="What the agent works on")
    contact_policy: ContactPolicy | None = Field(None, description="Who may write to it; new agents: auto")
    idempotency_key: IdempotencyKey | None = Field(None, description="Random; without name a retry gets the same agent")


class RegisteredAgent(Result):
    agent: Agent
    created: bool
    replayed: bool = False


async def register_agent(app: App, caller: Caller, request: RegisterAgent) -> RegisteredAgent:
    """Join a project under a name. Call once at the start; the same name again updates your profile."""
    async with app.store.write() as db:
        project = await the_project(db, caller, request.project_slug)
        scope = newcomer_scope(caller, project.id, request.name, "register_agent", request.idempotency_key)
        replay = await answered_before(db, scope, request, RegisteredAgent)
        if replay is not None:
            return replay
        agent, created = await register_in(db, caller, project, request)
        result = RegisteredAgent(agent=agent_result(agent), created=created)
        await keep_answer(db, scope, result)
    app.presence.saw(agent.id)
    return result


async def register_in(
    db: Transaction, caller: Caller, project: ProjectRecord, request: RegisterAgent
) -> tuple[AgentRecord, bool]:
    """Make the agent or update it, and whether it was made. Raises AgentNameTaken."""
    agent, outcome = await _register(db, caller, request, project)
    event: EventKind = "agent.registered" if outcome == "created" else "agent.updated"
    await db.events.add(NewEvent(event, caller.team_id, project.id, agent.id, data=profile_data(agent)))
    return agent, outcome == "created"


async def _register(
    db: Transaction, caller: Caller, request: RegisterAgent, project: ProjectRecord
) -> tuple[AgentRecord, Registered]:
    new = NewAgent(
        team_id=caller.team_id,
        project_id=project.id,
        owner=caller.principal,
        program=request.program,
        model=request.model,
        task_description=request.task_description,
        contact_policy=request.contact_policy,
    )
    if request.name is not None:
        agent, outcome = await db.agents.register(request.name, new, caller.role >= Role.admin)
        if outcome == "taken":
            raise AgentNameTaken(agent_name=agent.name, suggestion="suggest_agent_names")
        return agent, outcome
    for number in range(NAME_ROUNDS):
        # Names run out slowly: later rounds add digits, so that a project of any size finds one.
        names = agent_names.draw(NAMES_A_ROUND, digits=max(0, number - 2))
        free = await db.agents.register_free(names, new)
        if free is not None:
            return free, "created"
    raise AgentNameTaken("No free name was found: give one.")


# --- suggest_agent_names ----------------------------------------------------------------------------------------------


class SuggestAgentNames(Request):
    project_slug: ProjectRef
    hint: Line | None = Field(None, max_length=32, description="A word that the names should hold, such as Backend")
    count: int = Field(5, ge=1, le=20)


class AgentNames(Result):
    names: list[str]


async def suggest_agent_names(app: App, caller: Caller, request: SuggestAgentNames) -> AgentNames:
    """Suggest names that no agent of the project has. They are not kept for you: register soon."""
    found: list[str] = []
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        for number in range(NAME_ROUNDS):
            names = agent_names.draw(request.count * 2, digits=max(0, number - 2), hint=request.hint)
            taken = await db.agents.taken(project.id, names)
            found += [name for name in names if name.lower() not in taken and name not in found]
            if len(found) >= request.count:
                break
    return AgentNames(names=found[: request.count])
