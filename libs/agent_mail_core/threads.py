"""Threads: conversations of a project, known by their key ignoring case."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import Field

from agent_mail_core.agents import may_act_as, the_agent
from agent_mail_core.clock import from_microseconds, to_microseconds
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import ThreadNotFound
from agent_mail_core.fields import AgentName, Cursor, Line, PageSize, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, MessageId, ProjectId, ThreadId
from agent_mail_core.messages import Message, by_message, message_fields
from agent_mail_core.pages import fitting
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import ProjectRecord, the_project
from agent_mail_core.suggestions import near_names

NEAR_KEY_POOL = 1000


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """A thread as stored."""

    id: ThreadId
    project_id: ProjectId
    key: str
    subject: str
    """Of its first message."""
    message_count: int
    last_message_id: MessageId
    last_message_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ThreadFilter:
    """Which threads to list."""

    agent_id: AgentId | None
    with_hidden: bool
    """Count the agent in where it is only a bcc recipient; for its own eyes."""
    query: str | None


class Threads(Protocol):
    """Store of threads. `Store.deliver` makes and updates them."""

    async def find(self, project_id: ProjectId, key: str) -> ThreadRecord | None:
        """By key, ignoring ASCII case."""
        ...

    async def page(
        self, project_id: ProjectId, wanted: ThreadFilter, before: tuple[datetime, ThreadId] | None, limit: int
    ) -> list[ThreadRecord]:
        """By last message, newest first, then by id, below `before`.

        `query` is a piece of key or subject, ignoring ASCII case.
        """
        ...

    async def participants(self, thread_ids: list[ThreadId]) -> dict[ThreadId, list[str]]:
        """Names of all who wrote or were visibly written to, A-Z; nobody who was only bcc."""
        ...

    async def keys(self, project_id: ProjectId, limit: int) -> list[str]:
        """Some keys, the most recently used first."""
        ...


async def the_thread(db: Transaction, project: ProjectRecord, key: str) -> ThreadRecord:
    """The project's thread of that key, or ThreadNotFound with near keys."""
    thread = await db.threads.find(project.id, key)
    if thread is None:
        near = near_names(key, await db.threads.keys(project.id, NEAR_KEY_POOL))
        raise ThreadNotFound(
            f"There is no thread {key!r} in project {project.slug!r}.",
            thread_id=key,
            near=near or None,
            suggestion="list_threads",
        )
    return thread


class Thread(Result):
    thread_id: str
    project_slug: str
    subject: str
    participants: list[str]
    message_count: int
    last_message_id: int
    last_message_at: datetime
    created_at: datetime


def thread_result(record: ThreadRecord, project: ProjectRecord, participants: list[str]) -> Thread:
    """A stored thread as the wire shows it."""
    return Thread(
        thread_id=record.key,
        project_slug=project.slug,
        subject=record.subject,
        participants=participants,
        message_count=record.message_count,
        last_message_id=record.last_message_id,
        last_message_at=record.last_message_at,
        created_at=record.created_at,
    )


# --- list_threads -----------------------------------------------------------------------------------------------------


class ListThreads(Request):
    project_slug: ProjectRef
    agent_name: AgentName | None = Field(None, description="Only threads that this agent takes part in")
    query: Line | None = Field(None, max_length=200, description="Piece of a thread id or subject")
    limit: PageSize = 20
    cursor: Cursor | None = None


class ThreadPage(Result):
    threads: list[Thread]
    next_cursor: str | None = None


async def list_threads(app: App, caller: Caller, request: ListThreads) -> ThreadPage:
    """List a project's threads by their last message, newest first."""
    async with app.store.read() as db:
        if request.agent_name is None:
            project, wanted = (
                await the_project(db, caller, request.project_slug),
                ThreadFilter(None, False, request.query),
            )
        else:
            actor = await the_agent(db, caller, request.project_slug, request.agent_name)
            project = actor.project
            wanted = ThreadFilter(actor.agent.id, may_act_as(caller, actor.agent), request.query)
        scope = list_scope(
            "list_threads", caller.team_id, project.id, wanted.agent_id, wanted.with_hidden, wanted.query
        )
        last = open_list_cursor(app.store.identity, scope, request.cursor, int, int)
        before = (from_microseconds(last[0]), ThreadId(last[1])) if last else None
        rows = await db.threads.page(project.id, wanted, before, request.limit + 1)
        page = rows[: request.limit]
        participants = await db.threads.participants([thread.id for thread in page])
    return ThreadPage(
        threads=[thread_result(thread, project, participants.get(thread.id, [])) for thread in page],
        next_cursor=(
            list_cursor(app.store.identity, scope, [to_microseconds(page[-1].last_message_at), page[-1].id])
            if len(rows) > len(page)
            else None
        ),
    )


# --- get_thread -------------------------------------------------------------------------------------------------------


class GetThread(Request):
    project_slug: ProjectRef
    thread_id: Line = Field(min_length=1, max_length=128)
    include_bodies: bool = True
    limit: PageSize = 20
    cursor: Cursor | None = None


class ThreadMessages(Result):
    thread: Thread
    messages: list[Message]
    next_cursor: str | None = None


async def get_thread(app: App, caller: Caller, request: GetThread) -> ThreadMessages:
    """Read a thread, oldest message first. Does not mark anything read."""
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        thread = await the_thread(db, project, request.thread_id)
        scope = list_scope("get_thread", caller.team_id, thread.id)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        after = MessageId(last[0]) if last else None
        rows = await db.messages.of_thread(thread.id, after, request.include_bodies, request.limit + 1)
        page = fitting(rows, request.limit)
        states = by_message(await db.messages.recipients([record.id for record in page]))
        participants = await db.threads.participants([thread.id])
    return ThreadMessages(
        thread=thread_result(thread, project, participants.get(thread.id, [])),
        messages=[Message(**message_fields(record, states.get(record.id, ()), None)) for record in page],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if len(rows) > len(page) else None,
    )
