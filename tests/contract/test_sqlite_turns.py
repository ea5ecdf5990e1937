"""Turns of SQLite's writer: callers that are cancelled, late or too many, blocks that never leave, and the end."""

import asyncio
from typing import Any

import apsw
import pytest

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, Overloaded
from agent_mail_core.ids import AgentId, MessageId
from agent_mail_core.ports import Store
from agent_mail_store.sqlite import writer
from tests.contract.sqlite_mail import furnish, inbox, opened, outgoing, project_id, sound

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
    end = writer._end
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []

    def cancelling(connection: apsw.Connection, failure: AgentMailError | None) -> AgentMailError | None:
        asyncio.run_coroutine_threadsafe(_cancel(tasks), loop).result(5)
        return end(connection, failure)

    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        monkeypatch.setattr(writer, "_end", cancelling)
        tasks += [asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "sent")))]
        tasks += [asyncio.create_task(_mark_in_block(store, agents))]
        assert {type(o) for o in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}
        monkeypatch.setattr(writer, "_end", end)
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
            assert (await db.agents.counts(agents["Bob"], True)).unread == 2


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
            await db.agents.recent(await project_id(store), 1)


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
            assert (await db.agents.counts(agents["Bob"], True)).unread == 2


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
                await db.agents.names(await project_id(store), 1)
    async with opened(fresh_sqlite) as store:
        assert await inbox(store, agents["Bob"]) == [f"m{n}" for n in range(100)]
