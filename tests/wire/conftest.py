"""Fixtures of the tests over the wire."""

from collections.abc import AsyncIterator

import pytest
import redis

from tests.contract.clusters import redis_workers
from tests.wire.mcp_wire import Workers


@pytest.fixture(params=["one worker", pytest.param("two workers", marks=pytest.mark.valkey)])
async def workers(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Run with one worker in memory, and with two on a real Valkey that the client's requests alternate on."""
    if request.param == "one worker":
        yield
        return
    url = request.getfixturevalue("valkey_url")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    async with redis_workers(url, 2) as both:
        Workers.current = both
        try:
            yield
        finally:
            Workers.current = ()
