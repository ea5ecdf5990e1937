"""Reviews as an office asks for them, and their time made to pass."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from agent_mail_core.review_requests import RequestedReview
from agent_mail_core.reviewing import ClaimedReview
from agent_mail_core.reviews import Review, ReviewPage
from tests.contract.databases import Database
from tests.contract.office import Office


async def request(office: Office, requester: str, *reviewers: str, **more: Any) -> RequestedReview:
    """Of the thread Feat-1, unless it says of what."""
    about = more if "message_id" in more else {"thread_id": "Feat-1", **more}
    review: RequestedReview = await office.call(
        "request_review",
        project_slug=office.slug,
        requester_name=requester,
        reviewer_names=list(reviewers),
        **about,
    )
    return review


async def claim(office: Office, name: str, review_id: int, **more: Any) -> ClaimedReview:
    answer: ClaimedReview = await office.call(
        "claim_review", project_slug=office.slug, agent_name=name, review_id=review_id, **more
    )
    return answer


async def complete(office: Office, name: str, review_id: int, verdict: str = "approve", **more: Any) -> Review:
    fields = {"body_md": "Looks good.", **more}
    review: Review = await office.call(
        "complete_review", project_slug=office.slug, agent_name=name, review_id=review_id, verdict=verdict, **fields
    )
    return review


async def cancel(office: Office, review_id: int) -> Review:
    review: Review = await office.call("cancel_review", project_slug=office.slug, review_id=review_id)
    return review


async def get(office: Office, review_id: int) -> Review:
    review: Review = await office.call("get_review", project_slug=office.slug, review_id=review_id)
    return review


async def listed(office: Office, **more: Any) -> ReviewPage:
    page: ReviewPage = await office.call("list_reviews", project_slug=office.slug, **more)
    return page


async def pass_time(database: Database, by: timedelta) -> None:
    """As if every claim had been made so much earlier."""
    await database.age("reviews", by, "claimed_at", "claim_expires_at")
