"""The store on each of its backends, an app around it, and a project with agents.

Both backends run the same tests: no test asks which one it has. Every test has a migrated database of its own, on a
real server where there is one, with real commits.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from pydantic import SecretStr

from agent_mail_cluster.memory.limits import MemoryLimits
from agent_mail_cluster.memory.replies import MemoryReplies
from agent_mail_cluster.memory.sessions import MemorySessions
from agent_mail_cluster.memory.signals import MemorySignals
from agent_mail_cluster.memory.stream_log import MemoryStreamLog
from agent_mail_cluster.memory.subscriptions import MemorySubscriptions
from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_core.clock import SystemClock
from agent_mail_core.health import MetricsSnapshot
from agent_mail_core.ports import App, Metrics, Store
from agent_mail_core.presence import PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_store.opening import open_store
from tests.contract.databases import Database, PostgresDatabase, SqliteDatabase
from tests.contract.office import Office, caller


class NoMetrics(Metrics):
    def snapshot(self) -> MetricsSnapshot:
        return MetricsSnapshot(requests=0, errors=0, messages_sent=0, waiting_calls=0, tools=[])


@dataclass
class StoreFamily:
    """The stores of one database; all that were opened are closed when the test ends."""

    settings: Settings
    clock: SystemClock = field(default_factory=SystemClock)
    stores: list[Store] = field(default_factory=list)

    async def open(self, single_server: bool = False) -> Store:
        """Another store on the same database."""
        store = await open_store(self.settings, self.clock, single_server)
        self.stores.append(store)
        return store

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    """A migrated database of the test's own, on every backend."""
    if request.param == "sqlite":
        return SqliteDatabase(request.getfixturevalue("fresh_sqlite"))
    return PostgresDatabase(request.getfixturevalue("fresh_postgres"))


@pytest.fixture
async def family(database: Database) -> AsyncIterator[StoreFamily]:
    """Opens stores on the database."""
    family = StoreFamily(Settings(database_url=SecretStr(database.url)))
    try:
        yield family
    finally:
        await family.close()


@pytest.fixture
async def store(family: StoreFamily) -> Store:
    """The store under test."""
    return await family.open()


@pytest.fixture
def app(store: Store, family: StoreFamily) -> App:
    """An app around the store, as one server process has it."""
    clock = family.clock
    return App(
        store=store,
        wakeups=(wakeups := MemoryWakeups()),
        presence=PresenceLog(clock),
        waiters=MemoryWaiters(family.settings.max_waiters),
        sessions=MemorySessions(clock, family.settings.session_ttl_seconds),
        signals=MemorySignals(),
        replies=MemoryReplies(),
        stream_log=MemoryStreamLog(clock, wakeups, 300),
        subscriptions=MemorySubscriptions(clock, wakeups, family.settings.session_ttl_seconds),
        limits=MemoryLimits(),
        metrics=NoMetrics(),
        clock=clock,
        settings=family.settings,
        version="0.0.0",
        started_at=clock.now(),
        is_draining=lambda: False,
    )


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
async def workers(request: pytest.FixtureRequest, app: App, family: StoreFamily) -> list[App]:
    """One worker, then two of them on one database, each with a store of its own and wake-ups between them."""
    more = [replace(app, store=await family.open()) for _ in range(request.param - 1)]
    return [app, *more]


@pytest.fixture
async def office(app: App) -> Office:
    """A project with the agents Ann, Bob, Cid and Dot, all of the principal `local`."""
    office = Office(app, caller(), "office")
    await office.ensure("office")
    for name in ("Ann", "Bob", "Cid", "Dot"):
        await office.register(name)
    return office
