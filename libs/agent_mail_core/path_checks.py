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
"""Of a path."""

HOLDERS_IN_ALL = 2000
"""Of all paths together: so many of the longest patterns and reasons are a few megabytes."""

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
    """Everybody's reservations over it, what stands in the way first: at most 20, of very many paths 2."""


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
        seen = await db.reservations.snapshot(project.id)
    over: dict[str, list[ReservationId]] = {}
    await in_slices(_matching(request.paths, project.human_key, seen, over), app.long_turn)
    async with app.store.read() as db:
        records = await db.reservations.records(sorted(set().union(*over.values())))
    live = {record.id: record for record in records if record.is_live}
    holding = {path: [live[one] for one in ids if one in live] for path, ids in over.items()}
    shown = min(HOLDERS_SHOWN, HOLDERS_IN_ALL // len(request.paths))
    return CheckedPaths(paths=[_checked(path, holding[path], agent_id, shown) for path in request.paths])


def _matching(
    paths: Iterable[str], human_key: str, seen: Snapshot, over: dict[str, list[ReservationId]]
) -> Iterator[None]:
    """Add the reservations over each path, as it was given, step by step. Raises InvalidPath."""
    patterns: list[Pattern] = []
    for one in seen.patterns:
        patterns.append(compile_pattern(one.pattern, one.is_literal))
        yield
    index = PatternIndex(patterns)
    for path in dict.fromkeys(paths):
        normal = normal_path(path, human_key, is_literal=True)
        over[path] = [seen.patterns[place].id for place in index.matching(normal)]
        yield


def _checked(path: str, over: list[ReservationRecord], agent_id: AgentId | None, shown: int) -> CheckedPath:
    weighty = sorted(over, key=lambda one: (one.is_advisory, one.agent_id == agent_id, not one.is_exclusive))
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
            for record in weighty[:shown]
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
