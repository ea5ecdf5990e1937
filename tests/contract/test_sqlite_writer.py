"""The writer of SQLite: transactions that share a commit do what each would do alone, whatever befalls one of them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import apsw
import pytest

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, NoRecipients, Overloaded, RecipientsUnknown
from agent_mail_core.events import NewEvent
from agent_mail_core.ids import AgentId, MessageId
from agent_mail_core.ports import Store
from agent_mail_store.sqlite import writer
from agent_mail_store.sqlite.transaction import SqliteTransaction
from tests.contract.databases import SqliteDatabase
from tests.contract.sqlite_mail import (
    NAMES,
    PROJECT,
    TEAM,
    StoppedClock,
    furnish,
    inbox,
    new_agent,
    opened,
    outgoing,
    sound,
)

TEXT_INDEX = {"message_text_data", "message_text_docsize", "message_text_idx"}
"""How the text index is cut into segments depends on the commits; what it finds does not."""


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of members of each commit."""
    sizes: list[int] = []
    commit = writer._commit

    def counted(connection: apsw.Connection, group: list[Any]) -> AgentMailError | None:
        sizes.append(len(group))
        return commit(connection, group)

    monkeypatch.setattr(writer, "_commit", counted)
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
    steps: list[Step] = []

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

    for number in range(length):
        steps.append(chance.choice((deliver, deliver, deliver, mark_read, fail_half_way))(number))
    return steps


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
    commit = writer._commit

    def watched(connection: apsw.Connection, group: list[Any]) -> AgentMailError | None:
        seen_at_commit.append(list(answered))
        return commit(connection, group)

    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        monkeypatch.setattr(writer, "_commit", watched)

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


async def _project(store: Store) -> Any:
    async with store.read() as db:
        project = await db.projects.find(TEAM, PROJECT)
    assert project is not None
    return project.id


async def test_a_full_database_gives_unavailable_and_mail_flows_again_when_there_is_room(
    fresh_sqlite: str, connections: list[apsw.Connection]
) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        connection = writing(connections)
        pages = connection.execute("PRAGMA page_count").fetchall()[0][0]
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
                await db.events.add(NewEvent("agent.updated", TEAM, await _project(store), AgentId(999)))

        outcomes = await asyncio.gather(wrong(), store.deliver(outgoing("Ann", ("Bob",))), return_exceptions=True)
        assert isinstance(outcomes[0], apsw.ConstraintError)
        assert await inbox(store, agents["Bob"]) == ["Hello"]


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_a_send_cancelled_before_its_turn_never_starts(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        kept = asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "kept")))
        cancelled = asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "cancelled")))
        await asyncio.sleep(0)
        cancelled.cancel()
        await kept
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await inbox(store, agents["Bob"]) == ["kept"]


async def test_a_send_cancelled_during_the_commit_is_stored(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = writer._commit
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []

    def cancelling(connection: apsw.Connection, group: list[Any]) -> AgentMailError | None:
        asyncio.run_coroutine_threadsafe(_cancel(tasks), loop).result(5)
        return commit(connection, group)

    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        monkeypatch.setattr(writer, "_commit", cancelling)
        tasks += [asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "sent")))]
        tasks += [asyncio.create_task(_mark_in_block(store, agents))]
        assert {type(o) for o in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}
        monkeypatch.setattr(writer, "_commit", commit)
        await store.deliver(outgoing("Ann", ("Bob",), "next"))
        assert await inbox(store, agents["Bob"]) == ["sent", "next"]


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


async def _mark_in_block(store: Store, agents: dict[str, AgentId]) -> None:
    async with store.write() as db:
        await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], False)


async def test_a_block_may_be_cancelled_in_every_round_of_the_event_loop(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        for rounds in range(12):
            before = asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "before")))
            block = asyncio.create_task(_mark_in_block(store, agents))
            after = asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "after")))
            for _ in range(rounds):
                await asyncio.sleep(0)
            block.cancel()
            await asyncio.wait([block], timeout=5)
            assert block.done()
            await asyncio.wait_for(asyncio.gather(before, after), 5)
        assert await inbox(store, agents["Bob"]) == ["before", "after"] * 12
    sound(fresh_sqlite)


async def test_a_block_that_is_cancelled_while_it_waits_inside_is_undone_and_the_others_go_on(
    fresh_sqlite: str,
) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        await store.deliver(outgoing("Ann", ("Bob",), "one"))
        is_inside = asyncio.Event()

        async def waiting() -> None:
            async with store.write() as db:
                await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], False)
                is_inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(waiting())
        other = asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "two")))
        await is_inside.wait()
        task.cancel()
        await other
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await inbox(store, agents["Bob"]) == ["one", "two"]
        async with store.read() as db:
            assert (await db.agents.counts(agents["Bob"])).unread == 2


# --- the queue --------------------------------------------------------------------------------------------------------


async def test_a_write_inside_a_write_is_an_error_and_a_write_after_it_is_not(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        async with store.write() as db:
            with pytest.raises(RuntimeError):
                async with store.write():
                    pass
            with pytest.raises(RuntimeError):
                await store.deliver(outgoing("Ann", ("Bob",)))
            child = asyncio.create_task(_later(store))
            await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], False)
        await child
        async with store.write():
            pass
        with pytest.raises(DatabaseUnavailable):
            await db.agents.recent((await _project(store)), 1)


async def _later(store: Store) -> None:
    """A task that a block started remembers it, and may write once it is over."""
    await asyncio.sleep(0.05)
    await store.deliver(outgoing("Ann", ("Bob",)))


async def test_a_block_that_does_not_leave_is_undone_and_left_behind(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite, database_statement_timeout=0.1) as store:
        agents = await furnish(store)
        await store.deliver(outgoing("Ann", ("Bob",), "one"))
        leave = asyncio.Event()

        async def stuck() -> None:
            async with store.write() as db:
                await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], False)
                await leave.wait()
                await db.mailboxes.mark_read(agents["Bob"], [MessageId(1)], False)

        async def merely_late() -> None:
            async with store.write():
                await leave.wait()

        tasks = [asyncio.create_task(stuck()), asyncio.create_task(merely_late())]
        await asyncio.sleep(0)
        await store.deliver(outgoing("Ann", ("Bob",), "two"))
        leave.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
        async with store.read() as db:
            assert (await db.agents.counts(agents["Bob"])).unread == 2


async def test_a_queue_that_is_full_refuses_at_once(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUED", 20)
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        sends = [store.deliver(outgoing("Ann", ("Bob",), f"m{n}")) for n in range(30)]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[20:]] == [Overloaded] * 10
        assert await inbox(store, agents["Bob"]) == [f"m{n}" for n in range(20)]


async def test_closing_finishes_what_is_queued_and_refuses_the_rest(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        sends = [asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), f"m{n}"))) for n in range(100)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*sends)
        with pytest.raises(DatabaseUnavailable):
            await store.deliver(outgoing("Ann", ("Bob",)))
        with pytest.raises(DatabaseUnavailable):
            async with store.read() as db:
                await db.agents.names(await _project(store), 1)
    async with opened(fresh_sqlite) as store:
        assert await inbox(store, agents["Bob"]) == [f"m{n}" for n in range(100)]
