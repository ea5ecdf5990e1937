"""Threads: conversations of a project, known by their key ignoring case."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from agent_mail_core.addresses import elsewhere, parse, seen_from, show
from agent_mail_core.agents import acting_agent, may_act_as, the_agent
from agent_mail_core.clock import from_microseconds, to_microseconds
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import ThreadNotFound
from agent_mail_core.fields import AgentName, Cursor, Line, PageSize, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, MessageId, ProjectId, ThreadId
from agent_mail_core.messages import Message, attached_files, by_message, message_fields
from agent_mail_core.pages import fitting
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import ProjectRecord, the_project
from agent_mail_core.suggestions import near_names

NEAR_KEY_POOL = 1000


Share = Literal["none", "some", "all"]


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
    """Store of threads. `Store.deliver` makes and updates them. Those of deleted projects are not asked for."""

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

    async def elsewhere(
        self, agent_id: AgentId, query: str | None, before: tuple[datetime, ThreadId] | None, limit: int
    ) -> list[tuple[ThreadRecord, str]]:
        """The threads of other projects that an agent takes part in, if only as bcc, with their slugs; like `page`."""
        ...

    async def participants(self, thread_ids: list[ThreadId]) -> dict[ThreadId, list[str]]:
        """All who wrote or were visibly written to, A-Z, as the thread's project writes them; nobody only bcc."""
        ...

    async def share(self, thread_id: ThreadId, agent_id: AgentId) -> Share:
        """How many of its messages the agent sent or got, if only as bcc."""
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


async def the_addressed_thread(
    db: Transaction, caller: Caller, asked: ProjectRecord, text: str, reader: AgentId | None
) -> tuple[ProjectRecord, ThreadRecord]:
    """The thread that `KEY` or `KEY@slug` means to whoever asks in the project `asked`, and its project.

    That of another project is there only for a `reader` who sent or got some of its messages, and those alone are to be
    shown (SPEC 3.3 rule 7). Raises ThreadNotFound, with near keys of this project only: a thread that another project
    does not have, one that is not for the reader, and a project that is not there, answer alike.
    """
    address = parse(text)
    if address.is_in(asked.slug):
        return asked, await the_thread(db, asked, address.name)
    project = await db.projects.find(caller.team_id, address.slug or "")
    # `find` takes a human key too, and an address does not.
    thread = await db.threads.find(project.id, address.name) if project and project.slug == address.slug else None
    if project is None or thread is None or reader is None or await db.threads.share(thread.id, reader) == "none":
        raise ThreadNotFound(
            f"There is no thread {text!r} with messages that you sent or got.",
            thread_id=text,
            suggestion="list_threads with agent_name, and give agent_name here too",
        )
    return project, thread


class Thread(Result):
    thread_id: str
    project_slug: str
    subject: str
    participants: list[str]
    message_count: int
    last_message_id: int
    last_message_at: datetime
    created_at: datetime


def thread_result(record: ThreadRecord, home_slug: str, participants: list[str], asked_slug: str) -> Thread:
    """A stored thread of the project `home_slug`, as it is shown to the project that was asked."""
    return Thread(
        thread_id=show(record.key, elsewhere(home_slug, asked_slug)),
        project_slug=home_slug,
        subject=record.subject,
        participants=[seen_from(asked_slug, home_slug, name) for name in participants],
        message_count=record.message_count,
        last_message_id=record.last_message_id,
        last_message_at=record.last_message_at,
        created_at=record.created_at,
    )


# --- list_threads -----------------------------------------------------------------------------------------------------


class ListThreads(Request):
    project_slug: ProjectRef
    agent_name: AgentName | None = Field(
        None, description="Only threads that this agent takes part in; for your own, also those in other projects"
    )
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
        threads = await db.threads.page(project.id, wanted, before, request.limit + 1)
        rows = [(thread, project.slug) for thread in threads]
        if wanted.agent_id is not None and wanted.with_hidden:
            rows += await db.threads.elsewhere(wanted.agent_id, wanted.query, before, request.limit + 1)
            rows.sort(key=lambda row: (row[0].last_message_at, row[0].id), reverse=True)
        page = rows[: request.limit]
        participants = await db.threads.participants([thread.id for thread, _ in page])
    return ThreadPage(
        threads=[thread_result(thread, slug, participants.get(thread.id, []), project.slug) for thread, slug in page],
        next_cursor=(
            list_cursor(app.store.identity, scope, [to_microseconds(page[-1][0].last_message_at), page[-1][0].id])
            if len(rows) > len(page)
            else None
        ),
    )


# --- get_thread -------------------------------------------------------------------------------------------------------


class GetThread(Request):
    project_slug: ProjectRef
    thread_id: Line = Field(min_length=1, max_length=229)
    agent_name: AgentName | None = Field(None, description="Yours; for KEY@slug")
    include_bodies: bool = True
    limit: PageSize = 20
    cursor: Cursor | None = None


class ThreadMessages(Result):
    thread: Thread
    messages: list[Message]
    next_cursor: str | None = None


async def get_thread(app: App, caller: Caller, request: GetThread) -> ThreadMessages:
    """Read a thread, oldest message first. Marks nothing read."""
    async with app.store.read() as db:
        reader = None
        if request.agent_name is None:
            asked = await the_project(db, caller, request.project_slug)
        else:
            actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
            asked, reader = actor.project, actor.agent.id
        project, thread = await the_addressed_thread(db, caller, asked, request.thread_id, reader)
        party = reader if project.id != asked.id else None
        scope = list_scope("get_thread", caller.team_id, thread.id, party)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        after = MessageId(last[0]) if last else None
        rows = await db.messages.of_thread(thread.id, after, request.include_bodies, request.limit + 1, party)
        page = fitting(rows, request.limit)
        states = by_message(await db.messages.recipients([record.id for record in page]))
        files = await attached_files(db, page) if request.include_bodies else {}
        participants = await db.threads.participants([thread.id])
    return ThreadMessages(
        thread=thread_result(thread, project.slug, participants.get(thread.id, []), asked.slug),
        messages=[
            Message(**message_fields(record, states.get(record.id, ()), reader, asked.slug, files.get(record.id, ())))
            for record in page
        ],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if len(rows) > len(page) else None,
    )
