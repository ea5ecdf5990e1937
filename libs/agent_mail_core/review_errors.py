"""Errors about reviews, in the tree of `errors`."""

from agent_mail_core.errors import Conflict, Forbidden, NotFound


class ReviewNotFound(NotFound):
    """No such review in this project: list_reviews shows those there are."""

    code = "review_not_found"


class NotAReviewer(Forbidden):
    """This review was asked of other agents."""

    code = "not_a_reviewer"


class ReviewNotClaimed(Conflict):
    """The agent has not claimed this review, or its claim has run out: claim_review first."""

    code = "review_not_claimed"


class ReviewEnded(Conflict):
    """This review has ended: request_review asks for another."""

    code = "review_ended"
