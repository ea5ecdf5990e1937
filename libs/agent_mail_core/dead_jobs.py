"""Jobs that failed too often: an administrator looks at them, and has them tried again or forgotten."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.fields import Cursor, PageSize, Request, Result
from agent_mail_core.ids import LARGEST_ID
from agent_mail_core.job_queue import JobKind
from agent_mail_core.ports import App, Caller


class ListDeadJobs(Request):
    limit: PageSize = 20
    cursor: Cursor | None = None


class DeadJob(Result):
    kind: str
    subject_id: int
    """Of the project or thread."""
    attempts: int
    last_error: str | None = None
    created_at: datetime


class DeadJobPage(Result):
    jobs: list[DeadJob]
    next_cursor: str | None = None


class ChooseDeadJobs(Request):
    """Which of them."""

    kind: JobKind
    subject_id: int | None = Field(None, ge=0, le=LARGEST_ID, description="One of them; left out: all of the kind")


class RetriedJobs(Result):
    retried: int


class DroppedJobs(Result):
    dropped: int


async def list_dead_jobs(app: App, caller: Caller, request: ListDeadJobs) -> DeadJobPage:
    """List background jobs that were given up, by kind and subject, with the last error of each."""
    scope = list_scope("list_dead_jobs", caller.team_id)
    last = open_list_cursor(app.store.identity, scope, request.cursor, str, int)
    async with app.store.read() as db:
        rows = await db.jobs.dead(caller.team_id, (last[0], last[1]) if last else None, request.limit + 1)
    page = rows[: request.limit]
    return DeadJobPage(
        jobs=[
            DeadJob(
                kind=row.kind,
                subject_id=row.subject_id,
                attempts=row.attempts,
                last_error=row.last_error,
                created_at=row.created_at,
            )
            for row in page
        ],
        next_cursor=(
            list_cursor(app.store.identity, scope, [page[-1].kind, page[-1].subject_id])
            if len(rows) > len(page)
            else None
        ),
    )


async def retry_job(app: App, caller: Caller, request: ChooseDeadJobs) -> RetriedJobs:
    """Have a background job that was given up tried again from the beginning, or all of its kind."""
    async with app.store.write() as db:
        subjects = await db.jobs.retry(caller.team_id, request.kind, request.subject_id)
    for subject_id in subjects:
        app.jobs.wake(request.kind, subject_id)
    return RetriedJobs(retried=len(subjects))


async def drop_job(app: App, caller: Caller, request: ChooseDeadJobs) -> DroppedJobs:
    """Forget a background job that was given up, or all of its kind. What it was for may be asked for again."""
    async with app.store.write() as db:
        subjects = await db.jobs.drop(caller.team_id, request.kind, request.subject_id)
    return DroppedJobs(dropped=len(subjects))
