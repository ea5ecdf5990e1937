"""PostgreSQL stopped, paused, restarted, or gone in the middle of a commit: calls fail in time, the store recovers."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, ServerAlreadyRunning
from agent_mail_core.ids import TeamId
from agent_mail_core.settings import Settings
from agent_mail_migrations.runner import migrate
from agent_mail_store.postgres.connections import ANSWER_GRACE, RELEASE_TIMEOUT
from agent_mail_store.postgres.store import PostgresStore
from agent_mail_store.postgres.writing import OutcomeUnknown
from tests.contract.sends import a_project, a_send
from tests.servers import in_new_loop, query, running_postgres

TEAM = TeamId(1)
TIMEOUT = 0.4
DEADLINE = 2 * TIMEOUT + TIMEOUT + ANSWER_GRACE + RELEASE_TIMEOUT
"""Seconds: wait for a batch and a connection, then for a statement, then let go of the connection."""

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A migrated server that these tests may harm."""
    with running_postgres() as url:
        in_new_loop(migrate(url))
        yield url


@pytest.fixture
def settings(server: str) -> Settings:
    return Settings(
        database_url=SecretStr(server),
        database_pool_size=4,
        database_statement_timeout=TIMEOUT,
        database_lock_timeout=TIMEOUT,
    )


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings, single_server=False)
    yield store
    await store.close()


def processes(server: str) -> list[int]:
    """The server's process, then its children."""
    home = Path(parse_qs(urlsplit(server).query)["host"][0])
    first = int((home / "data" / "postmaster.pid").read_text().split()[0])
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [first, *(pid for pid, parent in pairs if parent == first)]


@contextmanager
def paused(server: str) -> Iterator[None]:
    """The server answers nothing, not even a new connection."""
    stopped = processes(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def calls(store: PostgresStore) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every way to use the database."""

    async def read() -> None:
        async with store.read() as db:
            await db.projects.slugs(TEAM, 1)

    async def write() -> None:
        async with store.write() as db:
            await db.projects.ensure(TEAM, "outage", ["outage"], False, None)

    return {
        "read": read,
        "write": write,
        "deliver": lambda: store.deliver(a_send("outage", "Ann", ["Bob"])),
        "check": store.check,
    }


async def outcome_in_time(call: Callable[[], Awaitable[object]]) -> BaseException | None:
    """What the call raised, which it must do before its deadline, on a machine that may be busy."""
    began = time.monotonic()
    outcome = (await asyncio.gather(call(), return_exceptions=True))[0]
    assert time.monotonic() - began < DEADLINE + 1
    return outcome if isinstance(outcome, BaseException) else None


async def works_again(store: PostgresStore, within: float = 10.0) -> None:
    """Every call succeeds before long, and no connection is lost to the pool."""
    deadline = time.monotonic() + within
    while True:
        outcomes = await asyncio.gather(*(call() for call in calls(store).values()), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if not failures:
            break
        assert all(isinstance(failure, AgentMailError) for failure in failures), failures
        assert time.monotonic() < deadline, failures
        await asyncio.sleep(0.05)

    async def hold() -> None:
        async with store.read() as db:
            await db.projects.slugs(TEAM, 1)
            await together.wait()

    together = asyncio.Barrier(4)  # as many as the pool has connections
    async with asyncio.timeout(within):
        await asyncio.gather(*(hold() for _ in range(4)))


@pytest.mark.parametrize("name", ["read", "write", "deliver", "check"])
async def test_a_paused_server_is_unavailable_in_time(store: PostgresStore, server: str, name: str) -> None:
    await a_project(store, "outage", "Ann", "Bob")
    with paused(server):
        assert type(await outcome_in_time(calls(store)[name])) is DatabaseUnavailable
    await works_again(store)


async def test_many_callers_of_a_paused_server_all_learn_it_in_time(store: PostgresStore, server: str) -> None:
    await a_project(store, "outage", "Ann", "Bob")
    with paused(server):
        outcomes = await asyncio.gather(*(outcome_in_time(call) for _ in range(25) for call in calls(store).values()))
    assert {type(outcome) for outcome in outcomes} == {DatabaseUnavailable}
    await works_again(store)


async def test_a_pause_in_the_middle_of_a_transaction_stores_nothing(store: PostgresStore, server: str) -> None:
    async def call() -> None:
        async with store.write() as db:
            await db.projects.ensure(TEAM, "/half", ["half"], False, None)
            with paused(server):
                await db.projects.ensure(TEAM, "/half-2", ["half-2"], False, None)

    assert type(await outcome_in_time(call)) is DatabaseUnavailable
    await works_again(store)
    async with store.read() as db:
        assert await db.projects.find(TEAM, "/half") is None


async def test_connections_that_the_server_closed_are_replaced(store: PostgresStore, server: str) -> None:
    await a_project(store, "outage", "Ann", "Bob")
    query(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'agent-mail'")
    await asyncio.sleep(0.1)  # the news has come
    for call in calls(store).values():
        await call()


async def test_a_server_that_crashes_and_restarts_is_found_again(store: PostgresStore, server: str) -> None:
    await a_project(store, "outage", "Ann", "Bob")
    background = query(server, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")[0][0]
    os.kill(background, signal.SIGKILL)
    outcomes = await asyncio.gather(*(outcome_in_time(call) for _ in range(5) for call in calls(store).values()))
    assert all(outcome is None or isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
    await works_again(store, within=30)


async def test_a_stopped_server_is_unavailable_at_once() -> None:
    with running_postgres() as url:
        await migrate(url)
        settings = Settings(database_url=SecretStr(url))
        store = await PostgresStore.open(settings, single_server=True)
        await a_project(store, "outage", "Ann", "Bob")
    began = time.monotonic()
    for call in calls(store).values():
        with pytest.raises(DatabaseUnavailable):
            await call()
    await store.close()
    assert time.monotonic() - began < 5
    with pytest.raises(DatabaseUnavailable):
        await PostgresStore.open(settings, single_server=False)


async def test_a_commit_without_an_answer_says_that_its_outcome_is_unknown(store: PostgresStore, server: str) -> None:
    """A standby that never answers: the commit is on disk, and waits."""
    await a_project(store, "outage", "Ann", "Bob")
    query(server, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    query(server, "SELECT pg_reload_conf()")
    try:
        await asyncio.sleep(0.3)
        with pytest.raises(OutcomeUnknown):
            async with store.write() as db:
                await db.projects.ensure(TEAM, "/unknown", ["unknown"], False, None)
        with pytest.raises(DatabaseUnavailable, match="may be stored or not"):
            await store.deliver(a_send("outage", "Ann", ["Bob"]))
    finally:
        query(server, "ALTER SYSTEM RESET synchronous_standby_names")
        query(server, "SELECT pg_reload_conf()")
    await works_again(store)
    async with store.read() as db:
        assert await db.projects.find(TEAM, "/unknown") is not None


async def test_the_lock_of_the_only_server_is_taken_again_when_its_connection_breaks(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    holder = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks"
        " WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    store = await PostgresStore.open(settings, single_server=True)
    query(url, holder)
    await until_healthy(store)
    with pytest.raises(ServerAlreadyRunning):
        await PostgresStore.open(settings, single_server=True)
    await store.close()
    other = await PostgresStore.open(settings, single_server=True)
    await other.close()


async def test_a_server_whose_lock_another_took_meanwhile_says_so(settings: Settings, server: str) -> None:
    store = await PostgresStore.open(settings, single_server=True)
    query(server, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    # Both want it now; whichever loses says so, and gets it when the other ends.
    try:
        other = await PostgresStore.open(settings, single_server=True)
    except ServerAlreadyRunning:
        await until_healthy(store)
    else:
        await asyncio.sleep(0.2)
        with pytest.raises((ServerAlreadyRunning, DatabaseUnavailable)):
            await store.check()
        await other.close()
        await until_healthy(store)
    await store.close()


async def until_healthy(store: PostgresStore) -> None:
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.05)
            try:
                return await store.check()
            except DatabaseUnavailable:
                continue
            except ServerAlreadyRunning:
                continue
