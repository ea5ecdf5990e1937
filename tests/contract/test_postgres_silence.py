"""A PostgreSQL that answers nothing any more: who only reads need not wait for the time limit of a statement."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr

from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.health import DatabaseWatch
from agent_mail_core.ids import TeamId
from agent_mail_core.settings import Settings
from agent_mail_migrations.runner import migrate
from agent_mail_store.postgres.store import PostgresStore
from tests.contract.sends import a_project
from tests.contract.test_postgres_outages import paused, works_again
from tests.servers import in_new_loop, running_postgres

TEAM = TeamId(1)
LIMIT = 5.0
"""Seconds a statement may take: much longer than it takes to notice."""

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A migrated server that these tests may harm."""
    with running_postgres() as url:
        in_new_loop(migrate(url))
        yield url


@pytest.fixture
async def store(server: str) -> AsyncIterator[PostgresStore]:
    settings = Settings(
        database_url=SecretStr(server), database_pool_size=4, database_statement_timeout=LIMIT, database_lock_timeout=1
    )
    store = await PostgresStore.open(settings, single_server=False)
    yield store
    await store.close()


async def read(store: PostgresStore) -> float:
    """How long it takes a read to learn that the database is away."""
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        async with store.read() as db:
            await db.projects.slugs(TEAM, 1)
    return time.monotonic() - began


async def write(store: PostgresStore, has_begun: asyncio.Event, is_paused: asyncio.Event) -> float:
    """How long it takes a write that has begun."""

    async def call() -> None:
        async with store.write() as db:
            await db.projects.slugs(TEAM, 1)
            has_begun.set()
            await is_paused.wait()
            await db.projects.ensure(TEAM, "/silence", ["silence"], False, None)

    calling = asyncio.create_task(call())
    await is_paused.wait()
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await calling
    return time.monotonic() - began


@pytest.mark.parametrize("readers", [1, 12], ids=["a connection is free", "none is free"])
async def test_reads_end_once_the_silence_is_noticed_and_writes_at_their_limit(
    store: PostgresStore, server: str, readers: int
) -> None:
    await a_project(store, "outage", "Ann", "Bob")
    await works_again(store)  # so that all connections are open
    watch = DatabaseWatch(store)
    has_begun, is_paused = asyncio.Event(), asyncio.Event()
    writing = asyncio.create_task(write(store, has_begun, is_paused))
    await has_begun.wait()
    with paused(server):
        reading = [asyncio.create_task(read(store)) for _ in range(readers)]
        is_paused.set()
        looking = asyncio.create_task(watch.run())
        took = await asyncio.gather(*reading)
        print(f"reads ended within {max(took):.2f} s")
        assert max(took) < LIMIT - 1, took
        assert await writing >= LIMIT
        assert watch.is_away
    looking.cancel()
    await works_again(store)


async def test_a_read_that_is_slow_alone_is_let_finish(store: PostgresStore) -> None:
    async with store.read() as db:
        sleeping = asyncio.create_task(db._db.rows("SELECT pg_sleep(1.5)::text AS word"))  # type: ignore[attr-defined]
        await asyncio.sleep(1)  # longer than a silence
        await store.check()
        store._connections.give_up_reads()  # as at the end of a look in vain, while others are answered
        assert len(await sleeping) == 1


async def test_a_process_that_stood_still_itself_gives_nothing_up(store: PostgresStore) -> None:
    async with store.read() as db:
        await db.projects.slugs(TEAM, 1)
        await store.check()  # so that both connections are open
        sleeping = asyncio.create_task(db._db.rows("SELECT pg_sleep(0.5)::text AS word"))  # type: ignore[attr-defined]
        looking = asyncio.create_task(store.check())
        await asyncio.sleep(0)
        time.sleep(1.2)  # noqa: ASYNC251 - both are answered meanwhile, and nobody looks
        assert len(await sleeping) == 1
        await looking
