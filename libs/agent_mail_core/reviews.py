"""Reviews: a thread, or a message of one, that an agent asks others to look at (SPEC §2).

What is stored, and how it is shown. How one is asked for is in `review_requests`, how it goes on in `reviewing`. A
claim is a lease: once its time is over the review is as if nobody had claimed it. One claim at most is live.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from agent_mail_core.agents import Actor, the_agent
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.events import EventKind, NewEvent
from agent_mail_core.fields import AgentName, Cursor, Id, PageSize, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, MessageId, ProjectId, ReviewId, TeamId, ThreadId
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import ProjectRecord, the_project
from agent_mail_core.review_errors import ReviewNotFound

ReviewState = Literal["requested", "claimed", "done", "cancelled"]
ReviewVerdict = Literal["approve", "request_changes", "comment"]


@dataclass(frozen=True, slots=True)
class NewReview:
    """A review to ask for."""

    team_id: TeamId
    project_id: ProjectId
    thread_id: ThreadId
    message_id: MessageId | None
    requester_id: AgentId
    reviewers: tuple[AgentId, ...]
    """In the order they were given; none: whoever likes."""
    paths: tuple[str, ...]
    note: str | None


@dataclass(frozen=True, slots=True)
class ReviewRecord:
    """A review as it stood when it was read."""

    id: ReviewId
    project_id: ProjectId
    thread_key: str
    thread_subject: str
    message_id: MessageId | None
    requester_id: AgentId
    requester_name: str
    reviewer_names: tuple[str, ...]
    paths: tuple[str, ...]
    note: str | None
    state: ReviewState
    """With a claim whose time was over: requested."""
    claimer_id: AgentId | None
    """Who has a live claim, or gave the verdict; so are the next three."""
    claimer_name: str | None
    fence: int | None
    claimed_at: datetime | None
    claim_expires_at: datetime | None
    verdict: ReviewVerdict | None
    created_at: datetime
    ended_at: datetime | None


class Reviews(Protocol):
    """Store of reviews. Whatever changes them is called under the project's lease lock, except `add`."""

    async def add(self, new: NewReview) -> ReviewId:
        """Store it."""
        ...

    async def find(self, project_id: ProjectId, review_id: ReviewId) -> ReviewRecord | None:
        """The project's review of that id."""
        ...

    async def claim(self, review_id: ReviewId, agent_id: AgentId, fence: int, ttl: timedelta) -> bool:
        """Let the agent have it for `ttl` from now, unless it has ended or somebody has a live claim."""
        ...

    async def renew(self, review_id: ReviewId, agent_id: AgentId, ttl: timedelta) -> bool:
        """Let the agent's claim end `ttl` from now, if it has a live one. Its fence stays."""
        ...

    async def complete(self, review_id: ReviewId, agent_id: AgentId, verdict: ReviewVerdict) -> bool:
        """End it with a verdict, if the agent has a live claim."""
        ...

    async def cancel(self, review_id: ReviewId) -> bool:
        """End it without one, if it has not ended."""
        ...

    async def release_claims(self, agent_id: AgentId) -> None:
        """End the agent's claims that have no verdict."""
        ...

    async def page(
        self,
        project_id: ProjectId,
        state: ReviewState | None,
        agent_id: AgentId | None,
        below: ReviewId | None,
        limit: int,
    ) -> list[ReviewRecord]:
        """Newest first, below an id; of an agent, those that it asked for, may claim by name, or claimed."""
        ...


async def the_review(db: Transaction, project: ProjectRecord, review_id: int) -> ReviewRecord:
    """The project's review of that id, or ReviewNotFound."""
    review = await db.reviews.find(project.id, ReviewId(review_id))
    if review is None:
        raise ReviewNotFound(review_id=review_id, suggestion="list_reviews")
    return review


def review_event(kind: EventKind, team_id: TeamId, review: ReviewRecord, actor: Actor, **more: object) -> NewEvent:
    """What happened to a review; the event is that of the agent that did it."""
    data = {"review_id": review.id, "thread_id": review.thread_key, "requester": review.requester_name, **more}
    return NewEvent(kind, team_id, review.project_id, actor.agent.id, data=data)


# --- results ----------------------------------------------------------------------------------------------------------


class Review(Result):
    """A review, with its claim while that lasts."""

    review_id: int
    thread_id: str
    message_id: int | None = None
    requester_name: str
    reviewer_names: list[str]
    """Nobody: whoever likes may claim it."""
    paths: list[str]
    note: str | None = None
    state: ReviewState
    claimer_name: str | None = None
    fence: int | None = None
    claimed_at: datetime | None = None
    claim_expires_at: datetime | None = None
    verdict: ReviewVerdict | None = None
    created_at: datetime
    ended_at: datetime | None = None


def review_result(record: ReviewRecord) -> Review:
    """A stored review as the wire shows it."""
    return Review(
        review_id=record.id,
        thread_id=record.thread_key,
        message_id=record.message_id,
        requester_name=record.requester_name,
        reviewer_names=list(record.reviewer_names),
        paths=list(record.paths),
        note=record.note,
        state=record.state,
        claimer_name=record.claimer_name,
        fence=record.fence,
        claimed_at=record.claimed_at,
        claim_expires_at=record.claim_expires_at if record.state == "claimed" else None,
        verdict=record.verdict,
        created_at=record.created_at,
        ended_at=record.ended_at,
    )


# --- get_review, list_reviews -----------------------------------------------------------------------------------------


class GetReview(Request):
    project_slug: ProjectRef
    review_id: Id


async def get_review(app: App, caller: Caller, request: GetReview) -> Review:
    """Show a review: what it is about, who has claimed it, and the verdict."""
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        record = await the_review(db, project, request.review_id)
    return review_result(record)


class ListReviews(Request):
    project_slug: ProjectRef
    state: ReviewState | None = None
    agent_name: AgentName | None = None
    limit: PageSize = 20
    cursor: Cursor | None = None


class ReviewPage(Result):
    reviews: list[Review]
    next_cursor: str | None = None


async def list_reviews(app: App, caller: Caller, request: ListReviews) -> ReviewPage:
    """List reviews, newest first; an agent's are those it asked for, is named for, or claimed."""
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        agent_id = None
        if request.agent_name is not None:
            agent_id = (await the_agent(db, caller, request.project_slug, request.agent_name)).agent.id
        scope = list_scope("list_reviews", caller.team_id, project.id, request.state, agent_id)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        below = ReviewId(last[0]) if last else None
        rows = await db.reviews.page(project.id, request.state, agent_id, below, request.limit + 1)
    page = rows[: request.limit]
    return ReviewPage(
        reviews=[review_result(record) for record in page],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if len(rows) > len(page) else None,
    )
