"""request_review: asking agents to look at a thread, or at a message of one; they are told in the thread.

Whoever is named may claim the review, and where nobody is, every agent of the project; never the requester.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from agent_mail_core.agents import Actor, acting_agent, the_agent
from agent_mail_core.delivery import Delivered
from agent_mail_core.errors import MessageNotFound, RecipientsRefused
from agent_mail_core.fields import (
    AgentName,
    Description,
    Id,
    IdempotencyKey,
    Line,
    ProjectRef,
    Request,
    ThreadKey,
    name_key,
)
from agent_mail_core.ids import AgentId, MessageId
from agent_mail_core.kept_answers import answered_before, keep_answer, key_scope
from agent_mail_core.leases import refuse_retired
from agent_mail_core.ports import App, Caller, Transaction, inbox_topics
from agent_mail_core.posts import Post, PostBody, indexed, send_post, send_to_reachable
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.review_errors import NotAReviewer
from agent_mail_core.reviews import NewReview, Review, ReviewRecord, review_event, review_result, the_review
from agent_mail_core.sending import with_contacts_asked
from agent_mail_core.threads import ThreadRecord, the_thread

MAX_REVIEWERS = 20
MAX_TOLD = 100
"""How many who take part in a thread are told of a request that names nobody."""

ReviewPath = Annotated[Line, Field(min_length=1, max_length=1024)]


class RequestReview(Request):
    project_slug: ProjectRef
    requester_name: AgentName = Field(description="Your agent name")
    thread_id: ThreadKey | None = Field(None, description="What to review: this thread, or message_id")
    message_id: Id | None = None
    reviewer_names: list[AgentName] = Field(
        default_factory=list, max_length=MAX_REVIEWERS, description="Who may claim it; nobody: anyone but you"
    )
    paths: list[ReviewPath] = Field(default_factory=list, max_length=100, description="Files to look at")
    note: Description | None = None
    idempotency_key: IdempotencyKey | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> RequestReview:
        if (self.thread_id is None) == (self.message_id is None):
            raise ValueError("give thread_id or message_id")
        if len({name_key(name) for name in self.reviewer_names}) < len(self.reviewer_names):
            raise ValueError("name each reviewer once")
        return self


class RequestedReview(Review):
    replayed: bool = False


async def request_review(app: App, caller: Caller, request: RequestReview) -> RequestedReview:
    """Ask agents to review a thread or a message; they are told in its thread, and one of them claims it."""
    body = await indexed(_request_text(request))
    try:
        async with app.store.write() as db:
            actor = await acting_agent(app, db, caller, request.project_slug, request.requester_name)
            scope = key_scope(caller, actor.agent.id, "request_review", request.idempotency_key)
            replay = await answered_before(db, scope, request, RequestedReview)
            if replay is not None:
                return replay
            refuse_retired(actor)
            answer, mailboxes = await _request(db, caller, actor, request, body)
            await keep_answer(db, scope, answer)
    except RecipientsRefused as error:
        raise await with_contacts_asked(app, caller, error) from None
    await app.wakeups.publish(inbox_topics(mailboxes))
    return answer


async def _request(
    db: Transaction, caller: Caller, actor: Actor, request: RequestReview, body: PostBody
) -> tuple[RequestedReview, Sequence[AgentId]]:
    """The answer, and whose inboxes have news."""
    thread = await _reviewed(db, caller, actor.project, request)
    reviewers = [await the_agent(db, caller, request.project_slug, name) for name in request.reviewer_names]
    _check_reviewers(actor, reviewers)
    review_id = await db.reviews.add(
        NewReview(
            team_id=caller.team_id,
            project_id=actor.project.id,
            thread_id=thread.id,
            message_id=MessageId(request.message_id) if request.message_id is not None else None,
            requester_id=actor.agent.id,
            reviewers=tuple(reviewer.agent.id for reviewer in reviewers),
            paths=tuple(request.paths),
            note=request.note,
        )
    )
    review = await the_review(db, actor.project, review_id)
    delivered = await _ask(db, caller, actor, thread, review, body)
    await db.events.add(
        review_event("review.requested", caller.team_id, review, actor, reviewers=list(review.reviewer_names))
    )
    return RequestedReview(**review_result(review).model_dump()), delivered.mailboxes


async def _reviewed(db: Transaction, caller: Caller, project: ProjectRecord, request: RequestReview) -> ThreadRecord:
    """The thread that the review is about, or that the message is in. Raises ThreadNotFound, MessageNotFound."""
    if request.message_id is None:
        return await the_thread(db, project, request.thread_id or "")
    message = await db.messages.get(caller.team_id, MessageId(request.message_id))
    if message is None or message.project_id != project.id:
        raise MessageNotFound(message_id=request.message_id, suggestion="search_messages")
    return await the_thread(db, project, message.thread_key)


def _check_reviewers(requester: Actor, reviewers: Sequence[Actor]) -> None:
    for reviewer in reviewers:
        if reviewer.agent.id == requester.agent.id:
            raise NotAReviewer("The requester cannot review what it asked for.", agent_name=reviewer.agent.name)
        if reviewer.agent.is_service:
            raise NotAReviewer("Overseer and System review nothing.", agent_name=reviewer.agent.name)


async def _ask(
    db: Transaction, caller: Caller, actor: Actor, thread: ThreadRecord, review: ReviewRecord, body: PostBody
) -> Delivered:
    """Tell the reviewers, all or none; without any, those who take part in the thread and can be reached."""
    post = Post(
        operation="request_review",
        sender_name=actor.agent.name,
        subject=f"Review {review.id} requested: {thread.subject}",
        body=body,
        to=review.reviewer_names,
        thread_key=thread.key,
        asks_for_contacts=True,
    )
    if review.reviewer_names:
        return await send_post(db, caller, actor.project.slug, post)
    others = (await db.threads.participants([thread.id])).get(thread.id, [])
    others = [name for name in others if name != actor.agent.name][:MAX_TOLD]
    return await send_to_reachable(db, caller, actor.project, replace(post, to=others, asks_for_contacts=False))


def _request_text(request: RequestReview) -> str:
    about = f"message {request.message_id}" if request.message_id is not None else "this thread"
    parts = [f"Please review {about}."]
    if request.note:
        parts.append(request.note)
    if request.paths:
        # Indented, so that no character of a path means anything in Markdown.
        parts.append("\n".join(f"    {path}" for path in request.paths))
    parts.append("Take it with claim_review (the review_id is in the subject); end it with complete_review.")
    return "\n\n".join(parts)
