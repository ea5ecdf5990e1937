"""Activity: what happened, as agents and people read it, newest first.

Events never tell of a bcc: whoever wrote them left it out (SPEC §3.3 rule 8), so what is shown needs no second look.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from agent_mail_core.addresses import DELETED, show
from agent_mail_core.agents import the_agent
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import Invalid
from agent_mail_core.events import EventEntry, EventFilter, EventPosition
from agent_mail_core.fields import AgentName, Cursor, PageSize, ProjectRef, Request, Result, Timestamp
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project

OUT_OF_ORDER = timedelta(minutes=1)
"""Events are in the order of their transactions, which may last longer than others that began after them."""


class Activity(Result):
    """An event as a reader of its project sees it."""

    kind: str
    project_slug: str
    agent_name: str | None = None
    """Who did it, as that project writes it: `Name@slug` for an agent of another."""
    message_id: int | None = None
    data: dict[str, Any]
    created_at: datetime


def activity_of(entry: EventEntry) -> Activity:
    """A stored event as the wire shows it."""
    return Activity(
        kind=entry.kind,
        project_slug=entry.project_slug,
        agent_name=_agent_of(entry),
        message_id=entry.message_id,
        data=entry.data,
        created_at=entry.created_at,
    )


def _agent_of(entry: EventEntry) -> str | None:
    if entry.agent_name is None or entry.agent_project_id == entry.project_id:
        return entry.agent_name
    return show(entry.agent_name, DELETED if entry.agent_project_is_deleted else entry.agent_project_slug)


class ListActivity(Request):
    project_slug: ProjectRef | None = None
    agent_name: AgentName | None = Field(None, description="Only what this agent of the project did")
    since: Timestamp | None = None
    limit: PageSize = 20
    cursor: Cursor | None = None


class ActivityPage(Result):
    activity: list[Activity]
    next_cursor: str | None = None


async def list_activity(app: App, caller: Caller, request: ListActivity) -> ActivityPage:
    """List what happened in a project, or in all of the team's, newest first: mail, leases, reviews, registrations."""
    if request.agent_name is not None and request.project_slug is None:
        raise Invalid(
            "agent_name needs project_slug: names are unique only in their project.",
            errors=[{"pointer": "/project_slug", "message": "needed with agent_name", "type": "missing"}],
        )
    async with app.store.read() as db:
        wanted = EventFilter(team_id=caller.team_id)
        if request.project_slug is not None and request.agent_name is not None:
            actor = await the_agent(db, caller, request.project_slug, request.agent_name)
            wanted = EventFilter(caller.team_id, actor.project.id, actor.agent.id)
        elif request.project_slug is not None:
            project = await the_project(db, caller, request.project_slug)
            wanted = EventFilter(caller.team_id, project.id)
        scope = list_scope("list_activity", caller.team_id, wanted.project_id, wanted.agent_id, request.since)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int, int)
        rows = await db.events.page(wanted, EventPosition(*last) if last else None, request.limit + 1)
    page = rows[: request.limit]
    since = request.since
    has_more = len(rows) > len(page) and (since is None or page[-1].created_at >= since - OUT_OF_ORDER)
    return ActivityPage(
        activity=[activity_of(entry) for entry in page if since is None or entry.created_at >= since],
        next_cursor=(
            list_cursor(app.store.identity, scope, [page[-1].position.transaction, page[-1].position.event_id])
            if has_more
            else None
        ),
    )
