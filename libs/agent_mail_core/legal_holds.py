"""Legal holds: an administrator says of a project that nothing of it may go, by retention or by deletion."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.fields import Cursor, Line, PageSize, ProjectRef, Request, Result
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project


class SetLegalHold(Request):
    project_slug: ProjectRef
    on_hold: bool = Field(description="False lifts it")
    reason: Line | None = Field(None, min_length=1, max_length=500, description="Why, for who looks at it later")


class SetHold(Result):
    project_slug: str
    on_hold: bool
    changed: bool
    """False: it was so before."""


class LegalHold(Result):
    project_slug: str
    reason: str | None = None
    placed_by: str
    placed_at: datetime


class ListLegalHolds(Request):
    limit: PageSize = 20
    cursor: Cursor | None = None


class LegalHoldPage(Result):
    holds: list[LegalHold]
    next_cursor: str | None = None


async def set_legal_hold(app: App, caller: Caller, request: SetLegalHold) -> SetHold:
    """Keep all of a project's mail whatever retention says, also what its agents got from elsewhere; or lift that."""
    async with app.store.write() as db:
        project = await the_project(db, caller, request.project_slug)
        if request.on_hold:
            changed = await db.retention.hold(project.id, request.reason, caller.principal)
        else:
            changed = await db.retention.lift(project.id)
    return SetHold(project_slug=project.slug, on_hold=request.on_hold, changed=changed)


async def list_legal_holds(app: App, caller: Caller, request: ListLegalHolds) -> LegalHoldPage:
    """List the projects on legal hold, A-Z."""
    scope = list_scope("list_legal_holds", caller.team_id)
    last = open_list_cursor(app.store.identity, scope, request.cursor, str)
    async with app.store.read() as db:
        rows = await db.retention.holds(caller.team_id, str(last[0]) if last else None, request.limit + 1)
    page = rows[: request.limit]
    return LegalHoldPage(
        holds=[
            LegalHold(
                project_slug=row.project_slug, reason=row.reason, placed_by=row.placed_by, placed_at=row.placed_at
            )
            for row in page
        ],
        next_cursor=(
            list_cursor(app.store.identity, scope, [page[-1].project_slug]) if len(rows) > len(page) else None
        ),
    )
