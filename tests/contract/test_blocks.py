"""Blocks: known to the blocker alone, and stronger than whatever was agreed (SPEC 3.3 rule 4)."""

import pytest

from agent_mail_core.errors import ContactBlocked, ContactRefused, InvalidCursor
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import Office


@pytest.fixture
def book(office: Office) -> Book:
    return Book(office)


async def test_who_is_blocked_is_refused_and_sees_nothing_of_it(book: Book, database: Database) -> None:
    await book.policy("Bob", "contacts_only")
    await book.add("Ann", "Bob")
    seen = await book.page("Ann")
    blocked = await book.block("Bob", "Ann")
    assert (blocked.contact_name, blocked.direction, blocked.status) == ("Ann", "blocked", "blocked")
    assert blocked.decided_at is not None
    assert await book.page("Ann") == seen
    assert await book.all("Ann", status="blocked") == []
    assert await book.all("Bob") == [("Ann", "blocked", "blocked")]
    with pytest.raises(ContactRefused):
        await book.add("Ann", "Bob")


async def test_a_block_looks_like_a_policy_that_lets_nobody_in(book: Book) -> None:
    await book.block("Bob", "Ann")
    await book.policy("Cid", "block_all")
    refusals = []
    for name in ("Bob", "Cid"):
        with pytest.raises(ContactRefused) as refused:
            await book.add("Ann", name)
        refusals.append((refused.value.code, refused.value.message, list(refused.value.data)))
    assert refusals[0] == refusals[1]


async def test_nobody_can_tell_from_an_event_who_blocked_whom(book: Book, database: Database) -> None:
    before = await book.office.whois("Bob"), await book.office.whois("Ann")
    await book.block("Bob", "Ann")
    await book.unblock("Bob", "Ann")
    blocked, unblocked = (await database.events())[-2:]
    assert (blocked.kind, unblocked.kind) == ("contact.blocked", "contact.unblocked")
    for event in (blocked, unblocked):
        assert (event.agent_id, event.message_id, event.data) == (None, None, {})
    after = await book.office.whois("Bob"), await book.office.whois("Ann")
    assert [details.recent_activity for details in after] == [details.recent_activity for details in before]


async def test_blocking_and_unblocking_twice_is_as_once(book: Book, database: Database) -> None:
    first = await book.block("Bob", "Ann")
    before = await database.dump()
    assert await book.block("Bob", "ann") == first
    assert await database.dump() == before
    gone = [await book.unblock("Bob", "Ann"), await book.unblock("Bob", "Ann")]
    assert gone[0] == gone[1]
    assert (gone[0].contact_name, gone[0].status) == ("Ann", "none")
    kinds = [event.kind for event in await database.events()]
    assert (kinds.count("contact.blocked"), kinds.count("contact.unblocked")) == (1, 1)


async def test_what_was_agreed_before_a_block_holds_after_it(book: Book) -> None:
    await book.add("Ann", "Bob")
    await book.block("Bob", "Ann")
    back = await book.unblock("Bob", "Ann")
    assert (back.contact_name, back.direction, back.status) == ("Ann", "incoming", "accepted")
    assert await book.all("Bob") == [("Ann", "incoming", "accepted")]


async def test_the_blocker_unblocks_before_it_asks_or_accepts(book: Book, database: Database) -> None:
    await book.policy("Bob", "contacts_only")
    await book.add("Ann", "Bob")
    await book.block("Bob", "Ann")
    before = await database.dump()
    for call in (book.add("Bob", "Ann"), book.respond("Bob", "Ann", True)):
        with pytest.raises(ContactBlocked) as blocked:
            await call
        assert blocked.value.data == {"contact_name": "Ann", "suggestion": "unblock_contact"}
    assert await database.dump() == before
    assert (await book.respond("Bob", "Ann", False)).status == "rejected"


async def test_a_block_goes_one_way(book: Book) -> None:
    await book.block("Bob", "Ann")
    await book.unblock("Ann", "Bob")
    assert await book.all("Bob") == [("Ann", "blocked", "blocked")]
    assert await book.all("Ann") == []


async def test_a_cursor_is_good_for_its_own_list_alone(book: Book) -> None:
    for name in ("Bob", "Cid", "Dot"):
        await book.block("Ann", name)
        await book.add("Bob", name) if name != "Bob" else None
    cursor = (await book.page("Ann", limit=1)).next_cursor
    for agent, more in (("Bob", {}), ("Ann", {"status": "blocked"})):
        with pytest.raises(InvalidCursor):
            await book.page(agent, cursor=cursor, **more)
