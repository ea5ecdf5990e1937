"""The pool: few connections, used again, waited for with a deadline, in order whatever their last user did."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.settings import Settings
from agent_mail_store.postgres import connections as pool
from agent_mail_store.postgres.connections import Connections
from agent_mail_store.postgres.statements import Reading
from agent_mail_store.postgres.writing import writing
from tests.servers import query

SIZE = 3
PATIENCE = 0.5
"""DATABASE_LOCK_TIMEOUT: how long a connection is waited for."""

pytestmark = pytest.mark.postgres


@pytest.fixture
async def connections(fresh_postgres: str) -> AsyncIterator[Connections]:
    settings = Settings(database_url=SecretStr(fresh_postgres), database_pool_size=SIZE, database_lock_timeout=PATIENCE)
    connections = Connections(settings)
    await connections.open()
    yield connections
    await connections.close()


async def backend(connections: Connections) -> int:
    """The server's process that answers a read."""
    block = Reading(connections)
    try:
        return int((await block.the_row("SELECT pg_backend_pid() AS pid"))["pid"])
    finally:
        block.end()


def sessions(url: str) -> list[int]:
    """The server's processes that serve us."""
    mine = "SELECT pid FROM pg_stat_activity WHERE application_name = 'agent-mail' AND datname = current_database()"
    return [row["pid"] for row in query(url, mine)]


async def until_sessions(url: str, count: int) -> None:
    async with asyncio.timeout(10):
        while len(sessions(url)) != count:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.02)


async def test_one_after_another_share_a_connection_and_many_at_once_get_as_many_as_there_may_be(
    connections: Connections, fresh_postgres: str
) -> None:
    assert len({await backend(connections) for _ in range(10)}) == 1
    found = await asyncio.gather(*(backend(connections) for _ in range(40)))
    assert set(found) == set(sessions(fresh_postgres))
    assert len(set(found)) == SIZE


async def test_who_finds_none_free_waits_for_one_and_learns_it_in_time(connections: Connections) -> None:
    held = [await connections.borrow() for _ in range(SIZE)]
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await connections.borrow()
    assert PATIENCE - 0.1 <= time.monotonic() - began < PATIENCE + 2
    waiting = asyncio.create_task(connections.borrow())
    gone = asyncio.create_task(connections.borrow())
    await asyncio.sleep(0)
    gone.cancel()
    last = held.pop()
    connections.give_back(last)
    assert await waiting is last
    for connection in (last, *held):
        connections.give_back(connection)
    assert len(set(await asyncio.gather(*(backend(connections) for _ in range(40))))) == SIZE


async def test_a_read_that_is_given_up_is_ended_and_its_connection_used_again(
    connections: Connections, fresh_postgres: str
) -> None:
    pid = await backend(connections)

    async def read() -> None:
        block = Reading(connections)
        try:
            await block.rows("SELECT pg_sleep(60)")
        finally:
            block.end()

    reading = asyncio.create_task(read())
    asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = $1"
    async with asyncio.timeout(10):
        while not query(fresh_postgres, asleep, pid):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.02)
    reading.cancel()
    await asyncio.wait([reading])
    found: set[int] = set()
    async with asyncio.timeout(10):
        while pid not in found:  # until the server has ended the read, others answer
            found = set(await asyncio.gather(*(backend(connections) for _ in range(40))))
    assert len(found) == SIZE


async def test_a_connection_that_comes_back_in_a_transaction_is_brought_out_of_it(connections: Connections) -> None:
    connection = await connections.borrow()
    await connection.execute("BEGIN")
    await connection.execute("CREATE TABLE half_done (id int)")
    connections.give_back(connection)
    held = [await connections.borrow() for _ in range(SIZE)]
    assert connection in held
    assert not any(each.is_in_transaction() for each in held)
    assert await connection.fetchval("SELECT to_regclass('half_done')") is None
    for each in held:
        connections.give_back(each)


async def test_connections_that_nobody_used_for_long_are_closed(
    connections: Connections, fresh_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDLE_LIFETIME", 0.2)
    await asyncio.gather(*(backend(connections) for _ in range(40)))
    await until_sessions(fresh_postgres, 0)
    assert await backend(connections) in sessions(fresh_postgres)


async def test_closing_waits_for_blocks_and_refuses_what_comes_after(
    connections: Connections, fresh_postgres: str
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        async with writing(connections) as block:
            await block.rows("CREATE TABLE finished (id int)")
            begun.set()
            await may_end.wait()

    block = asyncio.create_task(write())
    await begun.wait()
    closing = asyncio.create_task(connections.close())
    await asyncio.sleep(0.1)
    assert not closing.done()
    may_end.set()
    await asyncio.gather(block, closing)
    assert query(fresh_postgres, "SELECT to_regclass('finished')::text")[0][0] == "finished"
    with pytest.raises(DatabaseUnavailable):
        await connections.borrow()
    await until_sessions(fresh_postgres, 0)
