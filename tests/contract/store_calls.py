"""A call of every method of every noun of a transaction, for the tests of how the engines run them.

What is read with filters is called with each of them; see the tables of those tests for all combinations.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args

from agent_mail_core.admission import Pair
from agent_mail_core.agents import AgentChanges, Agents, NewAgent
from agent_mail_core.archive import Archives, ArchiveState
from agent_mail_core.attachments import Attachments, NewAttachment
from agent_mail_core.build_slots import BuildSlots
from agent_mail_core.contacts import Contacts, NewContact
from agent_mail_core.embeddings import Embeddings, NewVector, Sought, vector_of
from agent_mail_core.events import EventFilter, EventPosition, Events, NewEvent
from agent_mail_core.idempotency import NO_AGENT, Idempotency, IdempotencyScope
from agent_mail_core.ids import (
    AgentId,
    MessageId,
    Principal,
    ProjectId,
    ReservationId,
    TeamId,
    ThreadId,
    WebhookDeliveryId,
    WebhookId,
)
from agent_mail_core.jobs import Jobs
from agent_mail_core.leases import Leases
from agent_mail_core.mailboxes import Mailboxes
from agent_mail_core.message_search import MessageSearch, SearchFilter
from agent_mail_core.messages import Messages
from agent_mail_core.ports import Transaction
from agent_mail_core.products import Products
from agent_mail_core.project_deletion import ProjectDeletions
from agent_mail_core.project_export import ProjectExports, Section
from agent_mail_core.projects import Projects
from agent_mail_core.reservations import NewReservation, Renewal, Reservations
from agent_mail_core.retention import Retention, RetentionPolicy
from agent_mail_core.reviews import NewReview, Reviews
from agent_mail_core.search_query import parse
from agent_mail_core.summaries import NewSummary, Summaries
from agent_mail_core.sweeps import Sweeps
from agent_mail_core.threads import Threads
from agent_mail_core.webhooks import Attempt, NewWebhook, Webhooks

PROTOCOLS: dict[str, type] = {
    "projects": Projects,
    "agents": Agents,
    "contacts": Contacts,
    "messages": Messages,
    "mailboxes": Mailboxes,
    "threads": Threads,
    "message_search": MessageSearch,
    "events": Events,
    "idempotency": Idempotency,
    "leases": Leases,
    "jobs": Jobs,
    "sweeps": Sweeps,
    "reservations": Reservations,
    "build_slots": BuildSlots,
    "reviews": Reviews,
    "attachments": Attachments,
    "project_deletions": ProjectDeletions,
    "project_exports": ProjectExports,
    "products": Products,
    "archives": Archives,
    "summaries": Summaries,
    "retention": Retention,
    "webhooks": Webhooks,
    "embeddings": Embeddings,
}
POLICY = RetentionPolicy(timedelta(days=30), 1000, True)
HOUR = timedelta(hours=1)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
LOCAL = Principal("local")


@dataclass(frozen=True)
class Place:
    """What the calls are about. All of it must be there."""

    team: TeamId
    project: ProjectId
    project_slug: str
    agent: AgentId
    agent_name: str
    other: AgentId
    thread: ThreadId
    message: MessageId


class Noted:
    """A transaction that notes which methods of which nouns are called."""

    def __init__(self, db: Transaction, called: set[str]) -> None:
        self._db = db
        self._called = called

    def __getattr__(self, noun: str) -> Any:
        return _NotedNoun(getattr(self._db, noun), noun, self._called)


class _NotedNoun:
    def __init__(self, noun: Any, name: str, called: set[str]) -> None:
        self._noun = noun
        self._name = name
        self._called = called

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        self._called.add(f"{self._name}.{method}")
        found: Callable[..., Awaitable[Any]] = getattr(self._noun, method)
        return found


def all_methods() -> set[str]:
    """`noun.method` of all that a transaction offers."""
    nouns = {name for name, member in vars(Transaction).items() if isinstance(member, property)}
    assert nouns == set(PROTOCOLS)
    return {
        f"{noun}.{name}"
        for noun, protocol in PROTOCOLS.items()
        for name, method in vars(protocol).items()
        if inspect.iscoroutinefunction(method)
    }


async def read_all(db: Transaction, at: Place, called: set[str]) -> None:
    """Every method that only reads, but for those of mail, which have tables of their own."""
    noted: Any = Noted(db, called)
    await _read_coordination(noted, at)
    await _read_contacts_and_products(noted, at)
    await _read_background(noted, at)


async def _read_contacts_and_products(db: Any, at: Place) -> None:
    pairs = [Pair(at.agent, at.other), Pair(at.other, at.agent, (at.project, "T-1"))]
    await db.contacts.between(pairs)
    # As many as a batch of sends may have: some plans change on the way there.
    await db.contacts.between([Pair(at.agent, AgentId(number), (at.project, "T-1")) for number in range(1, 1001)])
    await db.contacts.live(at.agent, at.other)
    for status, after in product((None, "pending", "blocked"), (None, ("ann", "office", "incoming"))):
        await db.contacts.page(at.agent, status, after, 21)
    await db.products.names(at.team, 1000)
    await db.products.page(at.team, "Shop", 21)
    shop = await db.products.find(at.team, "Shop")
    assert shop is not None
    await db.products.projects([shop.id])
    await db.products.agents_named(shop.id, at.agent_name)
    for before in (None, MessageId(99)):
        await db.products.messages(shop.id, before, 21)
        await db.products.received([at.agent, at.other], before, 21)
    (file,) = await db.attachments.find(at.team, ["public"])
    await db.attachments.content(file.id)
    await db.attachments.of_messages([MessageId(number) for number in range(1, 101)])


async def _read_coordination(db: Any, at: Place) -> None:
    for agent_id, last in product((None, at.agent), (None, ReservationId(9))):
        await db.reservations.live(at.project, agent_id, last, 21)
        await db.reservations.page(at.project, agent_id, last, 21)
    await db.reservations.snapshot(at.project)
    await db.reservations.records([ReservationId(1)])
    await db.reservations.live_of(at.agent, ["src/*.py"])
    await db.reservations.last_of(at.agent, ["src/*.py"])
    await db.build_slots.find(at.project, "main", "build")
    await db.build_slots.names(at.project, 100)
    for active_only, after in product((True, False), (None, ("main", "build"))):
        await db.build_slots.page(at.project, active_only, after, 21)
    await db.build_slots.leases([1])
    await db.build_slots.leases_of(at.agent)
    await db.reviews.find(at.project, 1)
    for state, agent_id, below in product((None, "requested"), (None, at.agent), (None, 9)):
        await db.reviews.page(at.project, state, agent_id, below, 21)


async def _read_background(db: Any, at: Place) -> None:
    for team, project, agent in (
        (None, None, None),
        (at.team, None, None),
        (at.team, at.project, None),
        (at.team, at.project, at.agent),
    ):
        wanted = EventFilter(team, project, agent, True)
        await db.events.after(EventPosition(0, 0), wanted, 21)
        if team is not None:
            await db.events.page(wanted, None, 21)
            await db.events.page(wanted, EventPosition(2**40, 2**40), 21)
    await db.events.of_agent(at.agent, 10)
    await db.events.marks([at.project])
    await db.events.last_position()
    await db.events.forgotten()
    await db.jobs.dead(at.team, ("archive", 1), 21)
    await db.jobs.figures()
    await db.sweeps.newest_outbox("archive", 21)
    await db.sweeps.outbox("archive", 0, 21)
    await db.sweeps.expired_leases(21)
    await db.project_deletions.unpurged(True, 21)
    await db.project_exports.last_message(at.project)
    await db.project_exports.threads(at.project, MessageId(2**40), ThreadId(0), 21)
    for section in get_args(Section):
        await db.project_exports.rows(section, at.project, 0, 21)
    await db.archives.place(at.project)
    await db.archives.behind(21)
    await db.archives.archived(ProjectId(0), 21)
    await db.archives.get(at.project)
    await db.archives.sizes([at.message])
    await db.archives.messages([at.message])
    await db.archives.message_ids(at.project, MessageId(0), 21)
    await db.summaries.get([at.thread])
    await db.summaries.notes(at.thread)
    await db.summaries.thread(at.thread)
    await db.summaries.first_message(at.thread)
    await db.summaries.newest_messages(at.thread, MessageId(0), at.message, 21)
    await db.summaries.bodies([at.message], 100)
    await db.summaries.count_messages(at.thread, MessageId(0), at.message)
    await db.retention.due(POLICY, ProjectId(0), 21)
    await db.retention.holds(at.team, "a", 21)
    await _read_webhooks(db, at)
    await _read_meaning(db, at)


async def _read_meaning(db: Any, at: Place) -> None:
    model = await db.embeddings.model(at.team, "model", 8)
    assert model is not None
    await db.embeddings.missing(model.id, at.project, 21)
    await db.embeddings.behind("model", 8, 21)
    await db.embeddings.lately("model", 8, 21)
    texts = ("word", "from:Ann word", 'word -not "a phrase"', "thread:T-1 word after:2020-01-01", "word OR from:Ann")
    for text, projects, agent, since in product(
        texts, (None, (at.project,), (at.project, ProjectId(9))), (None, at.agent), (None, PAST)
    ):
        query, wanted = parse(text), SearchFilter(at.team, projects, agent, True, since)
        await db.embeddings.is_wide(model.id, projects, 0)
        await db.message_search.ranked(query, wanted, 21)
        await db.message_search.nearest(Sought(model.id, vector_of([1.0] * 8, 8), query.demands), wanted, 21)
    await db.message_search.records([at.message])


async def _read_webhooks(db: Any, at: Place) -> None:
    webhook, delivery = WebhookId(1), WebhookDeliveryId(1)
    await db.webhooks.find(at.team, webhook)
    for project in (None, at.project):
        await db.webhooks.page(at.team, project, WebhookId(0), 21)
    await db.webhooks.target(webhook)
    await db.webhooks.tells_of(at.project)
    await db.webhooks.behind(WebhookId(0), 21)
    for before in (None, delivery):
        await db.webhooks.deliveries(webhook, before, 21)
    await db.webhooks.delivery(webhook, delivery)


async def prepare(db: Transaction, at: Place, called: set[str]) -> None:
    """What reading needs, by methods that write."""
    noted: Any = Noted(db, called)
    shop, _ = await noted.products.ensure(at.team, "Shop", None)
    project = await noted.projects.find(at.team, at.project_slug)
    await noted.products.link(shop, project, 100)
    file = await noted.attachments.add(
        NewAttachment("public", at.team, at.project, at.agent, "plan.md", "text/markdown", b"d" * 32, b"text"), 10**6
    )
    await noted.attachments.linkable(at.agent, ["public"])
    await noted.attachments.link(at.message, [file.id])
    model = await noted.embeddings.use(at.team, "model", 8)
    await noted.embeddings.keep(model.id, [NewVector(at.message, vector_of([1.0] * 8, 8))])
    await noted.embeddings.advance(model.id, at.project, 1, HOUR)


async def write_all(db: Transaction, at: Place, called: set[str]) -> None:
    """Every method that changes something. Afterwards the project is deleted and purged."""
    noted: Any = Noted(db, called)
    await _write_mail(noted, at)
    await _write_coordination(noted, at)
    await _write_background(noted, at)
    await _write_ends(noted, at)


async def _write_mail(db: Any, at: Place) -> None:
    new = NewAgent(at.team, at.project, LOCAL, "shell", "m-1", None, None)
    await db.projects.ensure(at.team, "another", ["another"], True, "text")
    await db.projects.ensure(at.team, "another", ["another-2"], True, "other text")
    await db.agents.register("Eve", new, False)
    await db.agents.register("Eve", new, False)
    await db.agents.register_free(["Eve", "Fay"], new)
    await db.agents.update(at.agent, AgentChanges(model="m-2"))
    await db.agents.transfer(at.agent, LOCAL)
    await db.agents.touch({at.agent: datetime.now(UTC) + HOUR})
    await db.mailboxes.mark_read(at.agent, [MessageId(1), MessageId(2)], True)
    wish = NewContact(at.team, at.agent, at.other, False)
    await db.contacts.ask([wish])
    await db.contacts.answer(at.other, at.agent, True)
    await db.contacts.block(at.agent, at.other)
    await db.contacts.unblock(at.agent, at.other)
    scope = IdempotencyScope(at.team, LOCAL, NO_AGENT, "register_agent", "key")
    await db.idempotency.take(scope, b"f" * 16)
    await db.idempotency.keep(scope, "{}")
    await db.idempotency.amend(scope, "{}")
    await db.events.add(NewEvent("agent.updated", at.team, at.project, at.agent))


async def _write_coordination(db: Any, at: Place) -> None:
    await db.leases.lock(at.project)
    (fence, other_fence) = await db.leases.fences(at.project, 2)
    await db.leases.change(at.project)
    ticket, _ = await db.leases.ask(at.project, at.agent, "reservation", "src/*.py", True)
    await db.leases.tickets(at.project, "reservation")
    await db.leases.leave(ticket.id if ticket is not None else 1)
    await db.leases.leave_all(at.agent)
    wanted = NewReservation(at.team, at.project, at.agent, "src/*.py", False, True, False, None, fence, HOUR, None)
    (held,) = await db.reservations.grant([wanted])
    await db.reservations.renew([Renewal(held.id, True, False, None, HOUR)])
    await db.reservations.end([held.id], "released", at.agent_name, None)
    await db.reservations.close_expired(at.project, 21)
    slot = await db.build_slots.make(at.team, at.project, "main", "build", 1)
    await db.build_slots.set_capacity(slot.id, 2)
    await db.build_slots.acquire(slot.id, at.agent, other_fence, HOUR)
    await db.build_slots.renew(slot.id, at.agent, HOUR)
    await db.build_slots.release(slot.id, at.agent)
    await db.build_slots.release_all(at.agent)
    await db.build_slots.close_expired(at.project, None, 21)
    await db.build_slots.close_expired(at.project, slot.id, 21)
    review = await db.reviews.add(
        NewReview(at.team, at.project, at.thread, at.message, at.agent, (at.other,), ("src",), None)
    )
    await db.reviews.claim(review, at.other, fence, HOUR)
    await db.reviews.renew(review, at.other, HOUR)
    await db.reviews.release_claims(at.other)
    await db.reviews.complete(review, at.other, "approve")
    await db.reviews.cancel(review)


async def _write_background(db: Any, at: Place) -> None:
    for subject in (1, 2, 3, 4):
        await db.jobs.want("sweep", subject, at.team)
    finished, postponed, buried = [await db.jobs.claim(["sweep"], HOUR) for _ in range(3)]
    await db.jobs.renew(finished, HOUR)
    await db.jobs.hold(finished)
    await db.jobs.finish(finished)
    await db.jobs.postpone(postponed, "error", HOUR, 1)
    await db.jobs.bury(buried, "error")
    await db.jobs.retry(at.team, "sweep", None)
    await db.jobs.drop(at.team, "sweep", 4)
    overdue = await db.sweeps.overdue(timedelta(0), 21)
    await db.sweeps.escalated(overdue)
    await db.sweeps.forget_keys(HOUR, 21)
    await db.events.forget(at.project, timedelta(days=365), 21)
    position = EventPosition(1, 1)
    await db.archives.record(at.project, None, ArchiveState("a" * 40, "b" * 40, position, 1, None))
    await db.archives.record_push(at.project, "a" * 40)
    await db.summaries.keep(NewSummary(at.thread, "extractive", at.message, 1, "{}", "{}", True))
    await db.summaries.discard(at.thread)
    await db.retention.hold(at.project, "reason", "local")
    await db.retention.lift(at.project)
    await db.retention.remove(at.project, POLICY, MessageId(0), 21)
    await db.retention.discard_summaries([at.thread])
    await _write_webhooks(db, at)
    await db.embeddings.complete("model", 8, HOUR)
    await db.embeddings.used("model", 8)
    await db.embeddings.forget(-HOUR, 21)


async def _write_webhooks(db: Any, at: Place) -> None:
    webhook = (await db.webhooks.add(NewWebhook(at.team, at.project, "https://a.example/", (), "whsec_"), 50)).id
    attempt = Attempt(webhook, EventPosition(1, 1), "message.sent", 500, "status 500")
    await db.webhooks.move_on(webhook, attempt.position)
    await db.webhooks.failed(attempt, HOUR)
    await db.webhooks.failed(attempt, None)
    await db.webhooks.delivered(attempt)
    await db.webhooks.switch_off(attempt, "reason")
    await db.webhooks.switch_on(webhook)
    await db.webhooks.remove(at.team, webhook)


async def _write_ends(db: Any, at: Place) -> None:
    shop = await db.products.find(at.team, "Shop")
    project = await db.projects.find(at.team, at.project_slug)
    await db.products.unlink(shop, project)
    await db.attachments.remove_unlinked(HOUR, 21)
    await db.agents.retire(at.agent)
    await db.project_deletions.delete(at.project, "-deleted-1", "\x01-deleted-1")
    while await db.project_deletions.purge_step(at.project, 1000):
        pass
