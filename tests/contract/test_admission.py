"""Who may write to whom, on every path that delivers (SPEC 3.3 rule 4)."""

import asyncio
from itertools import product
from typing import Any

import pytest

from agent_mail_core.delivery import SentMessage
from agent_mail_core.errors import ContactRequired, RecipientsRefused, RecipientsUnknown
from agent_mail_core.fields import ContactPolicy
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import Office, subjects


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


async def code(office: Office, sender: str, to: str, **more: object) -> str:
    """`sent`, or the code that the recipient was refused with."""
    try:
        await office.send(sender, [to], **more)
    except RecipientsRefused as refused:
        (problem,) = refused.data["recipients"]
        assert problem["name"] == to
        return str(problem["code"])
    return "sent"


@pytest.mark.parametrize(
    "policy, here, elsewhere",
    [
        ("open", "sent", "sent"),
        ("auto", "sent", "contact_required"),
        ("contacts_only", "contact_required", "contact_required"),
        ("block_all", "contact_refused", "contact_refused"),
    ],
)
async def test_the_policy_admits(book: Book, depot: Book, policy: ContactPolicy, here: str, elsewhere: str) -> None:
    await book.policy("Bob", policy)
    assert await code(book.office, "Ann", "Bob") == here
    assert await code(depot.office, "Zoe", "Bob@office") == elsewhere
    got = [message for message in (await book.office.inbox("Bob")).messages if message.sender_name != "System"]
    assert len(got) == [here, elsewhere].count("sent")


@pytest.mark.parametrize("policy, is_asked", list(product(("auto", "contacts_only"), (False, True))))
async def test_an_accepted_contact_writes_either_way(
    book: Book, depot: Book, policy: ContactPolicy, is_asked: bool
) -> None:
    for of, name in ((book, "Bob"), (depot, "Zoe")):
        await of.policy(name, policy)
    await depot.add("Zoe", "Bob@office")
    if is_asked:  # who asked may be written to before it is answered
        assert await code(book.office, "Bob", "Zoe@depot") == "sent"
        assert await code(depot.office, "Zoe", "Bob@office") == "contact_required"
    await book.respond("Bob", "Zoe@depot", True)
    assert await code(depot.office, "Zoe", "Bob@office") == "sent"
    assert await code(book.office, "Bob", "Zoe@depot") == "sent"


async def test_a_refused_send_leaves_one_request_and_nothing_else(book: Book, depot: Book, database: Database) -> None:
    before = await database.dump()
    with pytest.raises(ContactRequired) as first:
        await depot.office.send("Zoe", ["Bob@office", "Ann"])
    with pytest.raises(ContactRequired) as second:
        await depot.office.send("Zoe", ["Bob@office"])
    (contact,) = (await depot.page("Zoe")).contacts
    assert first.value.data["contact_ids"] == second.value.data["contact_ids"] == [contact.contact_id]
    assert first.value.data["recipients"] == [{"name": "Bob@office", "code": "contact_required"}]
    after = await database.dump()
    changed = {table for table in after if after[table] != before[table]}
    assert {table for table in changed if not table.startswith(("sqlite_", "message_text"))} == {
        "contacts",
        *("messages", "deliveries", "mailboxes", "threads", "thread_participants"),  # the mail that tells Bob
        *("events", "outbox"),
    }
    assert subjects((await book.office.inbox("Bob")).messages) == ["Zoe@depot asks to be your contact"]
    assert await book.all("Bob") == [("Zoe@depot", "incoming", "pending")]


async def test_50_refused_sends_at_once_ask_once(book: Book, database: Database) -> None:
    await book.policy("Bob", "contacts_only")
    codes = await asyncio.gather(*(code(book.office, "Ann", "Bob") for _ in range(50)))
    assert set(codes) == {"contact_required"}
    assert [event.kind for event in await database.events()].count("contact.requested") == 1


async def test_a_partial_send_reaches_the_others_and_asks_for_the_rest(book: Book, depot: Book) -> None:
    sent = await depot.office.send("Zoe", ["Ann", "Bob@office"], allow_partial=True)
    assert [(skipped.name, skipped.code) for skipped in sent.skipped] == [("Bob@office", "contact_required")]
    assert [recipient.name for recipient in sent.deliveries] == ["Ann"]
    assert await book.all("Bob") == [("Zoe@depot", "incoming", "pending")]


@pytest.mark.parametrize("operation", ["send", "reply"])
async def test_a_retry_of_a_partial_send_names_the_contacts_that_it_asked_for(
    book: Book, database: Database, operation: str
) -> None:
    parent = await book.office.send("Bob", ["Ann"], thread_id="Feat-1")
    await book.policy("Cid", "contacts_only")

    async def again() -> SentMessage:
        fields: dict[str, Any] = {"allow_partial": True, "idempotency_key": "k"}
        if operation == "send":
            return await book.office.send("Ann", ["Bob", "Cid"], **fields)
        return await book.office.reply("Ann", parent.message_id, recipient_names=["Bob", "Cid"], **fields)

    first = await again()
    (contact,) = (await book.page("Ann")).contacts
    assert first.contact_ids == [contact.contact_id]
    before = await database.dump()
    assert await again() == first.model_copy(update={"replayed": True})
    assert await database.dump() == before


async def test_an_unknown_recipient_comes_first_and_asks_for_nothing(book: Book) -> None:
    await book.policy("Bob", "contacts_only")
    with pytest.raises(RecipientsUnknown):
        await book.office.send("Ann", ["Bob", "Nobody@nowhere"])
    assert await book.all("Bob") == []


async def test_a_rejected_sender_asks_for_nothing_more(book: Book, database: Database) -> None:
    await book.policy("Bob", "contacts_only")
    await book.add("Ann", "Bob")
    await book.respond("Bob", "Ann", False)
    before = await database.dump()
    assert await code(book.office, "Ann", "Bob") == "contact_rejected"
    assert await database.dump() == before


@pytest.mark.parametrize("policy", ["open", "auto", "contacts_only", "block_all"])
async def test_a_block_beats_policy_contact_and_thread(book: Book, policy: ContactPolicy) -> None:
    first = await book.office.send("Bob", ["Ann"])
    await book.add("Ann", "Bob")
    await book.policy("Bob", policy)
    await book.block("Bob", "Ann")
    assert await code(book.office, "Ann", "Bob") == "contact_refused"
    with pytest.raises(RecipientsRefused):
        await book.office.reply("Ann", first.message_id)
    for kind in ("cc", "bcc"):
        with pytest.raises(RecipientsRefused):
            await book.office.send("Ann", ["Cid"], **{kind: ["Bob"]})
    assert await code(book.office, "Bob", "Ann") == "sent"
    await book.unblock("Bob", "Ann")
    assert (await book.office.reply("Ann", first.message_id)).deliveries[0].name == "Bob"


@pytest.mark.parametrize("policy", ["contacts_only", "block_all"])
async def test_who_was_written_to_may_reply_in_that_thread_alone(book: Book, policy: ContactPolicy) -> None:
    await book.policy("Ann", policy)
    first = await book.office.send("Ann", ["Bob"], bcc=["Cid"], thread_id="Feat-1")
    await book.office.reply("Bob", first.message_id)
    await book.office.reply("Cid", first.message_id)
    assert await code(book.office, "Bob", "Ann", thread_id="feat-1") == "sent"
    assert await code(book.office, "Bob", "Ann", thread_id="Feat-2") != "sent"
    assert await code(book.office, "Dot", "Ann", thread_id="Feat-1") != "sent"


@pytest.mark.parametrize("policy", ["contacts_only", "block_all"])
async def test_anybody_may_write_to_itself(book: Book, policy: ContactPolicy) -> None:
    await book.policy("Ann", policy)
    assert await code(book.office, "Ann", "Ann") == "sent"
    assert subjects((await book.office.inbox("Ann")).messages) == ["Hello"]


async def test_a_replay_answers_what_was_sent_though_it_would_be_refused_now(book: Book) -> None:
    first = await book.office.send("Ann", ["Bob"], idempotency_key="k")
    await book.block("Bob", "Ann")
    again = await book.office.send("Ann", ["Bob"], idempotency_key="k")
    assert (again.message_id, again.replayed) == (first.message_id, True)
