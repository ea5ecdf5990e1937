"""Fixtures of the tests over the wire."""

from collections.abc import AsyncIterator

import pytest
import redis

from tests.wire.mcp_wire import alternating_workers
from tests.wire.server import Place


@pytest.fixture
def empty_valkey(valkey_url: str) -> str:
    """The URL of a Valkey whose database is empty."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushdb()
    return valkey_url


@pytest.fixture(params=["one worker", pytest.param("two workers", marks=[pytest.mark.postgres, pytest.mark.valkey])])
def place(request: pytest.FixtureRequest) -> Place:
    """One worker on SQLite; or two on PostgreSQL and Valkey, which requests alternate on.

    A test about a single process takes `one_process` instead.
    """
    if request.param == "one worker":
        return Place(request.getfixturevalue("fresh_sqlite"))
    redis_url = request.getfixturevalue("empty_valkey")
    return Place(request.getfixturevalue("fresh_postgres"), redis_url, workers=2)


@pytest.fixture
def one_process(fresh_sqlite: str) -> str:
    """The database of a test of what no second worker has a part in: `MAX_IN_FLIGHT`, or a call already handed over."""
    return fresh_sqlite


@pytest.fixture(params=["one worker", pytest.param("two workers", marks=pytest.mark.valkey)])
def shared_redis(request: pytest.FixtureRequest) -> str | None:
    """For tests without a database: nothing for one worker in memory; for two the URL of an empty, real Valkey."""
    url: str | None = None if request.param == "one worker" else request.getfixturevalue("empty_valkey")
    return url


@pytest.fixture
async def workers(shared_redis: str | None) -> AsyncIterator[None]:
    """Run with one worker in memory, and with two on Valkey that the client's requests alternate on."""
    async with alternating_workers(shared_redis):
        yield
