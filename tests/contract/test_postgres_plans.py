"""How PostgreSQL runs what lists, searches, inboxes and threads ask, on a database that is not small.

Every statement that the store sends is explained with its arguments, and as it would be planned for any arguments: no
plan reads a large table from end to end.
"""

import json
import secrets
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from agent_mail_core.embeddings import ModelId, Sought
from agent_mail_core.ids import AgentId, MessageId, ProjectId, SlotId, ThreadId
from agent_mail_core.mailboxes import InboxFilter
from agent_mail_core.message_search import SearchFilter
from agent_mail_core.ports import Transaction
from agent_mail_core.search_query import parse
from agent_mail_core.settings import Settings
from agent_mail_core.threads import ThreadFilter
from agent_mail_store.postgres.connections import connection_arguments
from agent_mail_store.postgres.message_search import RANKED, PostgresMessageSearch
from agent_mail_store.postgres.statements import Statements
from agent_mail_store.postgres.store import PostgresStore
from tests.contract.sends import TEAM, a_send
from tests.contract.store_calls import PROTOCOLS, Place, all_methods, prepare, read_all, write_all
from tests.servers import in_new_loop, query, with_database

LARGE = {"agents", "messages", "deliveries", "events", "outbox", "threads", "thread_participants", "mailboxes"}
LOOKED_UP = {"contacts", "blocks", "product_projects"}
"""Of these not even an index is read from end to end: that is how an EXISTS is planned for many agents."""

# 60 projects of 2 teams with 20 agents each. The first project has half of the mail, its first agent a fifth of that.
FILL = """
    INSERT INTO teams (name) SELECT 'team ' || n FROM generate_series(2, 3) n;
    INSERT INTO projects (team_id, human_key, slug)
        SELECT 1 + n % 2, '/code/p' || n, 'p' || n FROM generate_series(0, 59) n;
    INSERT INTO agents (team_id, project_id, name, program, model, contact_policy, owner)
        SELECT p.team_id, p.id, 'Agent' || n, 'shell', 'm-1', 'auto', 'local' FROM projects p, generate_series(1, 20) n;
    INSERT INTO mailboxes (agent_id) SELECT id FROM agents;
    INSERT INTO threads (team_id, project_id, key, subject)
        SELECT p.team_id, p.id, 'T-' || n, 'Subject ' || n
        FROM projects p, generate_series(1, CASE WHEN p.slug = 'p0' THEN 3000 ELSE 50 END) n;
    CREATE TEMPORARY TABLE plan AS
        SELECT n, CASE WHEN n % 2 = 0 THEN 1 ELSE 1 + n % 60 END AS project, 1 + n % 20 AS sender,
               CASE WHEN n % 5 = 0 THEN 1 ELSE 1 + (n / 7) % 20 END AS recipient
        FROM generate_series(1, 24000) n;
    INSERT INTO messages (team_id, project_id, thread_id, sender_id, subject, body_md, priority, ack_required,
                          created_at, words, subject_phrases, body_phrases)
        SELECT p.team_id, p.id, t.id, a.id, 'Subject ' || n, 'Body of message ' || n, n % 4 - 1, n % 50 = 0,
               clock_timestamp() - (24000 - n) * interval '1 minute', to_tsvector('simple', 'subject ' || n || '
               common body of message w' || n % 400), ' subject ' || n || ' ', ' common body of message w' || n % 400
               || ' '
        FROM plan JOIN projects p ON p.id = plan.project
        JOIN agents a ON a.project_id = p.id AND a.name_key = 'agent' || sender
        JOIN threads t ON t.project_id = p.id AND t.key_lower = 't-' || 1 + n % (CASE p.id WHEN 1 THEN 3000 ELSE 50 END)
        ORDER BY n;
    INSERT INTO deliveries (agent_id, position, message_id, project_id, sender_id, thread_id, kind, place, priority,
                            ack_required, created_at, read_at)
        SELECT a.id, row_number() OVER (PARTITION BY a.id ORDER BY m.id), m.id, m.project_id, m.sender_id, m.thread_id,
               m.id % 3, 0, m.priority, m.ack_required, m.created_at, CASE WHEN m.id % 20 > 0 THEN m.created_at END
        FROM messages m JOIN plan ON plan.n = m.id
        JOIN agents a ON a.project_id = m.project_id AND a.name_key = 'agent' || plan.recipient;
    UPDATE mailboxes b SET position = n.position, unread = n.unread FROM (
        SELECT agent_id, max(position) AS position, count(*) FILTER (WHERE read_at IS NULL) AS unread
        FROM deliveries GROUP BY agent_id
    ) n WHERE n.agent_id = b.agent_id;
    UPDATE threads t SET message_count = n.messages, last_message_id = n.last_id, last_message_at = n.last_at FROM (
        SELECT thread_id, count(*) AS messages, max(id) AS last_id, max(created_at) AS last_at
        FROM messages GROUP BY thread_id
    ) n WHERE n.thread_id = t.id;
    INSERT INTO thread_participants (thread_id, agent_id, is_hidden)
        SELECT thread_id, agent_id, bool_and(is_hidden) FROM (
            SELECT thread_id, agent_id, kind = 2 AS is_hidden FROM deliveries
            UNION ALL SELECT thread_id, sender_id, false FROM messages
        ) p GROUP BY thread_id, agent_id;
    INSERT INTO events (team_id, project_id, kind, agent_id, message_id, created_at)
        SELECT team_id, project_id, 'message.sent', sender_id, id, created_at FROM messages ORDER BY id;
    INSERT INTO outbox (event_id, topic) SELECT id, 'archive' FROM events;
    INSERT INTO contacts (team_id, agent_id, contact_id, status)
        SELECT a.team_id, a.id, b.id, 'accepted' FROM agents a JOIN agents b ON b.id > a.id AND b.id < a.id + 21;
    INSERT INTO blocks (agent_id, blocked_id)
        SELECT a.id, b.id FROM agents a JOIN agents b ON b.id > a.id AND b.id < a.id + 11;
    INSERT INTO products (team_id, name) SELECT 1, 'product ' || n FROM generate_series(1, 50) n;
    INSERT INTO product_projects (product_id, project_id)
        SELECT r.id, p.id FROM products r JOIN projects p ON p.team_id = r.team_id AND (p.id + r.id) % 3 = 0;
"""


@pytest.fixture(scope="module")
def filled(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """A database with 24,000 messages, known to the planner."""
    name = f"agent_mail_filled_{secrets.token_hex(6)}"
    query(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')
    url = with_database(postgres_url, name)

    async def fill() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(FILL)
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()

    try:
        in_new_loop(fill())
        yield url
    finally:
        query(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def settings(filled: str) -> Settings:
    return Settings(database_url=SecretStr(filled))


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings, single_server=False)
    yield store
    await store.close()


@pytest.fixture
async def planner(settings: Settings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection made like the store's."""
    connection = await asyncpg.connect(**connection_arguments(settings))
    yield connection
    await connection.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[object, ...]]]:
    """The statements that the store sends, with their arguments."""
    seen: list[tuple[str, tuple[object, ...]]] = []
    run = Statements._run

    async def noted(self: Statements, statement: str, arguments: tuple[object, ...]) -> Any:
        seen.append((statement, arguments))
        return await run(self, statement, arguments)

    monkeypatch.setattr(Statements, "_run", noted)
    return seen


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def _is_walk(node: dict[str, Any]) -> bool:
    table, kind = node.get("Relation Name"), str(node["Node Type"])
    if table in LOOKED_UP and kind.endswith("Scan"):
        return not {"Index Cond", "Recheck Cond"} & set(node)
    return table in LARGE and kind == "Seq Scan"


async def scans(
    planner: "asyncpg.Connection[asyncpg.Record]", statement: str, arguments: tuple[object, ...]
) -> list[str]:
    """The large tables that a statement would read from end to end, planned for these arguments, then for any."""
    found = []
    for option in ("", "GENERIC_PLAN, "):
        answer = await planner.fetchval(f"EXPLAIN ({option}FORMAT JSON) {statement}", *arguments)
        found += [
            f"{option or 'THESE ARGUMENTS, '}{node['Node Type']} of {node['Relation Name']}"
            for node in nodes(json.loads(answer)[0]["Plan"])
            if _is_walk(node)
        ]
    return found


PROJECT, SMALL = ProjectId(1), ProjectId(8)
AGENT, RARE = AgentId(1), AgentId(150)
NOW = datetime.now(UTC)
EVERYTHING = ThreadFilter(None, False, None)

MAIL = ("messages", "mailboxes", "threads", "message_search")
"""Read with all their filters by the table below."""

READS: dict[str, Callable[[Transaction], Awaitable[object]]] = {
    "projects": lambda db: db.projects.page(TEAM, "P1", "p", 21),
    "project counts": lambda db: db.projects.counts(PROJECT),
    "agents": lambda db: db.agents.page(PROJECT, NOW - timedelta(days=1), False, "agent1", 21),
    "recent agents": lambda db: db.agents.recent(PROJECT, 100),
    "agent counts": lambda db: db.agents.counts(RARE, False),
    "busiest agent's counts": lambda db: db.agents.counts(AGENT, False),
    "message": lambda db: db.messages.get(TEAM, MessageId(99)),
    "recipients": lambda db: db.messages.recipients([MessageId(n) for n in range(100, 200)]),
    "outbox": lambda db: db.messages.sent_by(AGENT, MessageId(9_000), True, 21),
    "thread": lambda db: db.messages.of_thread(ThreadId(5), MessageId(3), True, 101),
    "a party's thread": lambda db: db.messages.of_thread(ThreadId(5), MessageId(3), True, 101, RARE),
    "end of a party's thread": lambda db: db.messages.newest_of_thread(ThreadId(5), 5, RARE),
    "share of a thread": lambda db: db.threads.share(ThreadId(5), RARE),
    "end of a thread": lambda db: db.messages.newest_of_thread(ThreadId(5), 5),
    "inbox": lambda db: db.mailboxes.newest(AGENT, None, InboxFilter(), True, 21),
    "older inbox": lambda db: db.mailboxes.newest(AGENT, 200, InboxFilter(), False, 21),
    "unread": lambda db: db.mailboxes.newest(AGENT, None, InboxFilter(unread_only=True), False, 21),
    "inbox of a thread": lambda db: db.mailboxes.newest(AGENT, None, InboxFilter(thread_id=ThreadId(5)), True, 21),
    "inbox after a cursor": lambda db: db.mailboxes.after(AGENT, 100, InboxFilter(min_priority=1, since=NOW), True, 21),
    "unread after a cursor": lambda db: db.mailboxes.after(AGENT, 0, InboxFilter(unread_only=True), True, 21),
    "owed by": lambda db: db.mailboxes.pending_acks(PROJECT, AGENT, None, NOW, (MessageId(5), AGENT), True, 21),
    "owed to": lambda db: db.mailboxes.pending_acks(PROJECT, None, AGENT, None, None, True, 21),
    "owed in a project": lambda db: db.mailboxes.pending_acks(PROJECT, None, None, None, None, False, 21),
    "find a thread": lambda db: db.threads.find(PROJECT, "T-77"),
    "threads": lambda db: db.threads.page(PROJECT, EVERYTHING, (NOW - timedelta(days=1), ThreadId(9)), 21),
    "threads of an agent": lambda db: db.threads.page(PROJECT, ThreadFilter(RARE, True, None), None, 21),
    "threads that say": lambda db: db.threads.page(PROJECT, ThreadFilter(None, False, "77"), None, 21),
    "threads of an agent elsewhere": lambda db: db.threads.elsewhere(RARE, "7", None, 21),
    "participants": lambda db: db.threads.participants([ThreadId(n) for n in range(1, 101)]),
    "thread keys": lambda db: db.threads.keys(PROJECT, 1000),
    "activity": lambda db: db.events.of_agent(AGENT, 10),
    "marks of events": lambda db: db.events.marks([PROJECT]),
}
QUERIES = (
    "w17",
    "common",
    "message nowhere",
    '"body of message"',
    "mess*",
    "subject:77",
    "w17 OR w18 -common",
    "-common",
    "from:agent3",
    "from:nobody",
    "thread:T-9 common",
    "w17 OR from:agent3",
    "before:2020-01-01",
    "after:2020-01-01 w17",
)


@pytest.mark.parametrize("name", READS)
async def test_no_list_reads_a_large_table_from_end_to_end(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]], name: str
) -> None:
    async with store.read() as db:
        await READS[name](db)
    assert sent
    assert [found for one in sent for found in await scans(planner, *one)] == []


@pytest.mark.parametrize("where", ["team", "project", "small project", "product", "agent", "own agent"])
@pytest.mark.parametrize("text", QUERIES)
async def test_no_search_reads_a_large_table_from_end_to_end(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]], text: str, where: str
) -> None:
    wanted = {
        "team": SearchFilter(TEAM, None, None, False, None),
        "project": SearchFilter(TEAM, (PROJECT,), None, False, None),
        "small project": SearchFilter(TEAM, (SMALL,), None, False, NOW - timedelta(days=9)),
        "product": SearchFilter(TEAM, (PROJECT, SMALL), None, False, None),
        "agent": SearchFilter(TEAM, (PROJECT,), AGENT, False, None),
        "own agent": SearchFilter(TEAM, None, AGENT, True, None),
    }[where]
    async with store.read() as db:
        await db.message_search.find(parse(text), wanted, 0, 21)
    assert [found for one in sent for found in await scans(planner, *one)] == []


async def test_a_search_for_what_all_mail_says_looks_at_the_newest_alone(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]]
) -> None:
    async with store.read() as db:
        await db.message_search.find(parse("common"), SearchFilter(TEAM, (PROJECT,), None, False, None), 0, 21)
    ((statement, arguments),) = explainable(sent)
    answer = await planner.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
    assert max(map(_rows_read, nodes(json.loads(answer)[0]["Plan"]))) == RANKED, answer


async def test_a_search_is_planned_for_its_own_words_each_time(store: PostgresStore) -> None:
    everywhere = SearchFilter(TEAM, None, None, False, None)
    sought = Sought(ModelId(-1), array("f", [1.0] * 8), parse("w17"))
    async with store.read() as db:
        for _ in range(7):  # after five PostgreSQL would take one plan for all
            await db.message_search.find(parse("w17"), everywhere, 0, 21)
            await db.message_search.ranked(parse("w17"), everywhere, 21)
            await db.message_search.nearest(sought, everywhere, 21)
        assert isinstance(db.message_search, PostgresMessageSearch)
        kept = await db.message_search._db.rows("SELECT statement FROM pg_prepared_statements WHERE name <> ''")
    assert not [row["statement"] for row in kept if "found" in row["statement"]]


async def test_no_write_reads_a_large_table_from_end_to_end(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]]
) -> None:
    first = await store.deliver(a_send("p0", "Agent1", ["Agent2"], thread_key="T-5", idempotency_key="k"))
    reply = a_send("p0", "Agent2", operation="reply_message", subject=None, parent_id=first.sent.message_id)
    await store.deliver(reply)
    everybody = [f"Agent{number}@p{project}" for project in (0, 2, 4, 6, 8) for number in range(2, 21)]
    await store.deliver(a_send("p0", "Agent1", everybody, thread_key="T-5", allow_partial=True))
    assert [found for one in explainable(sent) for found in await scans(planner, *one)] == []


async def test_no_method_of_any_noun_reads_a_large_table_from_end_to_end(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]]
) -> None:
    called = {
        *(f"{noun}.{name}" for noun in MAIL for name in vars(PROTOCOLS[noun])),
        "projects.page",
        "projects.counts",
        "projects.slugs",
        "agents.find",
        "agents.page",
        "agents.recent",
        "agents.names",
        "agents.taken",
        "agents.counts",
    }
    async with store.read() as db:
        project, agent = await db.agents.find(TEAM, "p8", "Agent3")
        _, other = await db.agents.find(TEAM, "p8", "Agent4")
        assert project is not None
        assert agent is not None
        assert other is not None
        thread = await db.threads.find(project.id, "T-7")
        assert thread is not None
    at = Place(TEAM, project.id, "p8", agent.id, "Agent3", other.id, thread.id, MessageId(99))
    try:
        async with store.write() as db:
            await prepare(db, at, called)
            await read_all(db, at, called)
            await write_all(db, at, called)
            raise _UndoneError
    except _UndoneError:
        assert called >= all_methods()
    assert [found for one in explainable(sent) for found in await scans(planner, *one)] == []


EMBEDDED = """
    INSERT INTO embedding_models (id, team_id, name, dimensions, used_at) VALUES (-1, 1, 'tiny', 1, now());
    INSERT INTO message_vectors SELECT id, -1, '{1}' FROM messages WHERE project_id = 1 ORDER BY id LIMIT 11000;
    INSERT INTO embedding_positions (model_id, project_id, message_id, vectors)
        SELECT -1, 1, max(message_id), 11000 FROM message_vectors;
    ANALYZE message_vectors, embedding_positions
"""


async def test_mail_that_has_its_vectors_is_not_read_again_for_what_lacks_one(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]]
) -> None:
    async with store.write() as db:
        await db.embeddings.missing(ModelId(-1), PROJECT, 64)
        await db.embeddings.advance(ModelId(-1), ProjectId(-1), 0, timedelta(0))
    statements = [text for text, _ in explainable(sent)]
    assert len(statements) == 2
    undone = planner.transaction()
    await undone.start()
    try:
        await planner.execute(EMBEDDED)
        for statement, arguments in zip(statements, ((-1, 1, 4000, 64), (-1, 1, timedelta(0), 64)), strict=True):
            answer = await planner.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
            assert max(map(_rows_read, nodes(json.loads(answer)[0]["Plan"]))) <= 64, answer
    finally:
        await undone.rollback()


LET_GO = """
    INSERT INTO reservations (team_id, project_id, agent_id, pattern, is_literal, is_exclusive, is_advisory, fence,
                              granted_at, renewed_at, expires_at, released_at, release_kind)
        SELECT 1, 1, 1, 'src/' || n, true, true, false, n, ago, ago, ago + interval '1 hour', ago, 'released'
        FROM generate_series(1, 5000) n, LATERAL (SELECT now() - n * interval '1 minute' AS ago) a;
    INSERT INTO build_slots (id, team_id, project_id, name, type, capacity) VALUES (-1, 1, 1, 'ci', 'build', 1);
    INSERT INTO slot_leases (slot_id, agent_id, fence, acquired_at, renewed_at, expires_at, released_at)
        SELECT -1, 1, n, ago, ago, ago + interval '1 hour', ago
        FROM generate_series(1, 5000) n, LATERAL (SELECT now() - n * interval '1 minute' AS ago) a;
    ANALYZE reservations, slot_leases
"""


async def test_who_asks_for_a_lease_reads_none_of_those_that_were_let_go_long_ago(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]]
) -> None:
    async with store.read() as db:
        await db.reservations.snapshot(PROJECT)
        await db.reservations.live_of(AGENT, ["src/5"])
        await db.build_slots.leases([SlotId(-1)])
    statements = [one for one in explainable(sent) if "released_at" in one[0]]
    assert len(statements) == 3
    undone = planner.transaction()
    await undone.start()
    try:
        await planner.execute(LET_GO)
        for statement, arguments in statements:
            answer = await planner.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
            assert max(map(_rows_read, nodes(json.loads(answer)[0]["Plan"]))) <= 1, answer
    finally:
        await undone.rollback()


KEYS = """
    INSERT INTO idempotency_keys (team_id, principal, agent_id, operation, key, fingerprint)
        SELECT 1, 'local', 1, 'send_message', n::text, '' FROM generate_series(1, 5000) n;
    ANALYZE idempotency_keys
"""


async def test_looking_for_old_keys_reads_none_that_is_younger(
    store: PostgresStore, planner: Any, sent: list[tuple[str, tuple[object, ...]]]
) -> None:
    async with store.write() as db:
        await db.sweeps.forget_keys(timedelta(hours=24), 100)
    ((statement, arguments),) = [one for one in explainable(sent) if "idempotency_keys" in one[0]]
    undone = planner.transaction()
    await undone.start()
    try:
        await planner.execute(KEYS)
        answer = await planner.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
        assert max(map(_rows_read, nodes(json.loads(answer)[0]["Plan"]))) <= 1, answer
    finally:
        await undone.rollback()


def _rows_read(node: dict[str, Any]) -> float:
    return float((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


class _UndoneError(Exception):
    """So that the database stays as it was filled."""


def explainable(sent: list[tuple[str, tuple[object, ...]]]) -> list[tuple[str, tuple[object, ...]]]:
    """Each statement once, but for those that cannot be explained."""
    found = {text: (text, arguments) for text, arguments in sent}
    return [one for text, one in found.items() if text not in {"BEGIN", "COMMIT", "ROLLBACK"}]
