"""Acknowledgements that are still owed: the operation that lists them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, field_validator

from agent_mail_core.agents import acting_agent
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.fields import (
    AgentName,
    Cursor,
    PageSize,
    PriorityWord,
    ProjectRef,
    RecipientKind,
    Request,
    Result,
)
from agent_mail_core.ids import AgentId, MessageId
from agent_mail_core.mailboxes import PendingAck
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project


class ListPendingAcks(Request):
    project_slug: ProjectRef
    agent_name: AgentName | None = Field(None, description="Your agent; left out: the whole project")
    direction: Literal["owed_by_me", "owed_to_me"] = "owed_by_me"
    older_than_seconds: int | None = Field(None, ge=0, le=10 * 365 * 86400)
    limit: PageSize = 20
    cursor: Cursor | None = None

    @field_validator("direction")
    @classmethod
    def _somebody_is_owed(cls, direction: str, info: object) -> str:
        if direction == "owed_to_me" and getattr(info, "data", {}).get("agent_name") is None:
            raise ValueError("owed_to_me needs agent_name")
        return direction


class PendingAcknowledgement(Result):
    message_id: int
    thread_id: str
    sender_name: str
    subject: str
    priority: PriorityWord
    created_at: datetime
    agent_name: str
    """Who owes it."""
    kind: RecipientKind
    read_at: datetime | None = None


class PendingAckPage(Result):
    pending: list[PendingAcknowledgement]
    next_cursor: str | None = None


async def list_pending_acks(app: App, caller: Caller, request: ListPendingAcks) -> PendingAckPage:
    """List acknowledgements still owed, oldest first: by your agent, to it (owed_to_me), or in the whole project."""
    older = request.older_than_seconds
    async with app.store.read() as db:
        if request.agent_name is None:
            project, agent_id = await the_project(db, caller, request.project_slug), None
        else:
            actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
            project, agent_id = actor.project, actor.agent.id
        scope = list_scope("list_pending_acks", caller.team_id, project.id, agent_id, request.direction, older)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int, int)
        owed_by_me = request.direction == "owed_by_me"
        rows = await db.mailboxes.pending_acks(
            project.id,
            owed_by=agent_id if owed_by_me else None,
            owed_to=None if owed_by_me else agent_id,
            sent_before=app.clock.now() - timedelta(seconds=older) if older is not None else None,
            after=(MessageId(last[0]), AgentId(last[1])) if last else None,
            with_bcc=agent_id is not None,
            limit=request.limit + 1,
        )
    page = rows[: request.limit]
    return PendingAckPage(
        pending=[_pending(row) for row in page],
        next_cursor=(
            list_cursor(app.store.identity, scope, [page[-1].message_id, page[-1].agent_id])
            if len(rows) > len(page)
            else None
        ),
    )


def _pending(row: PendingAck) -> PendingAcknowledgement:
    return PendingAcknowledgement(
        message_id=row.message_id,
        thread_id=row.thread_key,
        sender_name=row.sender_name,
        subject=row.subject,
        priority=row.priority,
        created_at=row.created_at,
        agent_name=row.agent_name,
        kind=row.kind,
        read_at=row.read_at,
    )
