"""A client that watches a project hears of what happens on another server, also of what wakes nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.server.subscriptions import ResourceUpdated

from tests.e2e.serving import Serving, serving
from tests.e2e.test_cluster import PROJECT, furnish

RESERVATIONS = "agentmail://project/shop/reservations"


@pytest.fixture
def servers(database_url: str, valkey_url: str) -> Iterator[list[Serving]]:
    """Two server processes that share a database and a Valkey."""
    with serving(database_url, REDIS_URL=valkey_url) as one, serving(database_url, REDIS_URL=valkey_url) as other:
        yield [one, other]


async def test_a_grant_on_one_server_is_told_on_another(servers: list[Serving]) -> None:
    async with (
        httpx.AsyncClient(base_url=servers[0].url, timeout=30) as here,
        McpClient(streamable_http_client(f"{servers[1].url}/mcp")) as client,
    ):
        await furnish(here)
        async with client.listen(resource_subscriptions=[RESERVATIONS]) as subscription:
            told = aiter(subscription)
            for path in ("src", "docs"):
                asked = {**PROJECT, "agent_name": "Ann", "paths": [path]}
                assert (await here.post("/api/file/reserve", json=asked)).is_success
                async with asyncio.timeout(8):  # a stream looks by itself only after 15
                    assert await anext(told) == ResourceUpdated(RESERVATIONS)
