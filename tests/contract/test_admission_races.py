"""Sends against blocks and requests, on one worker and on two with stores of their own."""

import asyncio
from collections.abc import Awaitable
from functools import partial

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


async def test_nothing_is_delivered_once_a_block_was_answered(workers: list[App], office: Office) -> None:
    """Ten rounds of sends that are under way while the block is made, and what the inbox held when that answered."""
    for _ in range(10):
        sends = [_sent(office.at(workers[n % len(workers)])) for n in range(12)]
        tasks = [asyncio.ensure_future(send) for send in sends]
        await office.at(workers[-1]).agents()  # some sends are on their way by now
        await insisting(partial(Book(office.at(workers[-1])).block, "Bob", "Ann"))
        at_block = (await office.inbox("Bob", limit=1)).cursor
        outcome = await asyncio.gather(*tasks)
        assert (await office.inbox("Bob", cursor=at_block)).messages == []
        assert (await office.inbox("Bob")).unread_count == sum(sent is not None for sent in outcome)
        await Book(office).unblock("Bob", "Ann")
        for message in (await office.inbox("Bob", limit=100)).messages:
            await office.mark_read("Bob", message.message_id)


async def _sent(office: Office) -> SentMessage | None:
    send: Awaitable[SentMessage] = insisting(partial(office.send, "Ann", ["Bob"]))
    try:
        return await send
    except RecipientsRefused as refused:
        assert [problem["code"] for problem in refused.data["recipients"]] == ["contact_refused"]
        return None
