"""Who is asked for a contact hears of it by mail from System, and who asked hears of the answer (SPEC 3.3 rule 4)."""

import asyncio
import re
from datetime import timedelta

import pytest

from agent_mail_core.errors import ContactRequired
from agent_mail_core.inbox_items import InboxMessage
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import Office, subjects

PAST = timedelta(seconds=-1)


@pytest.fixture
def book(office: Office) -> Book:
    return Book(office)


@pytest.fixture
async def depot(office: Office) -> Book:
    """Another project, with the agents Ann and Zoe."""
    await office.ensure("depot")
    other = Office(office.app, office.caller, "depot")
    for name in ("Ann", "Zoe"):
        await other.register(name)
    return Book(other)


async def told(book: Book, name: str) -> list[InboxMessage]:
    """What System wrote to an agent, the oldest first."""
    inbox = await book.office.inbox(name, include_bodies=True)
    assert {message.sender_name for message in inbox.messages} <= {"System"}
    return inbox.messages[::-1]


async def test_who_is_asked_gets_the_call_that_answers(book: Book, depot: Book) -> None:
    asked = await depot.add("Zoe", "Bob@office", reason="I *need* the `cart`")
    [mail] = await told(book, "Bob")
    assert mail.subject == "Zoe@depot asks to be your contact"
    assert mail.body_md is not None
    assert "    I *need* the `cart`" in mail.body_md.splitlines()
    assert asked.expires_at is not None
    assert str(asked.expires_at.year) in mail.body_md
    found = re.search(r"^    respond_contact\((.*)\)$", mail.body_md, re.MULTILINE)
    assert found is not None
    arguments = dict(re.findall(r'(\w+)="?([^",]+)"?', found[1]))
    answer = await book.office.call("respond_contact", **{**arguments, "accept": arguments["accept"] == "true"})
    assert (answer.contact_name, answer.status) == ("Zoe@depot", "accepted")
    [heard] = await told(depot, "Zoe")
    assert (heard.subject, heard.body_md) == (
        "Bob@office accepted your contact request",
        "You may write to Bob@office.",
    )


async def test_a_refused_send_tells_whom_it_asked(book: Book, depot: Book) -> None:
    await book.policy("Cid", "block_all")
    for _ in range(2):
        with pytest.raises(ContactRequired):
            await depot.office.send("Zoe", ["Bob@office", "Dot@office"])
    assert subjects(await told(book, "Bob")) == ["Zoe@depot asks to be your contact"]
    assert subjects(await told(book, "Dot")) == ["Zoe@depot asks to be your contact"]
    sent = await depot.office.send("Zoe", ["Ann", "Cid@office"], allow_partial=True)
    assert [skipped.code for skipped in sent.skipped] == ["contact_refused"]
    assert await told(book, "Cid") == []


async def test_a_waiting_agent_hears_of_a_request_at_once(book: Book, depot: Book) -> None:
    waiting = asyncio.ensure_future(book.office.wait("Bob", timeout_seconds=30))
    await asyncio.sleep(0)
    await depot.add("Zoe", "Bob@office")
    assert subjects((await asyncio.wait_for(waiting, 10)).messages) == ["Zoe@depot asks to be your contact"]


async def test_what_needs_no_answer_is_not_told(book: Book) -> None:
    assert (await book.add("Ann", "Bob")).status == "accepted"
    assert await told(book, "Bob") == await told(book, "Ann") == []


async def test_a_request_and_its_first_answer_are_told_once(
    book: Book, depot: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    await depot.policy("Zoe", "block_all")
    for _ in range(2):
        await depot.add("Zoe", "Bob@office")
    for accept in (False, False, True, False, True):
        await book.respond("Bob", "Zoe@depot", accept)
    assert subjects(await told(book, "Bob")) == ["Zoe@depot asks to be your contact"]
    assert subjects(await told(depot, "Zoe")) == ["Bob@office turned down your contact request"]
    monkeypatch.setattr("agent_mail_core.contacts.REJECTED_FOR", PAST)
    await book.respond("Bob", "Zoe@depot", False)
    await depot.add("Zoe", "Bob@office")  # another request, as the rejection is over
    assert len(await told(book, "Bob")) == 2


async def test_asking_back_tells_who_asked_first(book: Book, depot: Book) -> None:
    await depot.add("Zoe", "Bob@office")
    await book.add("Bob", "Zoe@depot", ttl_seconds=3600)
    [heard] = await told(depot, "Zoe")
    assert heard.subject == "Bob@office accepted your contact request"
    assert heard.body_md is not None
    assert re.fullmatch(r"You may write to Bob@office until \d{4}-.*Z\.", heard.body_md)


async def test_who_blocked_the_other_is_told_nothing_of_its_answer(book: Book, depot: Book) -> None:
    await depot.add("Zoe", "Bob@office")
    await depot.block("Zoe", "Bob@office")
    assert (await book.respond("Bob", "Zoe@depot", False)).status == "rejected"
    assert await told(depot, "Zoe") == []


async def test_whom_a_bcc_is_for_is_not_asked(book: Book, depot: Book, database: Database) -> None:
    """Everybody in a project sees its requests: one that comes with a message would tell of the bcc."""
    sent = await depot.office.send("Zoe", ["Ann"], bcc=["Bob@office"], allow_partial=True)
    assert [(skipped.name, skipped.code) for skipped in sent.skipped] == [("Bob@office", "contact_required")]
    assert sent.contact_ids is None
    with pytest.raises(ContactRequired) as refused:
        await depot.office.send("Zoe", ["Ann"], bcc=["Bob@office"])
    assert refused.value.data["suggestion"] == "add_contact"
    assert "contact_ids" not in refused.value.data
    with pytest.raises(ContactRequired) as refused:
        await depot.office.send("Zoe", ["Dot@office"], bcc=["Bob@office"])
    assert len(refused.value.data["contact_ids"]) == 1
    assert await told(book, "Bob") == []
    assert await book.all("Bob") == []
    assert [event.kind for event in await database.events()].count("contact.requested") == 1
