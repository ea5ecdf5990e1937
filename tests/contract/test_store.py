"""The store's own promises: transactions that are whole, reads that wait for nobody, and one server at a time."""

import asyncio

import pytest

from agent_mail_core.errors import DatabaseUnavailable, SchemaTooOld, ServerAlreadyRunning, SlugTaken
from agent_mail_core.ports import App, Store
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.office import TEAM, Office


async def slugs(store: Store) -> list[str]:
    async with store.read() as db:
        return await db.projects.slugs(TEAM, 100)


async def ensure(store: Store, key: str) -> None:
    async with store.write() as db:
        await db.projects.ensure(TEAM, key, [key], False, None)


async def test_leaving_the_block_commits(store: Store) -> None:
    await ensure(store, "one")
    assert await slugs(store) == ["one"]


@pytest.mark.parametrize("error", [KeyError, SlugTaken, asyncio.CancelledError])
async def test_an_exception_undoes_the_whole_block(
    store: Store, database: Database, error: type[BaseException]
) -> None:
    async def give_up() -> None:
        async with store.write() as db:
            await db.projects.ensure(TEAM, "one", ["one"], False, None)
            await db.projects.ensure(TEAM, "two", ["two"], False, None)
            raise error

    before = await database.dump()
    with pytest.raises(error):
        await give_up()
    assert await database.dump() == before
    await ensure(store, "three")
    assert await slugs(store) == ["three"]


async def test_a_block_sees_what_it_wrote_and_others_do_not_until_it_ends(store: Store) -> None:
    written, looked = asyncio.Event(), asyncio.Event()

    async def look() -> list[str]:
        await written.wait()
        try:
            return await slugs(store)
        finally:
            looked.set()

    other = asyncio.create_task(look())
    async with asyncio.timeout(10), store.write() as db:
        await db.projects.ensure(TEAM, "one", ["one"], False, None)
        assert await db.projects.slugs(TEAM, 10) == ["one"]
        written.set()
        await looked.wait()
    assert await other == []
    assert await slugs(store) == ["one"]


async def test_a_write_inside_a_write_is_a_fault(store: Store, database: Database) -> None:
    async def nest() -> None:
        async with store.write() as db:
            await db.projects.ensure(TEAM, "one", ["one"], False, None)
            await ensure(store, "inside")

    before = await database.dump()
    with pytest.raises(RuntimeError):
        await nest()
    assert await database.dump() == before
    await ensure(store, "two")


async def test_a_failed_statement_leaves_the_store_usable(store: Store, database: Database) -> None:
    async def two_of_which_one_fails() -> None:
        async with store.write() as db:
            await db.projects.ensure(TEAM, "two", ["two"], False, None)
            await db.projects.ensure(TEAM, "three", ["one"], True, None)

    await ensure(store, "one")
    before = await database.dump()
    with pytest.raises(SlugTaken):
        await two_of_which_one_fails()
    assert await database.dump() == before
    await ensure(store, "four")
    assert await slugs(store) == ["four", "one"]


async def test_a_rule_that_failed_inside_a_block_may_be_survived(store: Store) -> None:
    """SlugTaken is an answer, not a broken transaction: what came before and after it is kept."""
    async with store.write() as db:
        await db.projects.ensure(TEAM, "one", ["one"], False, None)
        with pytest.raises(SlugTaken):
            await db.projects.ensure(TEAM, "two", ["one"], True, None)
        await db.projects.ensure(TEAM, "three", ["three"], False, None)
    assert await slugs(store) == ["three", "one"]


async def test_a_cancelled_caller_leaves_all_or_nothing_and_the_store_usable(store: Store, database: Database) -> None:
    async def write(number: int) -> None:
        async with store.write() as db:
            await db.projects.ensure(TEAM, f"a{number}", [f"a{number}"], False, None)
            await db.projects.ensure(TEAM, f"b{number}", [f"b{number}"], False, None)

    calls = [asyncio.create_task(write(number)) for number in range(30)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    stored = set(await slugs(store))
    assert all((f"a{n}" in stored) == (f"b{n}" in stored) for n in range(30))
    assert all(f"a{n}" in stored for n, outcome in enumerate(done) if outcome is None)
    assert all(outcome is None for outcome in done[1::2])
    await ensure(store, "after")


async def test_reads_nest_and_run_beside_each_other(store: Store) -> None:
    await ensure(store, "one")
    async with store.read() as one, store.read() as two:
        assert await one.projects.slugs(TEAM, 10) == await two.projects.slugs(TEAM, 10) == ["one"]
    async with asyncio.timeout(20):
        assert await asyncio.gather(*(slugs(store) for _ in range(200))) == [["one"]] * 200


async def test_writes_in_many_tasks_all_commit(store: Store) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*(ensure(store, f"p{number}") for number in range(100)))
    assert len(await slugs(store)) == 100


async def test_a_database_has_one_identity_for_all_its_stores(family: StoreFamily, store: Store) -> None:
    again = await family.open()
    assert again.identity == store.identity
    assert len(store.identity.cursor_key) >= 16
    assert store.identity.epoch


async def test_a_cursor_of_one_worker_is_good_on_another(office: Office, workers: list[App]) -> None:
    for _ in range(3):
        await office.send("Ann", ["Bob"])
    first, last = office.at(workers[0]), office.at(workers[-1])
    page = await first.inbox("Bob", limit=1)
    assert len((await last.inbox("Bob", before=page.older_cursor)).messages) == 2
    listed = await first.outbox("Ann", limit=1)
    assert len((await last.outbox("Ann", cursor=listed.next_cursor)).messages) == 2


async def test_what_one_worker_wrote_the_other_reads_at_once(office: Office, workers: list[App]) -> None:
    for number in range(10):
        sender, reader = office.at(workers[number % len(workers)]), office.at(workers[-1 - number % len(workers)])
        sent = await sender.send("Ann", ["Bob"], subject=f"S{number}")
        assert (await reader.inbox("Bob", limit=1)).messages[0].message_id == sent.message_id


async def test_a_healthy_store_says_nothing(store: Store) -> None:
    await store.check()
    assert store.engine in ("sqlite", "postgres")


async def test_a_closed_store_is_unavailable(family: StoreFamily) -> None:
    store = await family.open()
    await store.close()
    with pytest.raises(DatabaseUnavailable):
        await store.check()
    with pytest.raises(DatabaseUnavailable):
        await slugs(store)
    with pytest.raises(DatabaseUnavailable):
        await ensure(store, "late")


async def test_closing_twice_is_fine_and_finishes_what_runs(family: StoreFamily, database: Database) -> None:
    store = await family.open()
    writes = [asyncio.create_task(ensure(store, f"p{number}")) for number in range(10)]
    await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
    await store.close()
    await store.close()
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, DatabaseUnavailable) for outcome in done)
    reopened = await family.open()
    assert len(await slugs(reopened)) == sum(outcome is None for outcome in done)


async def test_a_second_server_is_refused_until_the_first_has_closed(family: StoreFamily) -> None:
    first = await family.open(single_server=True)
    with pytest.raises(ServerAlreadyRunning):
        await family.open(single_server=True)
    await ensure(first, "one")
    beside = await family.open()
    assert await slugs(beside) == ["one"]
    await first.close()
    second = await family.open(single_server=True)
    assert await slugs(second) == ["one"]


async def test_a_database_that_needs_newer_code_is_not_opened(family: StoreFamily, database: Database) -> None:
    await database.set_fact("oldest_code", "9999")
    with pytest.raises(SchemaTooOld):
        await family.open()
