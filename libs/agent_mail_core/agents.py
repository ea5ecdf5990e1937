"""Agents: identities inside a project, each owned by the principal that registered it (SPEC §2, §3.3 rule 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from pydantic import Field

from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import AgentNotFound, AgentNotYours, ProjectNotFound
from agent_mail_core.fields import ContactPolicy, Cursor, PageSize, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, Principal, ProjectId, TeamId
from agent_mail_core.ports import App, Caller, Role, Transaction
from agent_mail_core.projects import ProjectRecord, normal_ref, project_not_found, the_project
from agent_mail_core.suggestions import near_names

NEAR_NAME_POOL = 1000
OVERSEER, SYSTEM = "Overseer", "System"
SERVICE_POLICIES: Mapping[str, ContactPolicy] = {OVERSEER: "open", SYSTEM: "block_all"}
"""The agents that every project has from the start, and who may write to them."""

SERVICE_PROGRAM, SERVICE_MODEL = "agent-mail", "none"
SERVICE_OWNER = Principal("service")
"""No credential stands for it."""


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent as stored."""

    id: AgentId
    project_id: ProjectId
    name: str
    program: str
    model: str
    task_description: str | None
    contact_policy: ContactPolicy
    owner: Principal
    registered_at: datetime
    last_active_at: datetime
    retired_at: datetime | None

    @property
    def is_service(self) -> bool:
        """Whether it is Overseer or System, which every project has, nobody registers and nobody may act as."""
        return self.name in SERVICE_POLICIES


@dataclass(frozen=True, slots=True)
class NewAgent:
    """An agent to register. None leaves an existing agent's value, and gives a new one its default."""

    team_id: TeamId
    project_id: ProjectId
    owner: Principal
    program: str
    model: str
    task_description: str | None
    contact_policy: ContactPolicy | None


@dataclass(frozen=True, slots=True)
class AgentChanges:
    """Fields to change; None leaves one as it is."""

    program: str | None = None
    model: str | None = None
    task_description: str | None = None
    contact_policy: ContactPolicy | None = None


@dataclass(frozen=True, slots=True)
class AgentCounts:
    """Of an agent's mail."""

    unread: int
    received: int
    sent: int


Registered = Literal["created", "updated", "taken"]


class Agents(Protocol):
    """Store of agents. Only `find` shows service agents, which `Projects.ensure` makes; `taken` counts their names."""

    async def find(
        self, team_id: TeamId, project_ref: str, name: str
    ) -> tuple[ProjectRecord | None, AgentRecord | None]:
        """The project (by slug, else human key) and in it the agent of that name, ignoring ASCII case.

        None for what is not.
        """
        ...

    async def register(self, name: str, agent: NewAgent, owner_may_be_any: bool) -> tuple[AgentRecord, Registered]:
        """Make the agent with an empty mailbox, or update the one of that name like `update`, reviving it when retired.

        Atomic: callers racing with one name make one agent. `taken` (nothing changed) when it is another principal's,
        unless `owner_may_be_any`. An existing agent keeps its owner and the case of its name.
        """
        ...

    async def register_free(self, names: Sequence[str], agent: NewAgent) -> AgentRecord | None:
        """Make the agent under the first of `names` that nobody has; None when all are taken.

        Atomic like `register`.
        """
        ...

    async def update(self, agent_id: AgentId, changes: AgentChanges) -> AgentRecord:
        """Change an existing agent's profile. A send that commits later is decided by its new contact policy."""
        ...

    async def retire(self, agent_id: AgentId) -> tuple[AgentRecord, bool]:
        """Retire it, and whether it was not retired before. A send that commits later does not reach it."""
        ...

    async def transfer(self, agent_id: AgentId, owner: Principal) -> AgentRecord:
        """Give it to another principal."""
        ...

    async def page(
        self,
        project_id: ProjectId,
        active_since: datetime | None,
        include_retired: bool,
        after_name: str | None,
        limit: int,
    ) -> list[AgentRecord]:
        """In order of lower-cased name, those after the lower-cased `after_name`."""
        ...

    async def recent(self, project_id: ProjectId, limit: int) -> list[AgentRecord]:
        """Agents that are not retired, the most recently active first."""
        ...

    async def names(self, project_id: ProjectId, limit: int) -> list[str]:
        """Some names of the project, the most recently active first, retired ones left out."""
        ...

    async def taken(self, project_id: ProjectId, names: Sequence[str]) -> set[str]:
        """Which of these names agents have, retired ones included, lower-cased."""
        ...

    async def counts(self, agent_id: AgentId, with_hidden: bool) -> AgentCounts:
        """Of the agent's mail; what it got as bcc only `with_hidden`, for its own eyes."""
        ...

    async def touch(self, seen: Mapping[AgentId, datetime]) -> None:
        """Move `last_active_at` forward to the given times; never back; unknown ids are passed over."""
        ...


def profile_data(agent: AgentRecord) -> dict[str, Any]:
    """What events of agents say: the profile as it is from then on, so that the archive needs nothing else."""
    return {
        "name": agent.name,
        "program": agent.program,
        "model": agent.model,
        "task_description": agent.task_description,
        "contact_policy": agent.contact_policy,
        "retired": agent.retired_at is not None,
    }


# --- acting as an agent -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Actor:
    """An agent and its project, found for a caller."""

    project: ProjectRecord
    agent: AgentRecord


def may_act_as(caller: Caller, agent: AgentRecord) -> bool:
    """Whether this caller may read and write as the agent."""
    return not agent.is_service and (agent.owner == caller.principal or caller.role >= Role.admin)


def may_read_as(caller: Caller, agent: AgentRecord) -> bool:
    """Whether this caller may look into the agent's inbox: Overseer's is read by those who write as it."""
    return may_act_as(caller, agent) or (agent.name == OVERSEER and caller.role >= Role.overseer)


async def agent_not_found(db: Transaction, project: ProjectRecord, name: str, is_own: bool = False) -> AgentNotFound:
    """The error for an unknown agent, with the names that it may have meant.

    `is_own`: the caller wants to act as it.
    """
    near = near_names(name, await db.agents.names(project.id, NEAR_NAME_POOL))
    return AgentNotFound(
        f"There is no agent {name!r} in project {project.slug!r}.",
        agent_name=name,
        project_slug=project.slug,
        near=near or None,
        suggestion="register_agent" if is_own and not near else "list_agents",
    )


async def the_agent(db: Transaction, caller: Caller, project_ref: str, name: str, is_own: bool = False) -> Actor:
    """The agent of that name, whoever owns it. Raises ProjectNotFound or AgentNotFound, with near names.

    `is_own`: the caller wants to act as it, as far as an answer goes when there is none.
    """
    project, agent = await db.agents.find(caller.team_id, normal_ref(project_ref), name)
    if project is None:
        raise await project_not_found(db, caller, project_ref)
    if agent is None:
        raise await agent_not_found(db, project, name, is_own)
    return Actor(project, agent)


async def acting_agent(app: App, db: Transaction, caller: Caller, project_ref: str, name: str) -> Actor:
    """The agent as which the caller acts: also raises AgentNotYours. Notes that it is active. It may be retired."""
    actor = await the_agent(db, caller, project_ref, name, is_own=True)
    if not may_act_as(caller, actor.agent):
        raise AgentNotYours(agent_name=actor.agent.name)
    app.presence.saw(actor.agent.id)
    return actor


async def still_acting(app: App, db: Transaction, caller: Caller, known: Actor) -> Actor:
    """An agent that was found before, as it is now. Raises what `acting_agent` does: a wait may outlive its project."""
    actor = await acting_agent(app, db, caller, known.project.slug, known.agent.name)
    if actor.agent.id != known.agent.id:
        raise ProjectNotFound(
            f"Project {known.project.slug!r} was deleted during this call; another one has its name now: call again.",
            project_slug=known.project.slug,
            suggestion="get_project",
        )
    return actor


async def reading_agent(app: App, db: Transaction, caller: Caller, project_ref: str, name: str) -> Actor:
    """The agent whose mail the caller looks at without changing it: like `acting_agent`, by `may_read_as`."""
    actor = await the_agent(db, caller, project_ref, name, is_own=True)
    if not may_read_as(caller, actor.agent):
        raise AgentNotYours(agent_name=actor.agent.name)
    if not actor.agent.is_service:
        app.presence.saw(actor.agent.id)
    return actor


# --- results ----------------------------------------------------------------------------------------------------------


class Agent(Result):
    """An agent's public profile."""

    name: str
    program: str
    model: str
    task_description: str | None = None
    contact_policy: ContactPolicy
    registered_at: datetime
    last_active_at: datetime
    retired_at: datetime | None = None


def agent_result(record: AgentRecord) -> Agent:
    """A stored agent as the wire shows it; its owner stays inside."""
    return Agent(
        name=record.name,
        program=record.program,
        model=record.model,
        task_description=record.task_description,
        contact_policy=record.contact_policy,
        registered_at=record.registered_at,
        last_active_at=record.last_active_at,
        retired_at=record.retired_at,
    )


# --- list_agents ------------------------------------------------------------------------------------------------------


class ListAgents(Request):
    project_slug: ProjectRef
    active_within_seconds: int | None = Field(None, ge=1, le=10 * 365 * 86400, description="Only recently active ones")
    include_retired: bool = False
    limit: PageSize = 20
    cursor: Cursor | None = None


class AgentPage(Result):
    agents: list[Agent]
    next_cursor: str | None = None


async def list_agents(app: App, caller: Caller, request: ListAgents) -> AgentPage:
    """List the agents of a project A-Z: who can be written to, and what they work on."""
    within = request.active_within_seconds
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        scope = list_scope("list_agents", caller.team_id, project.id, within, request.include_retired)
        last = open_list_cursor(app.store.identity, scope, request.cursor, str)
        rows = await db.agents.page(
            project.id,
            app.clock.now() - timedelta(seconds=within) if within else None,
            request.include_retired,
            str(last[0]) if last else None,
            request.limit + 1,
        )
    page = rows[: request.limit]
    return AgentPage(
        agents=[agent_result(agent) for agent in page],
        next_cursor=(
            list_cursor(app.store.identity, scope, [page[-1].name.lower()]) if len(rows) > len(page) else None
        ),
    )
