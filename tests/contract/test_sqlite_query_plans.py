"""How SQLite runs every statement of the store: by an index, whatever the filters, also where ANALYZE never ran."""

import inspect
import re
from collections.abc import Awaitable, Iterator
from datetime import timedelta
from itertools import product
from typing import Any

import apsw
import pytest

from agent_mail_core.agents import AgentChanges, Agents
from agent_mail_core.clock import SystemClock
from agent_mail_core.events import Events, NewEvent
from agent_mail_core.idempotency import NO_AGENT, Idempotency, IdempotencyScope
from agent_mail_core.ids import AgentId, MessageId, ThreadId
from agent_mail_core.mailboxes import InboxFilter, Mailboxes
from agent_mail_core.message_search import MessageSearch, SearchFilter
from agent_mail_core.messages import Messages
from agent_mail_core.ports import Transaction
from agent_mail_core.projects import Projects
from agent_mail_core.search_query import parse
from agent_mail_core.threads import ThreadFilter, Threads
from tests.contract.sqlite_mail import LOCAL, PROJECT, TEAM, furnish, new_agent, opened, outgoing

PROTOCOLS = (Projects, Agents, Messages, Mailboxes, Threads, MessageSearch, Events, Idempotency)
QUERIES = (
    'word "a phrase" pre* src/auth.py',
    "word OR other -not",
    "word OR -other",
    "-word",
    "from:Ann",
    "from:Ann OR word",
    "thread:T-1 word",
    "-thread:T-1 before:2030-01-01",
    "subject:word after:2020-01-01 -from:Ann",
)
HARMLESS = re.compile(r"SCAN (CONSTANT ROW|\w+ VIRTUAL TABLE INDEX .*|facts)")


@pytest.fixture
def statements() -> Iterator[dict[str, None]]:
    """Every statement that a connection has run since."""
    found: dict[str, None] = {}

    def traced(_: Any, sql: str, __: Any) -> bool:
        found[sql] = None
        return True

    def hook(connection: apsw.Connection) -> None:
        connection.exec_trace = traced

    apsw.connection_hooks.append(hook)
    yield found
    apsw.connection_hooks.remove(hook)


def _reads(db: Transaction, project: Any, ann: AgentId, thread: ThreadId) -> Iterator[tuple[str, Awaitable[Any]]]:
    """Every reading method with every combination of filters."""
    now, one = SystemClock().now(), MessageId(1)
    yield "Projects.find", db.projects.find(TEAM, "of no slug")
    yield "Projects.counts", db.projects.counts(project)
    yield "Projects.slugs", db.projects.slugs(TEAM, 10)
    for query, after in product((None, "off"), (None, "a")):
        yield "Projects.page", db.projects.page(TEAM, query, after, 10)
    yield "Agents.find", db.agents.find(TEAM, PROJECT, "Ann")
    yield "Agents.recent", db.agents.recent(project, 10)
    yield "Agents.names", db.agents.names(project, 10)
    yield "Agents.taken", db.agents.taken(project, ["Ann", "Eve"])
    yield "Agents.counts", db.agents.counts(ann, False)
    for since, retired, name in product((None, now), (True, False), (None, "ann")):
        yield "Agents.page", db.agents.page(project, since, retired, name, 10)
    yield "Messages.get", db.messages.get(TEAM, one)
    yield "Messages.recipients", db.messages.recipients([one, MessageId(2)])
    yield "Messages.newest_of_thread", db.messages.newest_of_thread(thread, 5)
    for bound, with_bodies in product((None, one), (True, False)):
        yield "Messages.sent_by", db.messages.sent_by(ann, bound, with_bodies, 10)
        yield "Messages.of_thread", db.messages.of_thread(thread, bound, with_bodies, 10)
    for unread, priority, in_thread, since in product((True, False), (None, 1), (None, thread), (None, now)):
        wanted = InboxFilter(unread, priority, in_thread, since)
        yield "Mailboxes.positions", db.mailboxes.positions([ann])
        yield "Mailboxes.newest", db.mailboxes.newest(ann, None, wanted, False, 10)
        yield "Mailboxes.newest", db.mailboxes.newest(ann, 5, wanted, True, 10)
        yield "Mailboxes.after", db.mailboxes.after(ann, 5, wanted, False, 10)
    for owed, before, after_ack, with_bcc in product(
        ((None, None), (ann, None), (None, ann)), (None, now), (None, (one, ann)), (True, False)
    ):
        yield "Mailboxes.pending_acks", db.mailboxes.pending_acks(project, *owed, before, after_ack, with_bcc, 10)
    yield "Threads.find", db.threads.find(project, "T-1")
    yield "Threads.keys", db.threads.keys(project, 10)
    yield "Threads.participants", db.threads.participants([thread])
    for agent, query, last in product((None, ann), (None, "t"), (None, (now, thread))):
        yield "Threads.page", db.threads.page(project, ThreadFilter(agent, False, query), last, 10)
    for text, where, agent, since in product(QUERIES, (None, project), (None, ann), (None, now)):
        search = SearchFilter(TEAM, where, agent, True, since)
        yield "MessageSearch.find", db.message_search.find(parse(text), search, 0, 10)
    yield "Events.of_agent", db.events.of_agent(ann, 10)


def _writes(db: Transaction, project: Any, ann: AgentId) -> Iterator[tuple[str, Awaitable[Any]]]:
    """Every changing method."""
    yield "Projects.ensure", db.projects.ensure(TEAM, "another", ["another"], True, "text")
    yield "Projects.ensure", db.projects.ensure(TEAM, "another", ["another-2"], True, "other text")
    yield "Agents.register", db.agents.register("Eve", new_agent(project), False)
    yield "Agents.register", db.agents.register("Eve", new_agent(project), False)
    yield "Agents.register_free", db.agents.register_free(["Eve", "Fay"], new_agent(project))
    yield "Agents.update", db.agents.update(ann, AgentChanges(model="m-2"))
    yield "Agents.touch", db.agents.touch({ann: SystemClock().now() + timedelta(seconds=1)})
    yield "Agents.retire", db.agents.retire(ann)
    yield "Mailboxes.mark_read", db.mailboxes.mark_read(ann, [MessageId(1), MessageId(2)], True)
    yield "Events.add", db.events.add(NewEvent("agent.updated", TEAM, project, ann))
    scope = IdempotencyScope(TEAM, LOCAL, NO_AGENT, "register_agent", "key")
    yield "Idempotency.take", db.idempotency.take(scope, b"f")
    yield "Idempotency.keep", db.idempotency.keep(scope, "{}")


async def test_no_statement_walks_through_a_whole_table(fresh_sqlite: str, statements: dict[str, None]) -> None:
    called: set[str] = set()
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        for number in range(40):
            send = outgoing(
                "Bob", ("Ann", "Cid"), cc=("Dot",), thread_key=f"T-{number % 5}", ack_required=number % 2 == 0
            )
            await store.deliver(send)
        again = outgoing(
            "Ann", ("Bob",), operation="reply_message", parent_id=MessageId(1), thread_key=None, idempotency_key="k"
        )
        await store.deliver(again)
        await store.deliver(again)
        async with store.read() as db:
            project, _ = await db.agents.find(TEAM, PROJECT, "Ann")
            assert project is not None
            thread = await db.threads.find(project.id, "t-1")
            assert thread is not None
            for name, call in _reads(db, project.id, agents["Ann"], thread.id):
                called.add(name)
                await call
        async with store.write() as db:
            for name, call in _writes(db, project.id, agents["Ann"]):
                called.add(name)
                await call
        await store.check()
    methods = {f"{p.__name__}.{n}" for p in PROTOCOLS for n, m in vars(p).items() if inspect.iscoroutinefunction(m)}
    assert called == methods
    assert [(sql, scan) for sql in list(statements) for scan in _scans(fresh_sqlite, sql)] == []


def _scans(url: str, sql: str) -> list[str]:
    if sql.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
        return []
    connection = apsw.Connection(url.removeprefix("sqlite:///"))
    try:
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", _nothing(sql))]
    finally:
        connection.close()
    return [step for step in plan if step.startswith("SCAN") and not HARMLESS.fullmatch(step)]


def _nothing(sql: str) -> tuple[None, ...]:
    """A NULL for every parameter."""
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    return (None,) * (max(numbered) if numbered else sql.count("?"))


async def test_an_inbox_page_is_read_in_the_order_of_its_index(fresh_sqlite: str, statements: dict[str, None]) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        await store.deliver(outgoing("Bob", ("Ann",)))
        statements.clear()
        async with store.read() as db:
            thread = ThreadId(1)
            for unread, priority, in_thread in product((True, False), (None, 1), (None, thread)):
                await db.mailboxes.newest(agents["Ann"], 5, InboxFilter(unread, priority, in_thread), False, 10)
                await db.mailboxes.after(agents["Ann"], 0, InboxFilter(unread, priority, in_thread), False, 10)
            project, _ = await db.agents.find(TEAM, PROJECT, "Ann")
            assert project is not None
            await db.threads.page(project.id, ThreadFilter(None, False, None), (SystemClock().now(), thread), 10)
            await db.messages.of_thread(thread, None, True, 10)
            await db.messages.sent_by(agents["Bob"], None, True, 10)
            await db.events.of_agent(agents["Ann"], 10)
    connection = apsw.Connection(fresh_sqlite.removeprefix("sqlite:///"))
    try:
        for sql in list(statements):
            if sql.lstrip().startswith("SELECT"):
                plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", _nothing(sql))]
                assert not [step for step in plan if "TEMP B-TREE" in step], sql
                if "d.thread_id = ?" in sql:
                    assert "deliveries_by_thread (thread_id=? AND agent_id=? AND position" in plan[0]
                elif "d.read_at IS NULL" in sql:
                    assert "deliveries_unread (agent_id=? AND position" in plan[0]
    finally:
        connection.close()
