"""Contacts: asked for, given, turned down and ended, within a project and between two (SPEC 2, 3.3 rule 4)."""

from datetime import timedelta

import pytest

from agent_mail_core.contacts import NewContact
from agent_mail_core.errors import (
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    ContactNotFound,
    ContactRefused,
    InvalidContact,
)
from agent_mail_core.fields import ContactPolicy
from agent_mail_core.products import EnsureProduct, LinkProject, ensure_product, link_project
from tests.contract.contact_book import Book
from tests.contract.databases import Database, EventRow
from tests.contract.office import TEAM, Office

PAST = timedelta(seconds=-1)


@pytest.fixture
def book(office: Office) -> Book:
    return Book(office)


@pytest.fixture
async def depot(office: Office) -> Book:
    """Another project, with agents of its own: Ann too, and Zoe."""
    await office.ensure("depot")
    other = Office(office.app, office.caller, "depot")
    for name in ("Ann", "Zoe"):
        await other.register(name)
    return Book(other)


async def one_product(*books: Book) -> None:
    """A product that holds the projects of these books."""
    office = books[0].office
    await ensure_product(office.app, office.caller, EnsureProduct(name="All"))
    for book in books:
        request = LinkProject(product_name="All", project_slug=book.office.slug)
        await link_project(office.app, office.caller, request)


async def contact_events(database: Database) -> list[EventRow]:
    return [event for event in await database.events() if event.kind.startswith("contact.")]


# --- add_contact ------------------------------------------------------------------------------------------------------


async def test_a_contact_of_the_same_project_is_accepted_at_once(book: Book, database: Database) -> None:
    made = await book.add("Ann", "bob", reason="We share a file")
    assert (made.contact_name, made.direction, made.status) == ("Bob", "outgoing", "accepted")
    assert (made.reason, made.expires_at) == ("We share a file", None)
    assert made.decided_at is not None
    assert await book.all("Ann") == [("Bob", "outgoing", "accepted")]
    assert await book.all("Bob") == [("Ann", "incoming", "accepted")]
    (event,) = await contact_events(database)
    assert event.kind == "contact.accepted"
    assert event.data == {"contact_id": made.contact_id, "agent": "Ann", "contact": "Bob"}
    assert event.outbox_topics == ["archive"]


@pytest.mark.parametrize(
    "policy, here, product, elsewhere",
    [
        ("open", "accepted", "accepted", "accepted"),
        ("auto", "accepted", "accepted", "pending"),
        ("contacts_only", "pending", "pending", "pending"),
        ("block_all", "refused", "refused", "refused"),
    ],
)
async def test_the_policy_decides(
    book: Book, depot: Book, policy: ContactPolicy, here: str, product: str, elsewhere: str
) -> None:
    async def asking(asker: Book, agent: str, contact: str) -> str:
        try:
            return (await asker.add(agent, contact)).status
        except ContactRefused:
            return "refused"

    await book.policy("Bob", policy)
    assert await asking(book, "Ann", "Bob") == here
    assert await asking(depot, "Zoe", "Bob@office") == elsewhere
    await one_product(book, depot)
    assert await asking(depot, "Ann", "Bob@office") == product


async def test_a_request_waits_for_thirty_days_and_both_sides_see_it(
    book: Book, depot: Book, database: Database
) -> None:
    made = await depot.add("Zoe", "Bob@office", reason="A question")
    assert (made.contact_name, made.direction, made.status) == ("Bob@office", "outgoing", "pending")
    assert (made.reason, made.decided_at) == ("A question", None)
    assert made.requested_at is not None
    assert made.expires_at is not None
    assert made.expires_at - made.requested_at == timedelta(days=30)
    (incoming,) = (await book.page("Bob")).contacts
    assert (incoming.contact_id, incoming.contact_name, incoming.direction) == (
        made.contact_id,
        "Zoe@depot",
        "incoming",
    )
    assert (incoming.reason, incoming.status, incoming.expires_at) == ("A question", "pending", made.expires_at)
    (event,) = await contact_events(database)
    zoe, bob = await depot.actor("Zoe"), await book.actor("Bob")
    assert (event.kind, event.project_id, event.agent_id) == ("contact.requested", bob.project.id, zoe.agent.id)
    assert event.data == {"contact_id": made.contact_id, "agent": "Zoe@depot", "contact": "Bob@office"}


async def test_asking_again_changes_nothing(book: Book, depot: Book, database: Database) -> None:
    first = [await book.add("Ann", "Bob"), await depot.add("Zoe", "Bob@office", reason="One")]
    before = await database.dump()
    again = [await book.add("Ann", "BOB", ttl_seconds=60), await depot.add("Zoe", "bob@office", reason="Two")]
    assert again == first
    assert await database.dump() == before


async def test_asking_back_accepts(book: Book, depot: Book, database: Database) -> None:
    asked = await depot.add("Zoe", "Bob@office", ttl_seconds=7200)
    back = await book.add("Bob", "Zoe@depot", ttl_seconds=3600)
    assert (back.contact_id, back.direction, back.status) == (asked.contact_id, "incoming", "accepted")
    assert back.decided_at is not None
    assert back.expires_at == back.decided_at + timedelta(seconds=3600)
    assert [event.kind for event in await contact_events(database)] == ["contact.requested", "contact.accepted"]
    assert await depot.all("Zoe") == [("Bob@office", "outgoing", "accepted")]


async def test_asking_back_accepts_for_one_that_takes_no_mail(book: Book) -> None:
    await book.policy("Bob", "contacts_only")
    await book.add("Ann", "Bob")
    await book.policy("Ann", "block_all")
    with pytest.raises(ContactRefused):
        await book.add("Cid", "Ann")
    assert (await book.add("Bob", "Ann")).status == "accepted"


async def test_a_request_is_accepted_when_asked_again_after_the_policy_opened(book: Book, database: Database) -> None:
    await book.policy("Bob", "contacts_only")
    asked = await book.add("Ann", "Bob", ttl_seconds=600)
    await book.policy("Bob", "open")
    again = await book.add("Ann", "Bob")
    assert (again.contact_id, again.status) == (asked.contact_id, "accepted")
    assert again.decided_at is not None
    assert again.expires_at == again.decided_at + timedelta(seconds=600)
    assert [event.kind for event in await contact_events(database)] == ["contact.requested", "contact.accepted"]


async def test_a_contact_may_be_given_for_a_time(book: Book) -> None:
    made = await book.add("Ann", "Bob", ttl_seconds=3600)
    assert made.decided_at is not None
    assert made.expires_at == made.decided_at + timedelta(hours=1)
    await book.policy("Bob", "contacts_only")
    await book.add("Cid", "Bob", ttl_seconds=60)
    accepted = await book.respond("Bob", "Cid", True)
    assert accepted.decided_at is not None
    assert accepted.expires_at == accepted.decided_at + timedelta(minutes=1)


@pytest.mark.parametrize("name", ["Ann", "ann", "Ann@office", "Overseer", "system", "Overseer@depot", "System@nowhere"])
async def test_some_are_nobodys_contact(book: Book, depot: Book, database: Database, name: str) -> None:
    before = await database.dump()
    for call in (book.add("Ann", name), book.respond("Ann", name, True), book.block("Ann", name)):
        with pytest.raises(InvalidContact):
            await call
    assert await database.dump() == before


async def test_the_retired_neither_ask_nor_are_asked(book: Book, database: Database) -> None:
    await book.office.retire("Bob")
    before = await database.dump()
    calls = (book.add("Bob", "Ann"), book.respond("Bob", "Ann", True), book.block("Bob", "Ann"))
    for call in (*calls, book.unblock("Bob", "Ann"), book.policy("Bob", "open"), book.add("Ann", "Bob")):
        with pytest.raises(AgentRetired):
            await call
    assert await database.dump() == before


# --- addresses --------------------------------------------------------------------------------------------------------


async def test_a_slug_after_the_name_chooses_the_project(book: Book, depot: Book) -> None:
    assert (await book.add("Bob", "Ann@depot")).contact_name == "Ann@depot"
    assert (await book.add("Bob", "Ann@office")).contact_name == "Ann"
    assert await book.all("Bob") == [("Ann@depot", "outgoing", "pending"), ("Ann", "outgoing", "accepted")]
    assert await depot.all("Ann") == [("Bob@office", "incoming", "pending")]


async def test_an_unknown_agent_of_another_project_and_one_of_no_project_answer_alike(
    book: Book, depot: Book, database: Database
) -> None:
    await book.office.ensure("/srv/hidden", slug="hidden-slug")
    team = await database.add_team("others")
    foreign = book.office.of("local", team_id=team)
    await foreign.ensure("foreign")
    await Office(foreign.app, foreign.caller, "foreign").register("Fay")
    for name in ("Nobody@depot", "Zoe@depott", "Zoe@", "Fay@foreign", "Zoe@/srv/hidden", "Zoe@hidden-slug@depot"):
        for call in (book.add("Ann", name), book.respond("Ann", name, True), book.block("Ann", name)):
            with pytest.raises(AgentNotFound) as unknown:
                await call
            assert unknown.value.message == f"There is no agent {name!r}."
            assert unknown.value.data == {"agent_name": name, "suggestion": "list_agents"}


async def test_an_unknown_name_of_the_own_project_has_near_ones(book: Book) -> None:
    for name in ("Bobb", "Bobb@office"):
        with pytest.raises(AgentNotFound) as unknown:
            await book.add("Ann", name)
        assert unknown.value.data["near"] == ["Bob"]


async def test_only_the_owner_uses_a_contact_book(book: Book) -> None:
    other = Book(book.office.of("somebody"))
    calls = [other.add("Ann", "Bob"), other.respond("Ann", "Bob", True), other.page("Ann"), other.block("Ann", "Bob")]
    for call in (*calls, other.unblock("Ann", "Bob"), other.policy("Ann", "open")):
        with pytest.raises(AgentNotYours):
            await call


# --- respond_contact --------------------------------------------------------------------------------------------------


async def test_the_contact_answers_and_may_change_its_mind(book: Book, depot: Book, database: Database) -> None:
    asked = await depot.add("Zoe", "Bob@office")
    answers = []
    for accept in (True, True, False, False, True):
        answer = await book.respond("Bob", "Zoe@depot", accept)
        assert (answer.contact_id, answer.direction) == (asked.contact_id, "incoming")
        answers.append(answer.status)
    assert answers == ["accepted", "accepted", "rejected", "rejected", "accepted"]
    kinds = [event.kind for event in await contact_events(database)]
    assert kinds == ["contact.requested", "contact.accepted", "contact.rejected", "contact.accepted"]
    zoe, bob = await depot.actor("Zoe"), await book.actor("Bob")
    told = (await contact_events(database))[1]
    assert (told.project_id, told.agent_id) == (zoe.project.id, bob.agent.id)


async def test_nobody_but_the_contact_answers_a_request(book: Book, depot: Book, database: Database) -> None:
    await depot.add("Zoe", "Bob@office")
    before = await database.dump()
    for book_of, agent, contact in ((depot, "Zoe", "Bob@office"), (book, "Cid", "Zoe@depot"), (book, "Bob", "Cid")):
        for accept in (True, False):
            with pytest.raises(ContactNotFound) as missing:
                await book_of.respond(agent, contact, accept)
            assert missing.value.data["suggestion"] == "list_contacts"
    assert await database.dump() == before


async def test_a_rejection_stands_for_a_day(
    book: Book, depot: Book, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await depot.add("Zoe", "Bob@office", reason="One")
    rejected = await book.respond("Bob", "Zoe@depot", False)
    assert rejected.decided_at is not None
    assert rejected.expires_at == rejected.decided_at + timedelta(hours=24)
    before = await database.dump()
    again = await depot.add("Zoe", "Bob@office", reason="Two")
    assert (again.contact_id, again.status, again.expires_at) == (asked.contact_id, "rejected", rejected.expires_at)
    assert await database.dump() == before
    await book.respond("Bob", "Zoe@depot", True)
    monkeypatch.setattr("agent_mail_core.contacts.REJECTED_FOR", PAST)
    await book.respond("Bob", "Zoe@depot", False)
    renewed = await depot.add("Zoe", "Bob@office", reason="Three")
    assert (renewed.contact_id, renewed.status, renewed.reason) == (asked.contact_id, "pending", "Three")


async def test_who_turned_a_request_down_may_ask_itself(book: Book, depot: Book) -> None:
    await depot.add("Zoe", "Bob@office")
    await book.respond("Bob", "Zoe@depot", False)
    assert (await book.add("Bob", "Zoe@depot")).direction == "outgoing"
    assert await book.all("Bob") == [("Zoe@depot", "incoming", "rejected"), ("Zoe@depot", "outgoing", "pending")]
    assert (await depot.add("Zoe", "Bob@office")).status == "accepted"


async def test_what_has_expired_is_not_there(
    book: Book, depot: Book, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("agent_mail_core.contacts.PENDING_FOR", PAST)
        expired = await depot.add("Zoe", "Bob@office", reason="One")
    assert await book.all("Bob") == await depot.all("Zoe") == []
    with pytest.raises(ContactNotFound):
        await book.respond("Bob", "Zoe@depot", True)
    renewed = await depot.add("Zoe", "Bob@office")
    assert (renewed.contact_id, renewed.status, renewed.reason) == (expired.contact_id, "pending", None)
    kinds = [event.kind for event in await contact_events(database)]
    assert kinds == ["contact.requested", "contact.requested"]


async def test_an_acceptance_that_has_expired_is_asked_for_anew(book: Book, database: Database) -> None:
    ann, bob = await book.actor("Ann"), await book.actor("Bob")
    async with book.office.app.store.write() as db:
        (expired,) = await db.contacts.ask([NewContact(TEAM, ann.agent.id, bob.agent.id, True, ttl=PAST)])
        assert await db.contacts.live(ann.agent.id, bob.agent.id) is None
    assert await book.all("Ann") == await book.all("Bob") == []
    await book.policy("Bob", "contacts_only")
    assert (await book.add("Ann", "Bob")).contact_id == expired.id
    assert await book.all("Ann") == [("Bob", "outgoing", "pending")]


# --- list_contacts ----------------------------------------------------------------------------------------------------


async def test_contacts_are_listed_by_name_and_slug_page_by_page(book: Book, depot: Book) -> None:
    for name in ("dot2", "Eve", "ann2"):
        await book.office.register(name)
    await book.policy("Bob", "contacts_only")
    for name in ("Ann", "dot2", "Eve", "ann2", "Ann@depot", "Zoe@depot", "Dot"):
        await book.add("Cid", name)
    await depot.add("Ann", "Cid@office")
    await book.add("Bob", "Cid")
    expected = ["Ann@depot", "Ann", "ann2", "Bob", "Dot", "dot2", "Eve", "Zoe@depot"]
    assert [name for name, _, _ in await book.all("Cid")] == expected
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page = await book.page("Cid", limit=2, cursor=cursor)
        assert len(page.contacts) == 2
        seen += [contact.contact_name for contact in page.contacts]
        cursor = page.next_cursor
    assert (seen, cursor) == (expected, None)


async def test_the_list_may_be_of_one_status(book: Book, depot: Book) -> None:
    await book.add("Ann", "Bob")
    await book.add("Ann", "Zoe@depot")
    await depot.add("Ann", "Ann@office")
    await book.respond("Ann", "Ann@depot", False)
    await book.block("Ann", "Cid")
    assert await book.all("Ann", status="accepted") == [("Bob", "outgoing", "accepted")]
    assert await book.all("Ann", status="pending") == [("Zoe@depot", "outgoing", "pending")]
    assert await book.all("Ann", status="rejected") == [("Ann@depot", "incoming", "rejected")]
    assert await book.all("Ann", status="blocked") == [("Cid", "blocked", "blocked")]
    assert len(await book.all("Ann")) == 4


# --- set_contact_policy -----------------------------------------------------------------------------------------------


async def test_the_policy_is_part_of_the_profile(book: Book, database: Database) -> None:
    changed = await book.policy("Ann", "block_all")
    assert (changed.name, changed.contact_policy) == ("Ann", "block_all")
    assert (await book.office.whois("Ann")).agent.contact_policy == "block_all"
    event = (await database.events())[-1]
    assert (event.kind, event.data["name"], event.data["contact_policy"]) == ("agent.updated", "Ann", "block_all")
