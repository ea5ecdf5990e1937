"""Reviews: requested, claimed, completed or cancelled, each step a post to the thread (SPEC 2, 3.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core.errors import (
    AgentMailError,
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    MessageNotFound,
    ProjectNotFound,
    RecipientsRefused,
    ThreadNotFound,
)
from agent_mail_core.ports import Role
from agent_mail_core.review_errors import NotAReviewer, ReviewEnded, ReviewNotClaimed, ReviewNotFound
from tests.contract.databases import Database
from tests.contract.office import Office, pages, subjects
from tests.contract.reviews import cancel, claim, complete, get, listed, pass_time, request


@pytest.fixture(autouse=True)
async def message_id(office: Office) -> int:
    """What there is to review: Ann wrote to Dot in the thread Feat-1."""
    return (await office.send("Ann", ["Dot"], thread_id="Feat-1", subject="The cart")).message_id


async def review_events(database: Database) -> list[tuple[str, dict[str, Any]]]:
    return [(event.kind, event.data) for event in await database.events() if event.kind.startswith("review.")]


# --- request_review ---------------------------------------------------------------------------------------------------


async def test_a_request_tells_the_reviewers_in_the_thread(office: Office, database: Database) -> None:
    review = await request(office, "Ann", "Bob", "cid", paths=["src/*a*.py", "docs"], note="Is the *total* right?")
    assert (review.state, review.reviewer_names, review.paths) == ("requested", ["Bob", "Cid"], ["src/*a*.py", "docs"])
    assert (review.thread_id, review.requester_name, review.note) == ("Feat-1", "Ann", "Is the *total* right?")
    assert (review.claimer_name, review.verdict, review.ended_at) == (None, None, None)
    for name in ("Bob", "Cid"):
        [message] = (await office.inbox(name, include_bodies=True)).messages
        assert (message.sender_name, message.thread_id) == ("Ann", "Feat-1")
        assert message.subject == f"Review {review.review_id} requested: The cart"
        assert message.body_md is not None
        assert {"Is the *total* right?", "    src/*a*.py", "    docs"} <= set(message.body_md.splitlines())
    assert (await office.thread("Feat-1")).thread.message_count == 2
    data = {"review_id": review.review_id, "thread_id": "Feat-1", "requester": "Ann", "reviewers": ["Bob", "Cid"]}
    assert await review_events(database) == [("review.requested", data)]
    assert (await get(office, review.review_id)).model_dump() == review.model_dump(exclude={"replayed"})


async def test_a_message_is_reviewed_in_its_thread(office: Office, message_id: int) -> None:
    review = await request(office, "Bob", "Cid", message_id=message_id)
    assert (review.thread_id, review.message_id) == ("Feat-1", message_id)
    assert subjects((await office.inbox("Cid")).messages) == [f"Review {review.review_id} requested: The cart"]


async def test_a_request_that_names_nobody_tells_those_who_take_part(office: Office) -> None:
    review = await request(office, "Bob")
    for name, count in (("Ann", 1), ("Dot", 2), ("Cid", 0)):
        assert len((await office.inbox(name)).messages) == count
    assert (await claim(office, "Cid", review.review_id)).claimed


async def test_a_request_that_reaches_nobody_is_a_note_to_oneself(office: Office) -> None:
    await office.send("Cid", ["Cid"], thread_id="Own")
    review = await request(office, "Cid", thread_id="Own")
    assert subjects((await office.inbox("Cid")).messages)[0] == f"Review {review.review_id} requested: Hello"


@pytest.mark.parametrize(
    "arguments",
    [
        {"thread_id": None},
        {"thread_id": "Feat-1", "message_id": 1},
        {"thread_id": "Feat-1", "reviewer_names": ["Bob", "bob"]},
        {"thread_id": "Feat-1", "reviewer_names": [f"A{n}" for n in range(21)]},
        {"thread_id": "Feat-1", "paths": [""]},
        {"thread_id": "Feat-1", "paths": ["a\nb"]},
    ],
)
async def test_a_request_that_cannot_be_right_is_refused(office: Office, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        await office.call("request_review", project_slug="office", requester_name="Ann", **arguments)


REQUESTS: dict[type[AgentMailError], Callable[[Office, int], Awaitable[Any]]] = {
    ThreadNotFound: lambda office, _: request(office, "Ann", "Bob", thread_id="Feat-2"),
    MessageNotFound: lambda office, message_id: request(office, "Ann", "Bob", message_id=message_id + 1),
    AgentNotFound: lambda office, _: request(office, "Ann", "Bob", "Nobody"),
    NotAReviewer: lambda office, _: request(office, "Ann", "Bob", "ann"),
    AgentNotYours: lambda office, _: request(office.of("somebody"), "Ann", "Bob"),
}


@pytest.mark.parametrize("error", REQUESTS)
async def test_a_refused_request_leaves_nothing(
    office: Office, database: Database, message_id: int, error: type[AgentMailError]
) -> None:
    before = await database.dump()
    with pytest.raises(error):
        await REQUESTS[error](office, message_id)
    assert await database.dump() == before


async def test_service_agents_and_retired_ones_are_asked_for_no_review(office: Office, database: Database) -> None:
    with pytest.raises(NotAReviewer):
        await request(office, "Ann", "Overseer")
    await office.retire("Dot")
    before = await database.dump()
    with pytest.raises(RecipientsRefused):
        await request(office, "Ann", "Bob", "Dot")
    with pytest.raises(AgentRetired):
        await request(office, "Dot", "Bob")
    assert await database.dump() == before


async def test_a_reviewer_that_wants_to_be_asked_first_is_asked(office: Office) -> None:
    await office.update("Bob", contact_policy="contacts_only")
    with pytest.raises(RecipientsRefused) as refused:
        await request(office, "Ann", "Bob", "Cid")
    [pending] = (await office.call("list_contacts", project_slug="office", agent_name="Bob")).contacts
    assert refused.value.data["contact_ids"] == [pending.contact_id]
    assert (await listed(office)).reviews == []
    assert (await office.inbox("Cid")).messages == []


async def test_a_block_stops_no_review_and_the_blocker_is_left_out(office: Office) -> None:
    review_id = (await request(office, "Ann", "Bob", "Cid")).review_id
    await office.call("block_contact", project_slug="office", agent_name="Ann", contact_name="Bob")
    assert (await claim(office, "Bob", review_id)).claimed
    assert (await complete(office, "Bob", review_id)).state == "done"
    assert (await office.inbox("Ann")).messages == []
    assert subjects((await office.inbox("Cid")).messages)[0] == f"Review {review_id} approved: The cart"


async def test_another_projects_message_is_as_one_that_does_not_exist(office: Office, message_id: int) -> None:
    await office.ensure("other")
    there = Office(office.app, office.caller, "other")
    for name in ("Una", "Vic"):
        await there.register(name)
    refused = []
    for wanted in (message_id, message_id + 1000):
        with pytest.raises(MessageNotFound) as error:
            await request(there, "Una", "Vic", message_id=wanted)
        refused.append((error.value.message, sorted(error.value.data)))
    assert refused[0] == refused[1]
    review = await request(office, "Ann", "Bob")
    for call in (get(there, review.review_id), claim(there, "Una", review.review_id), cancel(there, review.review_id)):
        with pytest.raises(ReviewNotFound):
            await call


async def test_another_teams_review_is_as_one_that_does_not_exist(office: Office, database: Database) -> None:
    review_id = (await request(office, "Ann", "Bob")).review_id
    theirs = office.of("rival", Role.admin, await database.add_team("rivals"))
    with pytest.raises(ProjectNotFound):
        await cancel(theirs, review_id)
    await theirs.ensure("office")
    await theirs.register("Bob")
    for call in (cancel(theirs, review_id), get(theirs, review_id), claim(theirs, "Bob", review_id)):
        with pytest.raises(ReviewNotFound):
            await call


# --- claim_review -----------------------------------------------------------------------------------------------------


async def test_one_of_the_named_claims_and_the_others_are_told(office: Office, database: Database) -> None:
    review_id = (await request(office, "Ann", "Bob", "Cid")).review_id
    answer = await claim(office, "Bob", review_id, ttl_seconds=600)
    assert (answer.claimed, answer.renewed, answer.review.state) == (True, False, "claimed")
    assert answer.review.claimer_name == "Bob"
    assert answer.review.claimed_at is not None
    assert answer.review.claim_expires_at == answer.review.claimed_at + timedelta(seconds=600)
    assert subjects((await office.inbox("Ann")).messages) == [f"Review {review_id} claimed: The cart"]
    assert subjects((await office.inbox("Cid")).messages)[0] == f"Review {review_id} claimed: The cart"
    kind, data = (await review_events(database))[-1]
    assert (kind, data["fence"]) == ("review.claimed", answer.review.fence)
    late = await claim(office, "Cid", review_id)
    assert (late.claimed, late.renewed, late.review) == (False, False, answer.review)


async def test_claiming_again_renews_and_keeps_the_fence(office: Office) -> None:
    review_id = (await request(office, "Ann", "Bob")).review_id
    first = await claim(office, "Bob", review_id, ttl_seconds=60)
    again = await claim(office, "bob", review_id, ttl_seconds=6000)
    assert (again.claimed, again.renewed, again.review.fence) == (True, True, first.review.fence)
    assert again.review.claim_expires_at is not None
    assert first.review.claim_expires_at is not None
    assert again.review.claim_expires_at > first.review.claim_expires_at
    assert len((await office.inbox("Ann")).messages) == 1


async def test_a_claim_that_has_run_out_is_anothers_to_take(office: Office, database: Database) -> None:
    review_id = (await request(office, "Ann", "Bob", "Cid")).review_id
    first = await claim(office, "Bob", review_id)
    await pass_time(database, timedelta(hours=2))
    shown = await get(office, review_id)
    assert (shown.state, shown.claimer_name, shown.fence, shown.claim_expires_at) == ("requested", None, None, None)
    second = await claim(office, "Cid", review_id)
    assert (second.claimed, second.review.claimer_name) == (True, "Cid")
    assert second.review.fence is not None
    assert first.review.fence is not None
    assert second.review.fence > first.review.fence
    with pytest.raises(ReviewNotClaimed):
        await complete(office, "Bob", review_id)


@pytest.mark.parametrize("reviewers, who", [(["Bob"], "Cid"), (["Bob"], "Ann"), ([], "Ann")])
async def test_others_do_not_claim(office: Office, reviewers: list[str], who: str) -> None:
    review_id = (await request(office, "Ann", *reviewers)).review_id
    with pytest.raises(NotAReviewer):
        await claim(office, who, review_id)
    assert (await get(office, review_id)).state == "requested"


# --- complete_review --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verdict, said", [("approve", "approved"), ("request_changes", "changes requested"), ("comment", "commented")]
)
async def test_the_verdict_is_posted_to_the_thread(office: Office, database: Database, verdict: str, said: str) -> None:
    review_id = (await request(office, "Ann", "Bob", "Cid")).review_id
    await claim(office, "Bob", review_id)
    review = await complete(office, "Bob", review_id, verdict, body_md="Line 3 is *wrong*.")
    assert (review.state, review.verdict, review.claimer_name) == ("done", verdict, "Bob")
    assert review.ended_at is not None
    assert review.claim_expires_at is None
    for name in ("Ann", "Cid"):
        message = (await office.inbox(name, include_bodies=True)).messages[0]
        assert (message.subject, message.sender_name) == (f"Review {review_id} {said}: The cart", "Bob")
        assert message.body_md == "Line 3 is *wrong*."
    assert [kind for kind, _ in await review_events(database)] == [
        "review.requested",
        "review.claimed",
        "review.completed",
    ]
    assert (await review_events(database))[-1][1]["verdict"] == verdict


async def test_only_who_has_claimed_it_completes_it_and_only_once(office: Office, database: Database) -> None:
    review_id = (await request(office, "Ann", "Bob", "Cid")).review_id
    with pytest.raises(ReviewNotClaimed):
        await complete(office, "Bob", review_id)
    await claim(office, "Bob", review_id)
    with pytest.raises(ReviewNotClaimed) as refused:
        await complete(office, "Cid", review_id)
    assert refused.value.data["claimer_name"] == "Bob"
    await complete(office, "Bob", review_id)
    before = await database.dump()
    with pytest.raises(ReviewEnded):
        await complete(office, "Bob", review_id)
    with pytest.raises(ReviewEnded):
        await cancel(office, review_id)
    assert not (await claim(office, "Cid", review_id)).claimed
    assert await database.dump() == before


async def test_a_claim_that_has_run_out_completes_nothing(office: Office, database: Database) -> None:
    review_id = (await request(office, "Ann", "Bob")).review_id
    await claim(office, "Bob", review_id)
    await pass_time(database, timedelta(hours=2))
    before = await database.dump()
    with pytest.raises(ReviewNotClaimed):
        await complete(office, "Bob", review_id)
    assert await database.dump() == before


async def test_a_requester_who_has_retired_stops_no_review(office: Office) -> None:
    review_id = (await request(office, "Ann", "Bob")).review_id
    await office.retire("Ann")
    await claim(office, "Bob", review_id)
    assert (await complete(office, "Bob", review_id)).state == "done"
    assert subjects((await office.inbox("Bob")).messages)[0] == f"Review {review_id} approved: The cart"


# --- cancel_review ----------------------------------------------------------------------------------------------------


async def test_who_asked_takes_it_back_and_the_claimer_is_told(office: Office, database: Database) -> None:
    review_id = (await request(office, "Ann")).review_id
    await claim(office, "Bob", review_id)
    review = await cancel(office, review_id)
    assert (review.state, review.claimer_name, review.claim_expires_at) == ("cancelled", None, None)
    assert subjects((await office.inbox("Bob")).messages) == [f"Review {review_id} cancelled: The cart"]
    before = await database.dump()
    assert await cancel(office, review_id) == review
    assert not (await claim(office, "Bob", review_id)).claimed
    assert await database.dump() == before
    assert (await review_events(database))[-1][0] == "review.cancelled"


async def test_others_do_not_cancel_it_but_an_administrator_does(office: Office) -> None:
    review_id = (await request(office, "Ann", "Bob")).review_id
    for role in (Role.reader, Role.writer, Role.overseer):
        with pytest.raises(AgentNotYours):
            await cancel(office.of("somebody", role), review_id)
    await office.retire("Ann")
    assert (await cancel(office.of("root", Role.admin), review_id)).state == "cancelled"
    message = (await office.inbox("Bob")).messages[0]
    assert (message.sender_name, message.subject) == ("System", f"Review {review_id} cancelled: The cart")


# --- list_reviews -----------------------------------------------------------------------------------------------------


async def test_reviews_are_listed_by_state_and_agent_newest_first(office: Office, database: Database) -> None:
    ids = [(await request(office, asker, *named)).review_id for asker, *named in ("Ann Bob".split(), ["Bob"], ["Ann"])]
    await claim(office, "Cid", ids[1])
    await claim(office, "Bob", ids[0])
    await complete(office, "Bob", ids[0])

    async def found(**more: Any) -> list[int]:
        return [ids.index(review.review_id) for review in (await listed(office, **more)).reviews]

    assert await found() == [2, 1, 0]
    assert await found(state="requested") == [2]
    assert await found(state="claimed") == [1]
    assert await found(state="done") == [0]
    assert await found(state="cancelled") == []
    assert await found(agent_name="Bob") == [1, 0]
    assert await found(agent_name="Cid") == [1]
    assert await found(agent_name="Dot") == []
    assert await found(agent_name="Bob", state="claimed") == [1]
    await pass_time(database, timedelta(hours=2))
    assert await found(state="requested") == [2, 1]
    assert await found(agent_name="Cid") == []
    assert await found(agent_name="Bob", state="done") == [0]


async def test_the_list_comes_in_pages(office: Office) -> None:
    ids = [(await request(office, "Ann", "Bob")).review_id for _ in range(5)]
    seen = [
        [review.review_id for review in page.reviews]
        async for page in pages(lambda **more: listed(office, **more), limit=2)
    ]
    assert seen == [ids[:2:-1], ids[2:0:-1], ids[:1]]
