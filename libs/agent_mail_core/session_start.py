"""start_session: a project, an agent, reservations and the inbox in one call, for an agent that begins its work.

Project and agent are made in one transaction, with the idempotency key. Reservations and inbox follow, each as its own
operation has it: asked again, an agent renews what it holds and reads what is there now, so a retry after a lost answer
goes on where the first call ended, under the same key with the same agent.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from agent_mail_core.agents import Agent, agent_result
from agent_mail_core.fields import (
    Description,
    HumanKey,
    IdempotencyKey,
    NewAgentName,
    PageSize,
    Profile,
    Request,
    Result,
)
from agent_mail_core.globs import compile_pattern
from agent_mail_core.kept_answers import answered_before, keep_answer, newcomer_scope
from agent_mail_core.mailboxes import CheckInbox, Inbox, check_inbox
from agent_mail_core.paths import normal_path
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import EnsureProject, Project, ensure_in, project_result
from agent_mail_core.registering import RegisterAgent, register_in
from agent_mail_core.reservation_errors import TooManyReservations
from agent_mail_core.reservations import MAX_PATHS
from agent_mail_core.reserving import Reserved, ReserveFile, reserve_file
from agent_mail_core.time_slices import in_slices


class StartSession(Request):
    human_key: HumanKey
    program: Profile
    model: Profile
    agent_name: NewAgentName | None = Field(None, description="Yours from before; left out, you are given a new one")
    task_description: Description | None = None
    reserve_paths: list[str] = Field(
        default_factory=list, max_length=MAX_PATHS, description="As paths of reserve_file, for an hour"
    )
    inbox_limit: PageSize = 10
    include_bodies: bool = False
    idempotency_key: IdempotencyKey | None = None


class StartedAgent(Result):
    """The part of it that happens once under one key."""

    project: Project
    agent: Agent
    created: bool
    """Whether the agent is new."""
    replayed: bool = False


class StartedSession(StartedAgent):
    reservations: Reserved
    inbox: Inbox
    hint: str | None = None
    """What to do another time."""


async def start_session(app: App, caller: Caller, request: StartSession) -> StartedSession:
    """Begin work: get the project, register, reserve paths and read your inbox in one call."""
    await _check_paths(app, request)
    started = await _register(app, caller, request)
    slug, name = started.project.slug, started.agent.name
    reservations = await _reserve(app, caller, slug, name, request.reserve_paths)
    look = CheckInbox(
        project_slug=slug, agent_name=name, limit=request.inbox_limit, include_bodies=request.include_bodies
    )
    inbox = await check_inbox(app, caller, look)
    hint = None
    if request.agent_name is None:
        hint = f"You are {name} now. Next time pass agent_name={name!r}, or you are given another name and inbox."
    return StartedSession(**dict(started), reservations=reservations, inbox=inbox, hint=hint)


async def _reserve(app: App, caller: Caller, slug: str, name: str, paths: list[str]) -> Reserved:
    """What of it could be had. Who has just been given a name must learn it, whatever becomes of its paths."""
    if not paths:
        return Reserved(granted=[], conflicts=[])
    try:
        return await reserve_file(app, caller, ReserveFile(project_slug=slug, agent_name=name, paths=paths))
    except TooManyReservations as error:
        return Reserved(granted=[], conflicts=[], hint=f"Nothing is reserved. {error.message}")


async def _check_paths(app: App, request: StartSession) -> None:
    """Raise InvalidPath before anything is made."""

    def steps() -> Iterator[None]:
        for path in request.reserve_paths:
            compile_pattern(normal_path(path, request.human_key), False)
            yield

    await in_slices(steps(), app.long_turn)


async def _register(app: App, caller: Caller, request: StartSession) -> StartedAgent:
    async with app.store.write() as db:
        scope = newcomer_scope(caller, request.human_key, request.agent_name, "start_session", request.idempotency_key)
        replay = await answered_before(db, scope, request, StartedAgent)
        if replay is not None:
            return replay
        project, _ = await ensure_in(db, caller, EnsureProject(human_key=request.human_key))
        wanted = RegisterAgent(
            project_slug=project.slug,
            program=request.program,
            model=request.model,
            name=request.agent_name,
            task_description=request.task_description,
        )
        agent, created = await register_in(db, caller, project, wanted)
        started = StartedAgent(project=project_result(project), agent=agent_result(agent), created=created)
        await keep_answer(db, scope, started)
    app.presence.saw(agent.id)
    return started
