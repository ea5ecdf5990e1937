"""check_paths: who holds the files that somebody is about to change. What the git guard asks before a commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from pydantic import Field

from agent_mail_core.agents import the_agent
from agent_mail_core.fields import AgentName, ProjectRef, Request, Result
from agent_mail_core.globs import Pattern, PatternIndex, compile_pattern
from agent_mail_core.ids import AgentId, ReservationId
from agent_mail_core.paths import normal_path
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project
from agent_mail_core.reservations import ReservationRecord, Snapshot
from agent_mail_core.time_slices import in_slices

MAX_PATHS = 1000
HOLDERS_SHOWN = 20

PathStatus = Literal["free", "yours", "held"]


class CheckPaths(Request):
    project_slug: ProjectRef
    paths: list[str] = Field(min_length=1, max_length=MAX_PATHS, description="Literal paths, no globs")
    agent_name: AgentName | None = Field(None, description="Who asks, to tell yours from others'")


class PathHolder(Result):
    """A reservation over a path."""

    reservation_id: int
    holder: str
    pattern: str
    expires_at: datetime
    exclusive: bool
    advisory: bool
    reason: str | None = None


class CheckedPath(Result):
    path: str
    """As it was given."""
    status: PathStatus
    """`held`: another agent's, so that you should not write there. Advisory reservations hold nothing."""
    holders: list[PathHolder]
    """Everybody's reservations over it, at most 20."""


class CheckedPaths(Result):
    paths: list[CheckedPath]


async def check_paths(app: App, caller: Caller, request: CheckPaths) -> CheckedPaths:
    """See who holds files before you write to them: for each path free, yours, or held by whom until when."""
    async with app.store.read() as db:
        agent_id = None
        if request.agent_name is None:
            project = await the_project(db, caller, request.project_slug)
        else:
            actor = await the_agent(db, caller, request.project_slug, request.agent_name)
            project, agent_id = actor.project, actor.agent.id
        normal = {path: normal_path(path, project.human_key, is_literal=True) for path in dict.fromkeys(request.paths)}
        seen = await db.reservations.snapshot(project.id)
    over: dict[str, list[ReservationId]] = {}
    await in_slices(_matching(normal.values(), seen, over), app.long_turn)
    async with app.store.read() as db:
        records = await db.reservations.records(sorted(set().union(*over.values())))
    live = {record.id: record for record in records if record.is_live}
    checked = {path: [live[one] for one in ids if one in live] for path, ids in over.items()}
    return CheckedPaths(paths=[_checked(path, checked[normal[path]], agent_id) for path in request.paths])


def _matching(paths: Iterable[str], seen: Snapshot, over: dict[str, list[ReservationId]]) -> Iterator[None]:
    """Add the reservations over each path, step by step."""
    patterns: list[Pattern] = []
    for one in seen.patterns:
        patterns.append(compile_pattern(one.pattern, one.is_literal))
        yield
    index = PatternIndex(patterns)
    for path in paths:
        over[path] = [seen.patterns[place].id for place in index.matching(path)]
        yield


def _checked(path: str, over: list[ReservationRecord], agent_id: AgentId | None) -> CheckedPath:
    return CheckedPath(
        path=path,
        status=_status(over, agent_id),
        holders=[
            PathHolder(
                reservation_id=record.id,
                holder=record.agent_name,
                pattern=record.pattern,
                expires_at=record.expires_at,
                exclusive=record.is_exclusive,
                advisory=record.is_advisory,
                reason=record.reason,
            )
            for record in over[:HOLDERS_SHOWN]
        ],
    )


def _status(over: list[ReservationRecord], agent_id: AgentId | None) -> PathStatus:
    """Another's shared reservation stands in the way of whoever has none of their own there."""
    own = [record for record in over if record.agent_id == agent_id]
    others = [record for record in over if record.agent_id != agent_id and not record.is_advisory]
    has_binding = any(not record.is_advisory for record in own)
    if any(record.is_exclusive or not has_binding for record in others):
        return "held"
    return "yours" if own else "free"
