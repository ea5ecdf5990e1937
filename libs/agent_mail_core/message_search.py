"""Searching messages: the operation.

What a query means is in search_query, what a message's words are in search_text, and how words and meaning are searched
together in search_by_meaning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import Field

from agent_mail_core.addresses import seen_from
from agent_mail_core.agents import may_act_as, the_agent
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.embeddings import Sought
from agent_mail_core.errors import EmptyQuery, Invalid
from agent_mail_core.fields import (
    AgentName,
    Cursor,
    PageSize,
    PriorityWord,
    ProjectRef,
    Request,
    Result,
    Text,
    Timestamp,
)
from agent_mail_core.ids import AgentId, MessageId, ProjectId, TeamId
from agent_mail_core.messages import MessageRecord
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.products import ProductName, the_product
from agent_mail_core.projects import the_project
from agent_mail_core.search_by_meaning import AskedMode, SearchMode, Semantic, best_ids, way
from agent_mail_core.search_query import Query, QueryTooComplex, parse
from agent_mail_core.snippets import snippet

SHORT_BODY = 4 * 1024
SNIPPET_CHARACTERS = 256 * 1024
"""Of bodies that one page of hits is looked through for its excerpts: about 100 ms."""

MAX_HITS = 1000
"""A search ends after this many hits, as the best of them are what anybody reads."""


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Where to search besides the query."""

    team_id: TeamId
    project_ids: tuple[ProjectId, ...] | None
    """None: the whole team, but for its deleted projects."""
    agent_id: AgentId | None
    """Only what this agent sent or received."""
    with_hidden: bool
    """Also what it received as bcc; for its own eyes."""
    since: datetime | None


class MessageSearch(Protocol):
    """Store of the text index."""

    async def find(self, query: Query, wanted: SearchFilter, offset: int, limit: int) -> list[MessageRecord]:
        """Messages with bodies that match as `search_query.matches` defines, best first, then newest first.

        Both engines find the same messages; their order may differ. A query without words to rank by is newest first.
        """
        ...

    async def ranked(self, query: Query, wanted: SearchFilter, limit: int) -> list[MessageId]:
        """The ids of what `find` finds, in its order."""
        ...

    async def nearest(self, sought: Sought, wanted: SearchFilter, limit: int) -> list[tuple[MessageId, float]]:
        """Messages that match the demands, by similarity to the vector, each with it (-1 to 1), best first.

        Of those whose codes are nearest the best `embeddings.WEIGHED` are weighed, so that one beyond may be missed.
        Raises ModeUnavailable when the database cannot.
        """
        ...

    async def records(self, message_ids: Sequence[MessageId]) -> list[MessageRecord]:
        """These messages with bodies, in this order, without those that are gone."""
        ...


class SearchMessages(Request):
    query: Text = Field(
        min_length=1,
        max_length=500,
        description='Words, "phrases", prefix*, from:Name subject:word thread:ID before:2026-01-31 after:…, OR, -not',
    )
    project_slug: ProjectRef | None = Field(None, description="Left out: all projects of your team")
    product_name: ProductName | None = Field(None, description="All projects of this product")
    agent_name: AgentName | None = Field(None, description="Only what this agent sent or received")
    mode: AskedMode = Field("auto", description="semantic: by meaning; hybrid: both; auto: the best there is")
    since: Timestamp | None = None
    limit: PageSize = 20
    cursor: Cursor | None = None


class SearchHit(Result):
    rank: int
    """1 is the best."""
    message_id: int
    project_slug: str
    thread_id: str
    sender_name: str
    subject: str
    snippet: str
    """An excerpt of the body; matches stand between `**`."""
    priority: PriorityWord
    created_at: datetime


class SearchPage(Result):
    hits: list[SearchHit]
    mode: SearchMode
    """How it was searched."""
    semantic: Semantic
    """What became of the search by meaning: used; partial (some mail is not embedded yet); not_asked; or why text alone
    was searched: off, not_ready, failed, too_wide."""
    next_cursor: str | None = None


async def search_messages(app: App, caller: Caller, request: SearchMessages) -> SearchPage:
    """Find messages by words in subject and body, best first. No hit is an empty list, never an error."""
    if request.product_name is not None and request.project_slug is not None:
        raise Invalid("give project_slug or product_name, not both")
    if request.agent_name is not None and request.project_slug is None:
        raise Invalid("agent_name needs project_slug, because names are unique in a project only.")
    try:
        query = parse(request.query)
    except QueryTooComplex as error:
        raise Invalid(str(error)) from None
    if query.is_empty:
        raise EmptyQuery(query=request.query)
    async with app.store.read() as db:
        wanted, asked_slug = await _where(db, caller, request)
        scope = list_scope("search_messages", *_filters(request, wanted))
    last = open_list_cursor(app.store.identity, scope, request.cursor, int, str)
    offset, going_on = last or (0, None)
    taken = await way(app, query, wanted, request.mode, going_on)
    most = min(request.limit + 1, MAX_HITS - offset)
    if taken.sought is None:
        async with app.store.read() as db:
            rows = await db.message_search.find(query, wanted, offset, most)
        page, end, has_more = rows[: request.limit], offset + min(len(rows), request.limit), len(rows) > request.limit
    else:
        ids = await best_ids(app, query, wanted, taken.sought, taken.mode, MAX_HITS)
        end, has_more = min(offset + request.limit, len(ids)), offset + request.limit < len(ids)
        async with app.store.read() as db:
            page = await db.message_search.records(ids[offset:end])
    return SearchPage(
        hits=[
            SearchHit(
                rank=offset + number,
                message_id=record.id,
                project_slug=record.project_slug,
                thread_id=seen_from(asked_slug or record.project_slug, record.project_slug, record.thread_key),
                sender_name=seen_from(asked_slug or record.project_slug, record.project_slug, record.sender_name),
                subject=record.subject,
                snippet=excerpt,
                priority=record.priority,
                created_at=record.created_at,
            )
            for number, (record, excerpt) in enumerate(zip(page, await _snippets(page, query), strict=True), start=1)
        ],
        mode=taken.mode,
        semantic=taken.semantic,
        next_cursor=list_cursor(app.store.identity, scope, [end, taken.mode]) if has_more and end < MAX_HITS else None,
    )


async def _where(db: Transaction, caller: Caller, request: SearchMessages) -> tuple[SearchFilter, str | None]:
    """Where to search, and the project that names and keys are shown for; None: for that of each hit."""
    project_ids: tuple[ProjectId, ...] | None = None
    agent_id, with_hidden, asked_slug = None, False, None
    if request.product_name is not None:
        product = await the_product(db, caller, request.product_name)
        projects = (await db.products.projects([product.id])).get(product.id, [])
        project_ids = tuple(project.id for project in projects)
    elif request.project_slug is not None and request.agent_name is not None:
        actor = await the_agent(db, caller, request.project_slug, request.agent_name)
        agent_id, asked_slug = actor.agent.id, actor.project.slug
        with_hidden = may_act_as(caller, actor.agent)
        # Its own eyes see what it sent and received in other projects too.
        project_ids = None if with_hidden else (actor.project.id,)
    elif request.project_slug is not None:
        project = await the_project(db, caller, request.project_slug)
        project_ids, asked_slug = (project.id,), project.slug
    return SearchFilter(caller.team_id, project_ids, agent_id, with_hidden, request.since), asked_slug


async def _snippets(page: list[MessageRecord], query: Query) -> list[str]:
    """An excerpt of each message. Long bodies are looked through on a thread, and less far the more there are."""
    if not page:
        return []
    look = max(SHORT_BODY, SNIPPET_CHARACTERS // len(page))
    texts = [(record.subject, (record.body_md or "")[:look]) for record in page]
    if sum(len(body) for _, body in texts) <= SHORT_BODY * 4:
        return [snippet(subject, body, query) for subject, body in texts]
    return [await asyncio.to_thread(snippet, subject, body, query) for subject, body in texts]


def _filters(request: SearchMessages, wanted: SearchFilter) -> tuple[Any, ...]:
    """What tells one search list from another, the team first."""
    return (
        wanted.team_id,
        request.query,
        request.mode,
        wanted.project_ids,
        wanted.agent_id,
        wanted.with_hidden,
        request.since.isoformat() if request.since else None,
    )
