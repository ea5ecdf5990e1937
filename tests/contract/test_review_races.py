"""Reviews that many want at once, on one worker and on two with stores of their own."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from agent_mail_core.ports import App
from agent_mail_core.review_errors import ReviewEnded, ReviewNotClaimed
from tests.contract.databases import Database
from tests.contract.office import Office
from tests.contract.reviews import cancel, claim, complete, get, request
from tests.contract.test_races import insisting, outcomes, row_counts

Offices = Callable[[int], Office]


@pytest.fixture
async def offices(workers: list[App], office: Office) -> Offices:
    """The office with 20 agents more, as the n-th caller meets it: the workers take turns."""
    await office.send("Ann", ["Bob"], thread_id="Feat-1")
    for number in range(20):
        await office.register(f"A{number}")
    return lambda number: office.at(workers[number % len(workers)])


async def test_of_20_that_claim_at_once_one_wins(offices: Offices, database: Database) -> None:
    review_id = (await request(offices(0), "Ann")).review_id
    messages = (await row_counts(database))["messages"]
    async with asyncio.timeout(30):
        answers, errors = await outcomes([claim(offices(n), f"A{n}", review_id) for n in range(20)])
    assert errors == []
    assert [answer.claimed for answer in answers].count(True) == 1
    assert {answer.review.claimer_name for answer in answers} == {(await get(offices(0), review_id)).claimer_name}
    assert [event.kind for event in await database.events()].count("review.claimed") == 1
    assert (await row_counts(database))["messages"] == messages + 1


async def test_a_verdict_and_a_cancellation_at_once_end_it_once(offices: Offices, database: Database) -> None:
    for _ in range(5):
        review_id = (await request(offices(0), "Ann", "Bob")).review_id
        await claim(offices(1), "Bob", review_id)
        calls = [
            *(insisting(partial(complete, offices(n), "Bob", review_id)) for n in range(4)),
            *(insisting(partial(cancel, offices(n), review_id)) for n in range(4)),
        ]
        async with asyncio.timeout(30):
            answers, errors = await outcomes(calls)
        assert len({answer.state for answer in answers}) == 1
        assert {type(error) for error in errors} <= {ReviewEnded, ReviewNotClaimed}
    kinds = [event.kind for event in await database.events()]
    assert kinds.count("review.completed") + kinds.count("review.cancelled") == 5


async def test_the_same_key_asks_once(offices: Offices, database: Database) -> None:
    calls = [request(offices(n), "Ann", "Bob", note="Please", idempotency_key="k") for n in range(10)]
    async with asyncio.timeout(30):
        answers, errors = await outcomes(calls)
    assert errors == []
    assert sum(not answer.replayed for answer in answers) == 1
    assert (await row_counts(database))["reviews"] == 1
