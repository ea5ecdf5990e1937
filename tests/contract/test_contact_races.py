"""Many callers at once about the same two agents, on one worker and on two with stores of their own."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from agent_mail_core.contact_requests import request_contacts
from agent_mail_core.ports import App
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import Office
from tests.contract.test_races import insisting, outcomes

Books = Callable[[int], Book]


@pytest.fixture
async def books(workers: list[App], office: Office) -> Books:
    """The office's contact book as the n-th caller meets it: the workers take turns.

    Connections are open already: while one is opened, a first caller would be done before the others begin.
    """
    found = [Book(office.at(app)) for app in workers]
    await asyncio.gather(*(book.page("Ann") for book in found for _ in range(20)))
    return lambda number: found[number % len(found)]


async def kinds(database: Database) -> dict[str, int]:
    counted = Counter(event.kind for event in await database.events() if event.kind.startswith("contact."))
    return dict(counted)


async def test_20_acceptances_of_one_request_are_one(books: Books, database: Database) -> None:
    await books(0).policy("Bob", "contacts_only")
    await books(0).add("Ann", "Bob", ttl_seconds=3600)
    answers, errors = await outcomes([insisting(partial(books(n).respond, "Bob", "Ann", True)) for n in range(20)])
    assert errors == []
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert answers[0].status == "accepted"
    assert await kinds(database) == {"contact.requested": 1, "contact.accepted": 1}
    assert [(await books(0).office.inbox(name)).unread_count for name in ("Ann", "Bob")] == [1, 1]


async def test_20_requests_make_one_contact(books: Books, database: Database) -> None:
    await books(0).policy("Bob", "contacts_only")
    answers, errors = await outcomes([insisting(partial(books(n).add, "Ann", "Bob")) for n in range(20)])
    assert errors == []
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert await kinds(database) == {"contact.requested": 1}


async def test_two_that_ask_each_other_at_once_are_contacts(books: Books, database: Database) -> None:
    for name in ("Ann", "Bob"):
        await books(0).policy(name, "contacts_only")
    pairs = [("Ann", "Bob"), ("Bob", "Ann")] * 10
    calls = [insisting(partial(books(n // 2).add, *pair)) for n, pair in enumerate(pairs)]
    answers, errors = await outcomes(calls)
    assert errors == []
    assert len({answer.contact_id for answer in answers}) == 1
    assert await kinds(database) == {"contact.requested": 1, "contact.accepted": 1}
    assert [row[2] for row in await books(0).all("Ann")] == ["accepted"]


async def test_yes_and_no_at_once_leave_what_the_last_event_says(books: Books, database: Database) -> None:
    await books(0).policy("Bob", "contacts_only")
    await books(0).add("Ann", "Bob")
    calls = [insisting(partial(books(n).respond, "Bob", "Ann", n % 3 == 0)) for n in range(20)]
    _, errors = await outcomes(calls)
    assert errors == []
    told = [event.kind for event in await database.events() if event.kind.startswith("contact.")]
    assert told[0] == "contact.requested"
    assert all(one != two for one, two in pairwise(told))
    (row,) = await books(0).all("Bob")
    assert f"contact.{row[2]}" == told[-1]


async def test_20_blocks_are_one(books: Books, database: Database) -> None:
    answers, errors = await outcomes([insisting(partial(books(n).block, "Bob", "Ann")) for n in range(20)])
    assert errors == []
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert await kinds(database) == {"contact.blocked": 1}


async def test_refused_sends_at_once_ask_once_a_pair(books: Books, office: Office, database: Database) -> None:
    names = ("Bob", "Cid", "Dot")
    ann, *others = [await books(0).actor(name) for name in ("Ann", *names)]

    async def asking(number: int) -> dict[str, int]:
        rotated = others[number % 3 :] + others[: number % 3]
        app = books(number).office.app
        found = await insisting(partial(request_contacts, app, office.caller, [(ann, other) for other in rotated]))
        return {other.agent.name: found[ann.agent.id, other.agent.id] for other in others}

    answers, errors = await outcomes([asking(number) for number in range(20)])
    assert errors == []
    assert len({tuple(sorted(answer.items())) for answer in answers}) == 1
    assert await kinds(database) == {"contact.requested": 3}
    for name in names:
        assert (await office.inbox(name)).unread_count == 1
