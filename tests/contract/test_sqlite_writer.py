"""The writer of SQLite: transactions that share a commit do what each would do alone, whatever befalls one of them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import apsw
import pytest

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, NoRecipients, RecipientsUnknown
from agent_mail_core.events import NewEvent
from agent_mail_core.ids import AgentId, MessageId
from agent_mail_core.ports import Store
from agent_mail_store.sqlite import writer
from agent_mail_store.sqlite.transaction import SqliteTransaction
from tests.contract.databases import SqliteDatabase
from tests.contract.sqlite_mail import (
    NAMES,
    TEAM,
    StoppedClock,
    furnish,
    inbox,
    new_agent,
    opened,
    outgoing,
    project_id,
    sound,
)

TEXT_INDEX = {"message_text_data", "message_text_docsize", "message_text_idx"}
"""How the text index is cut into segments depends on the commits; what it finds does not."""


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of members of each commit."""
    sizes: list[int] = []
    commit = writer.Writer._commit

    async def counted(self: writer.Writer, group: list[Any]) -> AgentMailError | None:
        sizes.append(len(group))
        return await commit(self, group)

    monkeypatch.setattr(writer.Writer, "_commit", counted)
    return sizes


@pytest.fixture
def connections() -> Iterator[list[apsw.Connection]]:
    """Every connection that the store opens; the writer's does not say `query_only`."""
    found: list[apsw.Connection] = []
    apsw.connection_hooks.append(found.append)
    yield found
    apsw.connection_hooks.remove(found.append)


def writing(connections: list[apsw.Connection]) -> apsw.Connection:
    (one,) = [c for c in connections if not c.execute("PRAGMA query_only").fetchall()[0][0]]
    return one


# --- together as alone ------------------------------------------------------------------------------------------------


Step = Callable[[Store, dict[str, AgentId]], Awaitable[object]]


def _history(seed: int, length: int) -> list[Step]:
    """Sends good and refused, blocks that write, read, and fail half way: each a step that leaves nothing to chance."""
    chance = random.Random(seed)

    def deliver(number: int) -> Step:
        names = chance.sample((*NAMES, "Nobody"), chance.randint(1, 3))
        send = outgoing(
            chance.choice(NAMES),
            tuple(names[:1]),
            f"Message {number}",
            bcc=tuple(names[1:]),
            body_md=f"body number {number} {'long ' * chance.randint(0, 300)}",
            thread_key=f"T-{chance.randint(1, 6)}",
            allow_partial=chance.random() < 0.3,
            ack_required=chance.random() < 0.5,
            idempotency_key=chance.choice((None, "k1", "k2")),
        )
        return lambda store, _: store.deliver(send)

    def mark_read(number: int) -> Step:
        name, acknowledge = chance.choice(NAMES), chance.random() < 0.5
        ids = [MessageId(chance.randint(1, number + 1)) for _ in range(5)]

        async def step(store: Store, agents: dict[str, AgentId]) -> object:
            async with store.write() as db:
                return await db.mailboxes.mark_read(agents[name], ids, acknowledge)

        return step

    def fail_half_way(number: int) -> Step:
        async def step(store: Store, agents: dict[str, AgentId]) -> object:
            async with store.write() as db:
                project, _ = await db.projects.ensure(TEAM, f"half-{number}", [f"half-{number}"], False, None)
                await db.agents.register("Eve", new_agent(project.id), False)
                await db.mailboxes.mark_read(agents["Ann"], [MessageId(1)], True)
                raise NoRecipients(f"step {number}")

        return step

    kinds = (deliver, deliver, deliver, mark_read, fail_half_way)
    return [chance.choice(kinds)(number) for number in range(length)]


@pytest.mark.parametrize("seed", range(5))
async def test_transactions_that_share_commits_leave_what_they_leave_one_by_one(
    seed: int, fresh_sqlite: str, sqlite_template: Any, tmp_path: Any, commits: list[int]
) -> None:
    other_path = tmp_path / "other.db"
    other_path.write_bytes(sqlite_template.read_bytes())
    other = f"sqlite:///{other_path}"
    steps = _history(seed, 150)
    outcomes: dict[str, list[object]] = {}

    async def outcome(step: Awaitable[object]) -> object:
        try:
            return await step
        except AgentMailError as error:
            return type(error), error.message, error.data

    async with opened(fresh_sqlite, StoppedClock()) as store:
        agents = await furnish(store)
        outcomes[fresh_sqlite] = [await outcome(step(store, agents)) for step in steps]
        assert set(commits) == {1}
        commits.clear()
    async with opened(other, StoppedClock()) as store:
        agents = await furnish(store)
        outcomes[other] = await asyncio.gather(*(outcome(step(store, agents)) for step in steps))
        assert len(commits) < 20
        assert max(commits) > 8
    assert outcomes[fresh_sqlite] == outcomes[other]
    alone, together = await SqliteDatabase(fresh_sqlite).dump(), await SqliteDatabase(other).dump()
    for table in alone.keys() - TEXT_INDEX - {"facts", "schema_migrations", "teams"}:
        assert alone[table] == together[table], table
    for word in ("body", "number", "Message", "7", "long"):
        found = "SELECT rowid FROM message_text WHERE message_text MATCH ? ORDER BY rank, rowid"
        assert SqliteDatabase(fresh_sqlite)._run(found, word) == SqliteDatabase(other)._run(found, word)
    sound(fresh_sqlite)
    sound(other)


async def test_what_queued_during_a_commit_is_the_next_group(fresh_sqlite: str, commits: list[int]) -> None:
    async with opened(fresh_sqlite) as store:
        await furnish(store)
        commits.clear()
        await asyncio.gather(*(store.deliver(outgoing("Ann", ("Bob",))) for _ in range(200)))
        assert sum(commits) == 200
        assert max(commits) <= writer.GROUP_MEMBERS


async def test_nobody_is_answered_before_the_commit(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[str] = []
    seen_at_commit: list[list[str]] = []
    end = writer._end

    def watched(connection: apsw.Connection, failure: AgentMailError | None) -> AgentMailError | None:
        seen_at_commit.append(list(answered))
        return end(connection, failure)

    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        monkeypatch.setattr(writer, "_end", watched)

        async def good() -> None:
            await store.deliver(outgoing("Ann", ("Bob",)))
            answered.append("good")

        async def refused() -> None:
            with pytest.raises(RecipientsUnknown):
                await store.deliver(outgoing("Ann", ("Nobody",)))
            answered.append("refused")

        async def block() -> None:
            async with store.write() as db:
                await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], False)
            answered.append("block")

        await asyncio.gather(good(), refused(), block())
        assert seen_at_commit == [[]]
        assert sorted(answered) == ["block", "good", "refused"]


# --- what may befall a group ------------------------------------------------------------------------------------------


async def test_a_group_whose_transaction_sqlite_ends_gets_unavailable_and_nothing_of_it_is_stored(
    fresh_sqlite: str,
) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)

        async def poison() -> None:
            async with store.write() as db:
                assert isinstance(db, SqliteTransaction)
                await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], True)
                with pytest.raises(apsw.ConstraintError):  # as a full disk may
                    db._statements.many("INSERT OR ROLLBACK INTO mailboxes (agent_id) VALUES (?)", [(agents["Ann"],)])
                with pytest.raises(DatabaseUnavailable):
                    await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], True)

        sends = [store.deliver(outgoing("Ann", (name,), f"m{n}")) for n, name in enumerate(("Bob", "Nobody", "Bob"))]
        late = [store.deliver(outgoing("Ann", ("Bob",), f"late{n}")) for n in range(3)]
        outcomes = await asyncio.gather(*sends, poison(), *late, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[:4]] == [DatabaseUnavailable] * 4
        assert await inbox(store, agents["Bob"]) == ["late0", "late1", "late2"]
    sound(fresh_sqlite)


async def test_a_full_database_gives_unavailable_and_mail_flows_again_when_there_is_room(
    fresh_sqlite: str, connections: list[apsw.Connection]
) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        connection = writing(connections)
        pages = int(str(connection.execute("PRAGMA page_count").fetchall()[0][0]))
        connection.execute(f"PRAGMA max_page_count = {pages + 8}")
        sends = [store.deliver(outgoing("Ann", ("Bob",), f"m{n}", body_md="long " * 2000)) for n in range(40)]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} == {DatabaseUnavailable}
        stored = [f"m{n}" for n, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
        assert await inbox(store, agents["Bob"]) == stored
        connection.execute("PRAGMA max_page_count = 1000000")
        await store.deliver(outgoing("Ann", ("Bob",), "room"))
        assert await inbox(store, agents["Bob"]) == [*stored, "room"]
    sound(fresh_sqlite)


async def test_a_commit_that_fails_fails_its_whole_group(fresh_sqlite: str, connections: list[apsw.Connection]) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        connection = writing(connections)
        connection.set_commit_hook(lambda: True)  # turns the commit into a rollback
        sends = [store.deliver(outgoing("Ann", ("Bob",))) for _ in range(5)]
        outcomes = await asyncio.gather(*sends, store.deliver(outgoing("Ann", ("Nobody",))), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 6
        connection.set_commit_hook(None)
        await store.deliver(outgoing("Ann", ("Bob",), "again"))
        assert await inbox(store, agents["Bob"]) == ["again"]
    sound(fresh_sqlite)


async def test_a_fault_in_one_block_leaves_the_others_alone(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)

        async def faulty() -> None:
            async with store.write() as db:
                await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], False)
                raise ZeroDivisionError

        outcomes = await asyncio.gather(
            store.deliver(outgoing("Ann", ("Bob",), "one")),
            faulty(),
            store.deliver(outgoing("Ann", ("Bob",), "two")),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], ZeroDivisionError)
        assert await inbox(store, agents["Bob"]) == ["one", "two"]


async def test_a_violated_constraint_is_the_fault_of_one_block(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)

        async def wrong() -> None:
            async with store.write() as db:
                await db.events.add(NewEvent("agent.updated", TEAM, await project_id(store), AgentId(999)))

        outcomes = await asyncio.gather(wrong(), store.deliver(outgoing("Ann", ("Bob",))), return_exceptions=True)
        assert isinstance(outcomes[0], apsw.ConstraintError)
        assert await inbox(store, agents["Bob"]) == ["Hello"]
