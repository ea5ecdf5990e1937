"""Leases over two server processes: what is let go on one wakes who waits on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.serving import Serving, serving
from tests.e2e.test_cluster import PROJECT, furnish

ANN, BOB = ({**PROJECT, "agent_name": name} for name in ("Ann", "Bob"))
WAYS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "reservation": ("/api/file/reserve", {"paths": ["src/**"]}, "/api/file/release", {}),
    "slot": ("/api/build/acquire", {"slot_name": "ci"}, "/api/build/release", {"slot_name": "ci"}),
}


@pytest.fixture
def servers(database_url: str, valkey_url: str) -> Iterator[list[Serving]]:
    """Two server processes that share a database and a Valkey."""
    with serving(database_url, REDIS_URL=valkey_url) as one, serving(database_url, REDIS_URL=valkey_url) as other:
        yield [one, other]


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_let_go_on_one_server_wakes_who_waits_on_another(servers: list[Serving], way: str) -> None:
    take, wanted, give, given = WAYS[way]
    async with (
        httpx.AsyncClient(base_url=servers[0].url, timeout=30) as here,
        httpx.AsyncClient(base_url=servers[1].url, timeout=30) as there,
    ):
        await furnish(here)
        for _ in range(5):
            assert (await here.post(take, json={**ANN, **wanted})).is_success
            waiting = asyncio.create_task(there.post(take, json={**BOB, **wanted, "wait_seconds": 20}))
            while servers[1].get("/api/metrics")["waiting_calls"] != 1:
                assert not waiting.done(), waiting.result().text
                await asyncio.sleep(0.02)
            assert (await here.post(give, json={**ANN, **given})).is_success
            async with asyncio.timeout(2):  # a waiting call looks by itself only after five
                answer = (await waiting).json()
            assert answer.get("granted") or answer["acquired"]
            assert (await there.post(give, json={**BOB, **given})).is_success
