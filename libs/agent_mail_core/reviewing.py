"""How a review goes on: claimed, completed or cancelled. Each step is a post to its thread (SPEC §2).

Steps of one project run one after another, under its lease lock, so of agents that claim at once one wins. A post goes
to those who can be reached: that somebody has retired or blocked somebody stops no review.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from agent_mail_core.agents import SYSTEM, Actor, may_act_as, the_agent
from agent_mail_core.delivery import Delivered, SendOperation
from agent_mail_core.errors import AgentNotYours
from agent_mail_core.fields import AgentName, Body, Id, ProjectRef, Request, Result
from agent_mail_core.ids import ReviewId
from agent_mail_core.leases import lock_leases, refuse_retired
from agent_mail_core.ports import App, Caller, Transaction, inbox_topics
from agent_mail_core.posts import Post, PostBody, indexed, send_to_reachable, short_body
from agent_mail_core.projects import the_project
from agent_mail_core.review_errors import NotAReviewer, ReviewEnded, ReviewNotClaimed
from agent_mail_core.reviews import Review, ReviewRecord, ReviewVerdict, review_event, review_result, the_review

# --- claim_review -----------------------------------------------------------------------------------------------------


class ClaimReview(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    review_id: Id
    ttl_seconds: int = Field(3600, ge=60, le=604_800)


class ClaimedReview(Result):
    claimed: bool
    """False: somebody else has it, or it has ended, as `review` says."""
    renewed: bool = False
    """Whether the agent had it already."""
    review: Review


async def claim_review(app: App, caller: Caller, request: ClaimReview) -> ClaimedReview:
    """Take a review for yourself until the ttl ends; of several that try, one gets it. Again renews your claim."""
    ttl = timedelta(seconds=request.ttl_seconds)
    delivered = None
    async with app.store.write() as db:
        actor = await lock_leases(app, db, caller, request.project_slug, request.agent_name)
        refuse_retired(actor)
        review = await the_review(db, actor.project, request.review_id)
        _check_may_claim(actor, review)
        renewed = await db.reviews.renew(review.id, actor.agent.id, ttl)
        claimed = renewed or (review.state == "requested" and await _claim(db, actor, review.id, ttl))
        review = await the_review(db, actor.project, review.id)
        if claimed and not renewed:
            text = f"{actor.agent.name} reviews this."
            delivered = await _report(db, caller, actor, review, "claim_review", "claimed", short_body(text))
            await db.events.add(review_event("review.claimed", caller.team_id, review, actor, fence=review.fence))
    if delivered is not None:
        await app.wakeups.publish(inbox_topics(delivered.mailboxes))
    return ClaimedReview(claimed=claimed, renewed=renewed, review=review_result(review))


def _check_may_claim(actor: Actor, review: ReviewRecord) -> None:
    if actor.agent.id == review.requester_id:
        raise NotAReviewer("The requester cannot review what it asked for.", agent_name=actor.agent.name)
    if review.reviewer_names and actor.agent.name not in review.reviewer_names:
        raise NotAReviewer(agent_name=actor.agent.name, reviewer_names=list(review.reviewer_names))


async def _claim(db: Transaction, actor: Actor, review_id: ReviewId, ttl: timedelta) -> bool:
    [fence] = await db.leases.fences(actor.project.id, 1)
    return await db.reviews.claim(review_id, actor.agent.id, fence, ttl)


# --- complete_review --------------------------------------------------------------------------------------------------


class CompleteReview(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    review_id: Id
    verdict: ReviewVerdict
    body_md: Body


_VERDICTS: dict[ReviewVerdict, str] = {
    "approve": "approved",
    "request_changes": "changes requested",
    "comment": "commented",
}


async def complete_review(app: App, caller: Caller, request: CompleteReview) -> Review:
    """End a review that you have claimed with a verdict; body_md is posted to its thread."""
    body = await indexed(request.body_md)
    async with app.store.write() as db:
        actor = await lock_leases(app, db, caller, request.project_slug, request.agent_name)
        refuse_retired(actor)
        review = await the_review(db, actor.project, request.review_id)
        if not await db.reviews.complete(review.id, actor.agent.id, request.verdict):
            raise _not_completed(review)
        review = await the_review(db, actor.project, review.id)
        how = _VERDICTS[request.verdict]
        delivered = await _report(db, caller, actor, review, "complete_review", how, body)
        await db.events.add(review_event("review.completed", caller.team_id, review, actor, verdict=request.verdict))
    await app.wakeups.publish(inbox_topics(delivered.mailboxes))
    return review_result(review)


def _not_completed(review: ReviewRecord) -> ReviewEnded | ReviewNotClaimed:
    if review.ended_at is not None:
        return ReviewEnded(review_id=review.id, state=review.state, verdict=review.verdict, suggestion="get_review")
    return ReviewNotClaimed(review_id=review.id, claimer_name=review.claimer_name, suggestion="claim_review")


async def _report(
    db: Transaction,
    caller: Caller,
    actor: Actor,
    review: ReviewRecord,
    operation: SendOperation,
    what: str,
    body: PostBody,
) -> Delivered:
    """Post what the claimer did to the requester and to the others who were asked."""
    others = (name for name in review.reviewer_names if name != actor.agent.name)
    post = Post(
        operation=operation,
        sender_name=actor.agent.name,
        subject=f"Review {review.id} {what}: {review.thread_subject}",
        body=body,
        to=(review.requester_name, *others),
        thread_key=review.thread_key,
    )
    return await send_to_reachable(db, caller, actor.project, post)


# --- cancel_review ----------------------------------------------------------------------------------------------------


class CancelReview(Request):
    project_slug: ProjectRef
    review_id: Id


async def cancel_review(app: App, caller: Caller, request: CancelReview) -> Review:
    """Take back a review that your agent asked for, claimed or not. Twice is fine; a completed one stays."""
    delivered = None
    async with app.store.write() as db:
        project = await the_project(db, caller, request.project_slug)
        await db.leases.lock(project.id)
        review = await the_review(db, project, request.review_id)
        requester = await the_agent(db, caller, request.project_slug, review.requester_name)
        if not may_act_as(caller, requester.agent):
            raise AgentNotYours(agent_name=review.requester_name)
        if review.state == "done":
            raise ReviewEnded(review_id=review.id, state=review.state, verdict=review.verdict, suggestion="get_review")
        if await db.reviews.cancel(review.id):
            delivered = await _call_off(db, caller, requester, review)
            await db.events.add(review_event("review.cancelled", caller.team_id, review, requester))
        review = await the_review(db, project, review.id)
    app.presence.saw(requester.agent.id)
    if delivered is not None:
        await app.wakeups.publish(inbox_topics(delivered.mailboxes))
    return review_result(review)


async def _call_off(db: Transaction, caller: Caller, requester: Actor, review: ReviewRecord) -> Delivered:
    """Post it to those who were asked and to who has it: from the requester, or System when that has retired."""
    is_retired = requester.agent.retired_at is not None
    told = {*review.reviewer_names, *([review.claimer_name] if review.claimer_name else [])}
    post = Post(
        operation="cancel_review",
        sender_name=SYSTEM if is_retired else requester.agent.name,
        subject=f"Review {review.id} cancelled: {review.thread_subject}",
        body=short_body("This review is no longer wanted."),
        to=sorted(told),
        thread_key=review.thread_key,
        is_of_service=is_retired,
    )
    return await send_to_reachable(db, caller, requester.project, post)
