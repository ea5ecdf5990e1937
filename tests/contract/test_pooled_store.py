"""The store behind a real PgBouncer in transaction mode: its contract holds there too, and so do its settings.

Five server connections carry the ten of each store, so that no transaction can count on the connection of the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from agent_mail_core.errors import DatabaseUnavailable, ServerAlreadyRunning
from agent_mail_core.settings import Settings
from agent_mail_store.postgres.session_settings import IN_FORCE, wanted
from agent_mail_store.postgres.store import PostgresStore
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database, PostgresDatabase
from tests.contract.test_idempotency import (  # noqa: F401 - run here as well
    test_a_repeated_registration_without_a_name_gives_the_same_agent,
    test_a_repeated_send_answers_the_same_and_stores_nothing,
    test_the_same_key_with_other_content_is_a_conflict,
)
from tests.contract.test_mailboxes import (  # noqa: F401 - likewise
    test_a_cursor_goes_forward_oldest_first_to_the_end,
    test_before_goes_back_to_the_first_message,
)
from tests.contract.test_marking import (  # noqa: F401 - likewise
    test_acknowledging_also_marks_read_and_the_first_times_stay,
    test_marking_read_counts_each_message_once,
)
from tests.contract.test_races import (  # noqa: F401 - likewise
    offices,
    test_20_registrations_of_one_name_make_one_agent,
    test_30_sends_into_a_new_thread_make_one_thread,
    test_50_sends_with_one_key_store_one_message,
    test_a_cancelled_send_is_stored_whole_or_not_at_all_and_its_key_answers_the_retry,
    test_a_reader_that_follows_its_cursor_sees_every_message_once_and_in_order,
    test_a_refused_send_among_many_harms_no_other,
    test_sends_marks_and_registrations_at_once_never_stand_in_each_others_way,
    test_sends_to_overlapping_recipients_in_any_order_all_arrive,
)
from tests.contract.test_waiting import (  # noqa: F401 - likewise
    test_mail_after_the_cursor_comes_at_once,
    test_mail_that_arrives_ends_the_wait,
    test_waiting_holds_no_connection,
)
from tests.deploy.pgbouncer import Pooler, bring_along, pooler
from tests.servers import query


@pytest.fixture
def unsettled(fresh_postgres: str) -> Iterator[Pooler]:
    """A pooler before a database whose role brings nothing along."""
    with pooler(fresh_postgres) as running:
        yield running


@pytest.fixture
def pooled(fresh_postgres: str) -> Iterator[Pooler]:
    """One before a database as deploy/postgres/pooled.sql leaves it."""
    bring_along(fresh_postgres)
    with pooler(fresh_postgres) as running:
        yield running


def settings_for(running: Pooler) -> Settings:
    return Settings(database_url=SecretStr(running.url), database_statement_cache=0)


@pytest.fixture
def settings(pooled: Pooler) -> Settings:
    """Those of a server behind it."""
    return settings_for(pooled)


@pytest.fixture
def database(fresh_postgres: str) -> Database:
    """Seen behind the pooler's back too; a parameter in the other tests of the contract, here it is one."""
    return PostgresDatabase(fresh_postgres)


@pytest.fixture
async def family(settings: Settings) -> AsyncIterator[StoreFamily]:
    family = StoreFamily(settings)
    yield family
    await family.close()


async def test_what_a_connection_must_be_set_to_is_in_force_on_every_server_connection(
    settings: Settings, pooled: Pooler
) -> None:
    store = await PostgresStore.open(settings, single_server=False)

    async def in_force() -> dict[str, str]:
        async with store.write() as db:
            rows = await db._db.rows(IN_FORCE, list(wanted(settings)))  # type: ignore[attr-defined]
            await together.wait()
            return dict(rows)

    together = asyncio.Barrier(5)
    async with asyncio.timeout(10):
        found = await asyncio.gather(*(in_force() for _ in range(5)))
    await store.close()
    assert found == [wanted(settings)] * 5


async def test_without_the_role_s_settings_a_store_does_not_open_and_says_what_to_do(unsettled: Pooler) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"synchronous_commit = on, .*run deploy/postgres/pooled\.sql"):
        await PostgresStore.open(settings_for(unsettled), single_server=False)


async def test_other_time_limits_than_the_role_s_are_told(settings: Settings) -> None:
    other = settings.model_copy(update={"database_statement_timeout": 7.0})
    with pytest.raises(DatabaseUnavailable, match="lack statement_timeout = 7000, idle_in_transaction"):
        await PostgresStore.open(other, single_server=False)


async def test_who_has_not_said_that_there_is_a_pooler_is_told_to(settings: Settings) -> None:
    direct = settings.model_copy(update={"database_statement_cache": 256})
    with pytest.raises(DatabaseUnavailable, match="set DATABASE_STATEMENT_CACHE=0"):
        await PostgresStore.open(direct, single_server=False)


async def test_a_second_server_without_redis_is_refused_until_the_first_ends(
    settings: Settings, fresh_postgres: str
) -> None:
    first = await PostgresStore.open(settings, single_server=True)
    for _ in range(6):  # more often than there are server connections: none of them may think that it has the lock
        with pytest.raises(ServerAlreadyRunning):
            await PostgresStore.open(settings, single_server=True)
    direct = Settings(database_url=SecretStr(fresh_postgres))
    with pytest.raises(ServerAlreadyRunning):
        await PostgresStore.open(direct, single_server=True)
    await first.close()
    async with asyncio.timeout(10):  # the pooler lets go of the server connection a moment later
        second = await opened_sometime(settings)
    await second.close()


async def opened_sometime(settings: Settings) -> PostgresStore:
    while True:
        try:
            return await PostgresStore.open(settings, single_server=True)
        except ServerAlreadyRunning:
            await asyncio.sleep(0.02)


async def test_the_lock_outlives_the_time_limit_of_idle_transactions_and_holds_up_no_follower(
    fresh_postgres: str, pooled: Pooler
) -> None:
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        set_for_role(fresh_postgres, name, "300")
    brief = settings_for(pooled).model_copy(update={"database_statement_timeout": 0.3})
    store = await PostgresStore.open(brief, single_server=True)
    holder = """
        SELECT state, backend_xid, backend_xmin, clock_timestamp() - state_change > '1 s' AS is_old
          FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')
    """
    async with asyncio.timeout(10):
        while not (held := query(fresh_postgres, holder))[0]["is_old"]:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.05)
    await store.check()
    await store.close()
    assert [tuple(row) for row in held] == [("idle in transaction", None, None, True)]


def set_for_role(url: str, name: str, value: str) -> None:
    database = urlsplit(url).path.strip("/")
    query(url, f"ALTER ROLE CURRENT_USER IN DATABASE \"{database}\" SET {name} = '{value}'")
