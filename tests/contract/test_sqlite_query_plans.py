"""How SQLite runs every statement of the store: by an index, whatever the filters, also where ANALYZE never ran."""

import re
from collections.abc import Awaitable, Iterator
from itertools import product
from typing import Any

import apsw
import pytest

from agent_mail_core.clock import SystemClock
from agent_mail_core.ids import AgentId, MessageId, ProjectId, ThreadId
from agent_mail_core.mailboxes import InboxFilter
from agent_mail_core.message_search import SearchFilter
from agent_mail_core.search_query import parse
from agent_mail_core.threads import ThreadFilter
from agent_mail_store.sqlite.connections import load_vectors
from tests.contract.sqlite_mail import PROJECT, TEAM, furnish, opened, outgoing
from tests.contract.store_calls import Noted, Place, all_methods, prepare, read_all, write_all

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
HARMLESS = re.compile(
    r"SCAN (CONSTANT ROW|\w+ VIRTUAL TABLE INDEX .*|facts|found|near|(p|projects) USING INDEX projects_deleted)"
)
"""`found` and `near` are few rows of a subquery; projects are in that index until they are purged."""

WALKS = (
    # A subquery with a limit, walked to its end:
    "FROM (SELECT * FROM events ORDER BY id LIMIT ?) e",
    "FROM (SELECT * FROM events WHERE project_id = ? ORDER BY id LIMIT ?) e",
    "FROM (SELECT * FROM messages WHERE project_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3) m",
    "FROM (SELECT id, project_id FROM messages ORDER BY id DESC LIMIT ?3) m",
    "FROM ( SELECT 1 FROM message_codes WHERE model_id = ?1",
    "FROM (SELECT id, event_id FROM outbox WHERE topic = ? AND id > ? ORDER BY id LIMIT ?) o",
    "FROM (SELECT id, created_at FROM messages WHERE id > ?1 ORDER BY id LIMIT ?3)",
    "FROM (SELECT id FROM threads WHERE project_id = ?1 ORDER BY id LIMIT ?2) t",
    "FROM (SELECT id FROM messages WHERE project_id = ? ORDER BY id LIMIT ?) m",
    "SELECT l.id FROM build_slots s CROSS JOIN slot_leases l ON l.slot_id = s.id WHERE s.project_id = ?1 LIMIT ?2",
    "FROM (SELECT * FROM events e WHERE",
    "FROM (SELECT event_id FROM outbox WHERE topic = ? ORDER BY id DESC LIMIT ?) o",
    # A subquery of an agent's own:
    "FROM contacts WHERE agent_id = ?1 UNION ALL",
    # A row for each project on hold:
    "FROM legal_holds h CROSS JOIN projects p ON p.id = h.project_id",
    # Sweeps and metrics, over what is under way or over all projects:
    "WHERE r.released_at IS NULL AND r.expires_at <= ?1 UNION",
    "FROM projects p LEFT JOIN archives a ON a.project_id = p.id WHERE EXISTS",
    "FROM jobs GROUP BY kind",
    "FROM projects p LEFT JOIN embedding_models k ON",
    "UPDATE embedding_models",  # a few rows a team
    "FROM embedding_models WHERE used_at < ?",
    "DELETE FROM attachments WHERE id IN ( SELECT t.id FROM attachments t WHERE t.created_at < ?",
    # Calls that wait in a queue, when an agent retires:
    "DELETE FROM lease_tickets WHERE agent_id = ?",
)
"""Pieces of statements that walk along a table, or something like one, and why each may."""


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


def _reads(db: Any, project: Any, ann: AgentId, thread: ThreadId) -> Iterator[Awaitable[Any]]:
    """Every reading method of mail with every combination of filters."""
    now, one = SystemClock().now(), MessageId(1)
    yield db.projects.find(TEAM, "of no slug")
    yield db.projects.counts(project)
    yield db.projects.slugs(TEAM, 10)
    for query, after in product((None, "off"), (None, "a")):
        yield db.projects.page(TEAM, query, after, 10)
    yield db.agents.find(TEAM, PROJECT, "Ann")
    yield db.agents.recent(project, 10)
    yield db.agents.names(project, 10)
    yield db.agents.taken(project, ["Ann", "Eve"])
    yield db.agents.counts(ann, False)
    for since, retired, name in product((None, now), (True, False), (None, "ann")):
        yield db.agents.page(project, since, retired, name, 10)
    yield db.messages.get(TEAM, one)
    yield db.messages.recipients([one, MessageId(2)])
    yield db.messages.newest_of_thread(thread, 5)
    yield db.messages.newest_of_thread(thread, 5, ann)
    yield db.messages.of_thread(thread, one, True, 10, ann)
    yield db.threads.share(thread, ann)
    for bound, with_bodies in product((None, one), (True, False)):
        yield db.messages.sent_by(ann, bound, with_bodies, 10)
        yield db.messages.of_thread(thread, bound, with_bodies, 10)
    for unread, priority, in_thread, since in product((True, False), (None, 1), (None, thread), (None, now)):
        wanted = InboxFilter(unread, priority, in_thread, since)
        yield db.mailboxes.positions([ann])
        yield db.mailboxes.newest(ann, None, wanted, False, 10)
        yield db.mailboxes.newest(ann, 5, wanted, True, 10)
        yield db.mailboxes.after(ann, 5, wanted, False, 10)
    for owed, before, after_ack, with_bcc in product(
        ((None, None), (ann, None), (None, ann)), (None, now), (None, (one, ann)), (True, False)
    ):
        yield db.mailboxes.pending_acks(project, *owed, before, after_ack, with_bcc, 10)
    yield db.threads.find(project, "T-1")
    yield db.threads.keys(project, 10)
    yield db.threads.participants([thread])
    for agent, query, last in product((None, ann), (None, "t"), (None, (now, thread))):
        yield db.threads.elsewhere(ann, query, last, 10)
        yield db.threads.page(project, ThreadFilter(agent, False, query), last, 10)
    for text, where, agent, since in product(
        QUERIES, (None, (project,), (project, ProjectId(9))), (None, ann), (None, now)
    ):
        search = SearchFilter(TEAM, where, agent, True, since)
        yield db.message_search.find(parse(text), search, 0, 10)


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
        foreign = outgoing("Ann", ("Bob@nowhere", "Cid"), allow_partial=True, thread_key=None)
        await store.deliver(foreign)
        async with store.read() as db:
            project, _ = await db.agents.find(TEAM, PROJECT, "Ann")
            assert project is not None
            thread = await db.threads.find(project.id, "t-1")
            assert thread is not None
            for call in _reads(Noted(db, called), project.id, agents["Ann"], thread.id):
                await call
        at = Place(TEAM, project.id, PROJECT, agents["Ann"], "Ann", agents["Bob"], thread.id, MessageId(1))
        async with store.write() as db:
            await prepare(db, at, called)
        async with store.read() as db:
            await read_all(db, at, called)
        async with store.write() as db:
            await write_all(db, at, called)
        await store.check()
    assert called == all_methods()
    assert [(sql, scan) for sql in list(statements) for scan in _scans(fresh_sqlite, sql)] == []


def _scans(url: str, sql: str) -> list[str]:
    text = " ".join(sql.split())
    if text.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH") or any(piece in text for piece in WALKS):
        return []
    connection = apsw.Connection(url.removeprefix("sqlite:///"))
    load_vectors(connection)
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
            await db.events.marks([project.id])
    connection = apsw.Connection(fresh_sqlite.removeprefix("sqlite:///"))
    try:
        for sql in list(statements):
            if sql.lstrip().startswith("SELECT"):
                plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", _nothing(sql))]
                assert not [step for step in plan if "TEMP B-TREE" in step], sql
                if "d.thread_id = ?" in sql:
                    assert "deliveries_by_thread (thread_id=? AND agent_id=? AND position" in plan[2]
                elif "d.read_at IS NULL" in sql:
                    assert "deliveries_unread (agent_id=? AND position" in plan[2]
    finally:
        connection.close()
