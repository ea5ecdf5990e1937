"""Sends that share a transaction on PostgreSQL: who is in a batch, who fails alone, what workers do to each other."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeAlias

import asyncpg
import pytest
from pydantic import SecretStr

from agent_mail_core.delivery import Delivered
from agent_mail_core.errors import (
    AgentMailError,
    AgentNotFound,
    DatabaseUnavailable,
    IdempotencyConflict,
    Overloaded,
    RecipientsRefused,
    RecipientsUnknown,
)
from agent_mail_core.idempotency import IdempotencyScope
from agent_mail_core.ids import ProjectId, TeamId
from agent_mail_core.settings import Settings
from agent_mail_store.postgres import batches
from agent_mail_store.postgres.store import PostgresStore
from tests.contract.sends import LOCAL, TEAM, a_project, a_send

Watcher: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SOMEBODY_WAITS = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())
"""


@pytest.fixture
def settings(fresh_postgres: str) -> Settings:
    return Settings(database_url=SecretStr(fresh_postgres))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings, single_server=False)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[PostgresStore]:
    async with opened(settings) as store:
        yield store


@pytest.fixture
async def watcher(fresh_postgres: str) -> AsyncIterator[Watcher]:
    """A connection that looks, and locks, behind the store's back."""
    connection = await asyncpg.connect(fresh_postgres)
    yield connection
    await connection.close()


@asynccontextmanager
async def locked_mailbox(watcher: Watcher, agent_id: int) -> AsyncIterator[None]:
    """Sends to the agent wait until the block ends."""
    async with watcher.transaction():
        await watcher.execute("SELECT FROM mailboxes WHERE agent_id = $1 FOR UPDATE", agent_id)
        yield


async def until(watcher: Watcher, condition: str) -> None:
    """Wait until a query answers true."""
    async with asyncio.timeout(10):
        while not await watcher.fetchval(condition):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)


def deliver(store: PostgresStore, sender: str, to: list[str], **more: Any) -> "asyncio.Task[Delivered]":
    return asyncio.ensure_future(store.deliver(a_send("office", sender, to, **more)))


async def count(watcher: Watcher, table: str = "messages") -> int:
    return int(await watcher.fetchval(f"SELECT count(*) FROM {table}"))


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_sends_that_wait_together_share_a_transaction(store: PostgresStore, watcher: Watcher) -> None:
    await a_project(store, "office", "Ann", "Bob")
    answers = await asyncio.gather(*(deliver(store, "Ann", ["Bob"]) for _ in range(100)))
    assert len({answer.sent.message_id for answer in answers}) == 100
    assert await watcher.fetchval("SELECT count(DISTINCT xmin::text) FROM messages") <= 10


async def test_a_rule_or_a_replay_answers_its_own_member_only(store: PostgresStore, watcher: Watcher) -> None:
    await a_project(store, "office", "Ann", "Bob")
    first = await deliver(store, "Ann", ["Bob"], idempotency_key="k")
    outcomes = await asyncio.gather(
        deliver(store, "Ann", ["Bob"]),
        deliver(store, "Zoe", ["Bob"]),
        deliver(store, "Ann", ["Zoe"]),
        deliver(store, "Ann", ["Bob"], idempotency_key="k"),
        deliver(store, "Ann", ["Bob"], idempotency_key="k", fingerprint=b"other"),
        deliver(store, "Ann", ["Bob"]),
        return_exceptions=True,
    )
    kinds = [Delivered, AgentNotFound, RecipientsUnknown, Delivered, IdempotencyConflict, Delivered]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert isinstance(outcomes[3], Delivered)
    assert outcomes[3].sent == first.sent.model_copy(update={"replayed": True})
    assert outcomes[3].mailboxes == ()
    assert await count(watcher) == 3


@pytest.mark.parametrize("poison", ["a\x00b", "a\ud800b"], ids=["refused by the server", "refused by the driver"])
async def test_what_cannot_be_stored_fails_alone(store: PostgresStore, watcher: Watcher, poison: str) -> None:
    await a_project(store, "office", "Ann", "Bob")
    calls = [deliver(store, "Ann", ["Bob"], body_md=poison if number == 7 else "fine") for number in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, Delivered)] == [7]
    assert not isinstance(outcomes[7], AgentMailError), "a fault of ours, not a message for the caller"
    assert await count(watcher) == 19
    assert await watcher.fetchval("SELECT position FROM mailboxes ORDER BY agent_id DESC LIMIT 1") == 19


async def test_equal_keys_at_once_store_once(store: PostgresStore, watcher: Watcher) -> None:
    await a_project(store, "office", "Ann", "Bob")
    answers = await asyncio.gather(*(deliver(store, "Ann", ["Bob"], idempotency_key="k") for _ in range(40)))
    assert Counter(answer.sent.replayed for answer in answers) == {False: 1, True: 39}
    assert await count(watcher) == 1


async def test_a_batch_that_hangs_on_a_lock_holds_up_no_other_mailbox_of_its_team(
    store: PostgresStore, watcher: Watcher
) -> None:
    _, agents = await a_project(store, "office", "Ann", "Bob", "Cid")
    async with locked_mailbox(watcher, agents["Bob"].id):
        hanging = deliver(store, "Ann", ["Bob"])
        await until(watcher, SOMEBODY_WAITS)
        await asyncio.gather(*(deliver(store, "Ann", ["Cid"]) for _ in range(5)))
        assert not hanging.done()
    await hanging


async def test_a_send_whose_caller_has_gone_is_dropped_while_it_waits_and_stored_once_begun(
    store: PostgresStore, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SLOW", 0.0)
    _, agents = await a_project(store, "office", "Ann", "Bob")
    async with locked_mailbox(watcher, agents["Bob"].id):
        begun = []
        for _ in range(batches.BATCHES_A_TEAM):
            begun.append(deliver(store, "Ann", ["Bob"], subject="begun"))
            await asyncio.sleep(0.05)
        waiting = [deliver(store, "Ann", ["Bob"], subject="waiting") for _ in range(2)]
        await until(watcher, SOMEBODY_WAITS)
        for call in (begun[0], waiting[0]):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    await asyncio.gather(*begun[1:], waiting[1])
    await store.close()
    stored = [row[0] for row in await watcher.fetch("SELECT subject FROM messages ORDER BY id")]
    assert stored == ["begun"] * len(begun) + ["waiting"]


async def test_too_many_waiting_sends_are_refused(
    store: PostgresStore, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agents = await a_project(store, "office", "Ann", "Bob")
    monkeypatch.setattr(batches, "MAX_WAITING", 5)
    async with locked_mailbox(watcher, agents["Bob"].id):
        accepted = [deliver(store, "Ann", ["Bob"]) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await deliver(store, "Ann", ["Bob"])
    assert len(await asyncio.gather(*accepted)) == 5
    await deliver(store, "Ann", ["Bob"])


async def test_who_waits_for_a_lock_too_long_is_told_so(settings: Settings, watcher: Watcher) -> None:
    async with opened(settings.model_copy(update={"database_lock_timeout": 0.2})) as store:
        _, agents = await a_project(store, "office", "Ann", "Bob", "Cid")
        async with locked_mailbox(watcher, agents["Bob"].id):
            stuck = [deliver(store, "Ann", ["Bob"]) for _ in range(3)]
            outcomes = await asyncio.wait_for(asyncio.gather(*stuck, return_exceptions=True), 10)
            assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 3
        assert await count(watcher) == 0
        await deliver(store, "Ann", ["Bob"])


async def test_a_team_that_is_stuck_does_not_hold_up_another(store: PostgresStore, watcher: Watcher) -> None:
    _, agents = await a_project(store, "office", "Ann", "Bob")
    other = TeamId(await watcher.fetchval("INSERT INTO teams (name) VALUES ('other') RETURNING id"))
    await watcher.execute("INSERT INTO projects (team_id, human_key, slug) VALUES ($1, 'office', 'office')", other)
    await watcher.execute(
        """
        WITH made AS (
            INSERT INTO agents (team_id, project_id, name, program, model, contact_policy, owner)
            SELECT team_id, id, 'Ann', 'shell', 'm-1', 'auto', 'local' FROM projects WHERE team_id = $1 RETURNING id
        )
        INSERT INTO mailboxes (agent_id) SELECT id FROM made
        """,
        other,
    )
    async with locked_mailbox(watcher, agents["Bob"].id):
        stuck = [deliver(store, "Ann", ["Bob"]) for _ in range(50)]
        await until(watcher, SOMEBODY_WAITS)
        for _ in range(3):
            await asyncio.wait_for(store.deliver(replace(a_send("office", "Ann", ["Ann"]), team_id=other)), 1)
        assert not any(call.done() for call in stuck)
    await asyncio.gather(*stuck)


# --- races ------------------------------------------------------------------------------------------------------------


async def test_two_workers_on_the_same_mailboxes_threads_and_keys(settings: Settings, watcher: Watcher) -> None:
    names = [f"Agent{number}" for number in range(8)]
    async with opened(settings) as one, opened(settings) as two:
        _, agents = await a_project(one, "office", *names)
        chance = random.Random(7)
        keys = [f"key-{number}" for number in range(40)]
        calls = []
        for number in range(600):
            sender, *to = chance.sample(names, chance.randint(2, 5))
            calls.append(
                deliver(
                    (one, two)[number % 2],
                    sender,
                    to[:-1],
                    bcc=tuple(to[-1:]),
                    thread_key=chance.choice(["A", "a", "B", "b", "C", None]),
                    idempotency_key=chance.choice([None, None, *keys]),
                )
            )
            if number % 50 == 0:
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*calls)
    stored = {outcome.sent.message_id for outcome in outcomes}
    assert await count(watcher) == len(stored)
    assert await count(watcher, "events") == len(stored)
    assert await count(watcher, "idempotency_keys WHERE response IS NULL") == 0
    for agent in agents.values():
        rows = await watcher.fetch(
            "SELECT position, message_id, thread_id FROM deliveries WHERE agent_id = $1 ORDER BY position", agent.id
        )
        assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
        mailbox = await watcher.fetchrow("SELECT position, unread FROM mailboxes WHERE agent_id = $1", agent.id)
        assert mailbox is not None
        assert tuple(mailbox) == (len(rows), len(rows))
        for thread in {row["thread_id"] for row in rows}:
            ids = [row["message_id"] for row in rows if row["thread_id"] == thread]
            assert all(earlier < later for earlier, later in pairwise(ids))
    threads = await watcher.fetch(
        "SELECT t.message_count, count(m.id), t.last_message_id, max(m.id)"
        " FROM threads t JOIN messages m ON m.thread_id = t.id GROUP BY t.id"
    )
    assert all(row[0] == row[1] and row[2] == row[3] for row in threads)
    assert await count(watcher, "threads WHERE key_lower IN ('a', 'b', 'c')") == 3


async def test_a_send_that_waits_for_a_retiring_agent_does_not_reach_it(store: PostgresStore, watcher: Watcher) -> None:
    _, agents = await a_project(store, "office", "Ann", "Bob", "Cid")
    async with store.write() as db:
        await db.agents.retire(agents["Bob"].id)
        refused = deliver(store, "Ann", ["Bob"])
        partial = deliver(store, "Ann", ["Bob", "Cid"], allow_partial=True)
        await until(watcher, SOMEBODY_WAITS)
    with pytest.raises(RecipientsRefused):
        await refused
    answer = await partial
    assert [skipped.code for skipped in answer.sent.skipped] == ["agent_retired"]
    assert await count(watcher, f"deliveries WHERE agent_id = {agents['Bob'].id}") == 0
    assert await count(watcher, "threads") == 1, "the refused send left no thread behind"


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_send_waits_for_who_holds_its_key(store: PostgresStore, watcher: Watcher, is_kept: bool) -> None:
    _, agents = await a_project(store, "office", "Ann", "Bob")
    first = (await deliver(store, "Ann", ["Bob"])).sent
    scope = IdempotencyScope(TEAM, LOCAL, agents["Ann"].id, "send_message", "k")
    waiting = None
    try:
        async with store.write() as db:
            assert await db.idempotency.take(scope, b"fingerprint") is None
            waiting = deliver(store, "Ann", ["Bob"], idempotency_key="k")
            await until(watcher, SOMEBODY_WAITS)
            await db.idempotency.keep(scope, first.model_dump_json())
            if not is_kept:
                raise KeyError
    except KeyError:
        pass
    assert waiting is not None
    answer = await waiting
    assert answer.sent.replayed == is_kept
    assert (answer.sent.message_id == first.message_id) == is_kept
    assert await count(watcher) == (1 if is_kept else 2)


async def test_a_thread_that_somebody_makes_meanwhile_is_used(store: PostgresStore, watcher: Watcher) -> None:
    project, _ = await a_project(store, "office", "Ann", "Bob")
    async with watcher.transaction():
        await insert_thread(watcher, project.id, "Feat-1")
        calls = [deliver(store, "Ann", ["Bob"], thread_key=key) for key in ("FEAT-1", "feat-1", "FEAT-2")]
        await asyncio.sleep(0.1)
    answers = await asyncio.gather(*calls)
    assert [answer.sent.thread_id for answer in answers] == ["Feat-1", "Feat-1", "FEAT-2"]
    told = await watcher.fetch("SELECT data ->> 'thread_id' FROM events ORDER BY id")
    assert sorted(row[0] for row in told) == ["FEAT-2", "Feat-1", "Feat-1"]


async def insert_thread(watcher: Watcher, project_id: ProjectId, key: str) -> None:
    await watcher.execute(
        "INSERT INTO threads (team_id, project_id, key, subject) VALUES ($1, $2, $3, 'Its own')", TEAM, project_id, key
    )


async def test_a_deadlock_is_survived(store: PostgresStore, watcher: Watcher) -> None:
    """No two sends make one; a stranger that locks in another order can."""
    project, agents = await a_project(store, "office", "Ann", "Bob")
    await insert_thread(watcher, project.id, "T")
    stranger = watcher.transaction()
    await stranger.start()
    await watcher.execute("SELECT FROM mailboxes WHERE agent_id = $1 FOR UPDATE", agents["Bob"].id)
    calls = [deliver(store, "Ann", ["Bob"], thread_key="T") for _ in range(5)]
    await until(watcher, SOMEBODY_WAITS)
    try:
        await watcher.execute("SELECT FROM threads WHERE key = 'T' FOR UPDATE")
    except asyncpg.DeadlockDetectedError:
        pass
    finally:
        await stranger.rollback()
    assert len(await asyncio.gather(*calls)) == 5
    assert await count(watcher) == 5


async def test_the_longest_message_is_stored_in_time(store: PostgresStore, watcher: Watcher) -> None:
    await a_project(store, "office", "Ann", "Bob")
    body = " ".join(f"w{number:x}" for number in range(45_000))[: 256 * 1024]
    await deliver(store, "Ann", ["Bob"], body_md=body)
    repeated = ("again " * 43_690)[: 256 * 1024]
    await deliver(store, "Ann", ["Bob"], body_md=repeated)
    assert await watcher.fetchval("SELECT array_agg(length(words) > 30000 ORDER BY id) FROM messages") == [True, False]
