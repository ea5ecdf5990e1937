"""What a delivering transaction reads of two agents who do not simply take each other's mail, and what it asks for."""

import asyncio
from datetime import timedelta

import pytest

from agent_mail_core.admission import STRANGERS, Acquaintance, Pair
from agent_mail_core.agents import Actor
from agent_mail_core.contact_requests import request_contacts
from agent_mail_core.contacts import NewContact
from agent_mail_core.products import (
    EnsureProduct,
    LinkProject,
    ensure_product,
    link_project,
    unlink_project,
)
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import TEAM, Office


@pytest.fixture
def book(office: Office) -> Book:
    return Book(office)


@pytest.fixture
async def depot(office: Office) -> Book:
    """Another project, with the agent Zoe."""
    await office.ensure("depot")
    other = Office(office.app, office.caller, "depot")
    await other.register("Zoe")
    return Book(other)


async def between(book: Book, *pairs: Pair) -> list[Acquaintance]:
    async with book.office.app.store.read() as db:
        found = await db.contacts.between(pairs)
    return [found[pair] for pair in pairs]


def pair(sender: Actor, recipient: Actor, thread_key: str | None = None) -> Pair:
    """In a thread of the sender's project."""
    thread = (sender.project.id, thread_key) if thread_key is not None else None
    return Pair(sender.agent.id, recipient.agent.id, thread)


async def test_strangers_have_nothing_between_them(book: Book, depot: Book) -> None:
    ann, bob, zoe = await book.actor("Ann"), await book.actor("Bob"), await depot.actor("Zoe")
    assert await between(book, pair(ann, bob), pair(ann, zoe), pair(zoe, ann), pair(ann, ann)) == [STRANGERS] * 4
    assert await between(book) == []


async def test_a_block_counts_against_the_blocked_alone(book: Book) -> None:
    ann, bob, cid = [await book.actor(name) for name in ("Ann", "Bob", "Cid")]
    await book.block("Bob", "Ann")
    found = await between(book, pair(ann, bob), pair(bob, ann), pair(cid, bob))
    assert [known.is_blocked for known in found] == [True, False, False]


async def test_requests_bind_as_far_as_they_went(book: Book, depot: Book) -> None:
    await book.policy("Bob", "contacts_only")
    ann, bob, zoe = await book.actor("Ann"), await book.actor("Bob"), await depot.actor("Zoe")
    await book.add("Ann", "Bob")
    await depot.add("Zoe", "Bob@office")
    await book.respond("Bob", "Zoe@depot", False)
    wanted = (pair(ann, bob), pair(bob, ann), pair(zoe, bob), pair(bob, zoe), pair(ann, zoe))
    assert [known.tie for known in await between(book, *wanted)] == [
        None,
        "asked_by_recipient",
        "rejected",
        None,
        None,
    ]
    await book.respond("Bob", "Ann", True)
    found = await between(book, *wanted)
    assert [known.tie for known in found] == ["accepted", "accepted", "rejected", None, None]


async def test_an_expired_contact_binds_nothing(book: Book) -> None:
    ann, bob = await book.actor("Ann"), await book.actor("Bob")
    past = timedelta(microseconds=-1)
    async with book.office.app.store.write() as db:
        await db.contacts.ask([NewContact(TEAM, ann.agent.id, bob.agent.id, True, ttl=past)])
    assert await between(book, pair(ann, bob), pair(bob, ann)) == [STRANGERS] * 2


async def test_a_product_brings_its_projects_together(book: Book, depot: Book) -> None:
    ann, bob, zoe = await book.actor("Ann"), await book.actor("Bob"), await depot.actor("Zoe")
    app, caller = book.office.app, book.office.caller
    await ensure_product(app, caller, EnsureProduct(name="One"))
    await ensure_product(app, caller, EnsureProduct(name="Two"))
    await link_project(app, caller, LinkProject(product_name="One", project_slug="office"))
    await link_project(app, caller, LinkProject(product_name="Two", project_slug="depot"))
    wanted = (pair(ann, zoe), pair(zoe, ann), pair(ann, bob))
    assert [known.is_same_product for known in await between(book, *wanted)] == [False, False, True]
    await link_project(app, caller, LinkProject(product_name="One", project_slug="depot"))
    assert [known.is_same_product for known in await between(book, *wanted)] == [True, True, True]
    await unlink_project(app, caller, LinkProject(product_name="One", project_slug="depot"))
    assert [known.is_same_product for known in await between(book, *wanted)] == [False, False, True]


async def test_who_was_written_to_answers_in_that_thread_alone(book: Book, depot: Book) -> None:
    ann, bob, cid = [await book.actor(name) for name in ("Ann", "Bob", "Cid")]
    await book.office.send("Ann", ["Bob"], bcc=["Cid"], thread_id="Feat-1")
    await book.office.send("Cid", ["Bob"], thread_id="Feat-2")
    wanted = {
        "Bob answers Ann": (pair(bob, ann, "FEAT-1"), True),
        "a bcc recipient answers Ann": (pair(cid, ann, "Feat-1"), True),
        "Ann writes to Bob, who wrote nothing": (pair(ann, bob, "Feat-1"), False),
        "Bob writes to Cid, who wrote elsewhere": (pair(bob, cid, "Feat-1"), False),
        "Bob answers Ann in another thread": (pair(bob, ann, "Feat-2"), False),
        "Bob begins a thread": (pair(bob, ann), False),
        "Bob writes in a thread that is not there": (pair(bob, ann, "Feat-3"), False),
    }
    found = await between(book, *(question for question, _ in wanted.values()))
    assert dict(zip(wanted, [known.is_answer for known in found], strict=True)) == {
        name: expected for name, (_, expected) in wanted.items()
    }
    zoe = await depot.actor("Zoe")
    elsewhere = Pair(bob.agent.id, ann.agent.id, (zoe.project.id, "Feat-1"))
    assert [known.is_answer for known in await between(book, elsewhere)] == [False]


# --- request_contacts -------------------------------------------------------------------------------------------------


async def test_a_refused_send_asks_for_what_it_lacked(book: Book, depot: Book, database: Database) -> None:
    ann, bob, zoe = await book.actor("Ann"), await book.actor("Bob"), await depot.actor("Zoe")
    made = await request_contacts(book.office.app, book.office.caller, [(ann, zoe), (ann, bob), (ann, zoe)])
    assert sorted(made) == sorted([(ann.agent.id, zoe.agent.id), (ann.agent.id, bob.agent.id)])
    assert await depot.all("Zoe") == [("Ann@office", "incoming", "pending")]
    told = [event for event in await database.events() if event.kind == "contact.requested"]
    assert [(event.agent_id, event.project_id) for event in told] == [
        (ann.agent.id, zoe.project.id),
        (ann.agent.id, bob.project.id),
    ]
    before = await database.dump()
    assert await request_contacts(book.office.app, book.office.caller, [(ann, zoe), (ann, bob)]) == made
    assert await database.dump() == before
    assert await request_contacts(book.office.app, book.office.caller, []) == {}


async def test_what_was_decided_meanwhile_is_not_asked_for(book: Book, depot: Book) -> None:
    ann, bob, zoe = await book.actor("Ann"), await book.actor("Bob"), await depot.actor("Zoe")
    await book.add("Ann", "Bob")
    await book.add("Ann", "Zoe@depot")
    await depot.respond("Zoe", "Ann@office", False)
    assert await request_contacts(book.office.app, book.office.caller, [(ann, bob), (ann, zoe)]) == {}


async def test_both_sides_at_once_are_contacts(book: Book, depot: Book) -> None:
    ann, zoe = await book.actor("Ann"), await depot.actor("Zoe")
    app, caller = book.office.app, book.office.caller
    await asyncio.gather(request_contacts(app, caller, [(ann, zoe)]), request_contacts(app, caller, [(zoe, ann)]))
    assert [known.tie for known in await between(book, pair(ann, zoe))] == ["accepted"]
