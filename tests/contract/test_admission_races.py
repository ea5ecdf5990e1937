"""Sends against blocks, policies and requests, on one worker and on two with stores of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from agent_mail_core.delivery import SentMessage
from agent_mail_core.errors import ContactRequired, RecipientsRefused
from agent_mail_core.ports import App
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import Office
from tests.contract.test_races import insisting, outcomes


async def test_50_sends_to_one_who_wants_to_be_asked_first_ask_once(
    workers: list[App], office: Office, database: Database
) -> None:
    await Book(office).policy("Bob", "contacts_only")
    calls = [insisting(partial(office.at(workers[n % len(workers)]).send, "Ann", ["Bob"])) for n in range(50)]
    answers, errors = await outcomes(calls)
    assert answers == []
    assert {type(error) for error in errors} == {ContactRequired}
    assert len({tuple(error.data["contact_ids"]) for error in errors}) == 1
    assert [event.kind for event in await database.events()].count("contact.requested") == 1


CLOSE: dict[str, Callable[[Book], Awaitable[Any]]] = {
    "blocked": lambda book: book.block("Bob", "Ann"),
    "set to nobody": lambda book: book.policy("Bob", "block_all"),
    "updated": lambda book: book.office.update("Bob", contact_policy="block_all"),
    "registered again": lambda book: book.office.register("Bob", contact_policy="block_all"),
    "turned down": lambda book: book.respond("Bob", "Ann", False),
}
"""How Bob, who takes mail from accepted contacts, of whom Ann is one, takes none from her any more."""


@pytest.mark.parametrize("how", CLOSE)
async def test_nothing_is_delivered_once_it_was_answered_that_it_is_not_taken(
    workers: list[App], office: Office, how: str
) -> None:
    """Ten rounds of sends that are under way meanwhile, and what the inbox held when that was answered."""
    book = Book(office)
    for _ in range(10):
        await book.unblock("Bob", "Ann")
        await book.policy("Bob", "contacts_only")
        await book.add("Ann", "Bob")
        await book.respond("Bob", "Ann", True)
        before = (await office.inbox("Bob", limit=1)).cursor
        sends = [_sent(office.at(workers[n % len(workers)])) for n in range(12)]
        tasks = [asyncio.ensure_future(send) for send in sends]
        await office.at(workers[-1]).agents()  # some sends are on their way by now
        await insisting(partial(CLOSE[how], Book(office.at(workers[-1]))))
        closed = (await office.inbox("Bob", limit=1)).cursor
        outcome = await asyncio.gather(*tasks)
        assert (await office.inbox("Bob", cursor=closed)).messages == []
        delivered = (await office.inbox("Bob", cursor=before, limit=100)).messages
        assert len(delivered) == sum(sent is not None for sent in outcome)


async def _sent(office: Office) -> SentMessage | None:
    send: Awaitable[SentMessage] = insisting(partial(office.send, "Ann", ["Bob"]))
    try:
        return await send
    except RecipientsRefused as refused:
        [problem] = refused.data["recipients"]
        assert problem["code"] in ("contact_refused", "contact_rejected")
        return None
