"""Leases over two server processes: one of many gets them, and what is let go on one wakes who waits on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.serving import Serving, serving
from tests.e2e.test_cluster import PROJECT, furnish
from tests.e2e.test_cluster_outages import two, until_ready

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


async def test_of_50_on_two_servers_that_want_overlapping_paths_one_gets_them(servers: list[Serving]) -> None:
    ways = ("src/**", "src/a.py", "src/*.py", "src", "**/a.py")
    limits = httpx.Limits(max_connections=60)
    async with (
        httpx.AsyncClient(base_url=servers[0].url, timeout=30, limits=limits) as here,
        httpx.AsyncClient(base_url=servers[1].url, timeout=30, limits=limits) as there,
    ):
        await furnish(here)
        for number in range(50):
            agent = {**PROJECT, "name": f"A{number}", "program": "pytest", "model": "none"}
            assert (await here.post("/api/agent/register", json=agent)).is_success
        fences = [0]
        for _ in range(4):
            answers = await asyncio.gather(
                *(
                    (here, there)[number % 2].post(
                        "/api/file/reserve",
                        json={**PROJECT, "agent_name": f"A{number}", "paths": [ways[number % len(ways)]]},
                    )
                    for number in range(50)
                )
            )
            assert {answer.status_code for answer in answers} == {200}
            [(winner, granted)] = [
                (number, answer.json()["granted"]) for number, answer in enumerate(answers) if answer.json()["granted"]
            ]
            fences.append(granted[0]["fence"])
            released = {**PROJECT, "agent_name": f"A{winner}"}
            assert (await there.post("/api/file/release", json=released)).json()["count"] == 1
        assert fences == sorted(set(fences))


async def at_once(servers: list[Serving], count: int, path: str, **arguments: Any) -> list[dict[str, Any]]:
    """The answers to as many new agents that ask for the same, half of them on each server."""
    limits = httpx.Limits(max_connections=count)
    async with (
        httpx.AsyncClient(base_url=servers[0].url, timeout=30, limits=limits) as here,
        httpx.AsyncClient(base_url=servers[1].url, timeout=30, limits=limits) as there,
    ):
        for number in range(count):
            agent = {**PROJECT, "name": f"A{number}", "program": "pytest", "model": "none"}
            assert (await here.post("/api/agent/register", json=agent)).is_success
        calls = [
            (here, there)[number % 2].post(path, json={**PROJECT, "agent_name": f"A{number}", **arguments})
            for number in range(count)
        ]
        answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


async def test_of_50_on_two_servers_that_want_a_slot_of_3_places_3_get_one(servers: list[Serving]) -> None:
    async with httpx.AsyncClient(base_url=servers[0].url, timeout=30) as client:
        await furnish(client)
        answers = await at_once(servers, 50, "/api/build/acquire", slot_name="ci", capacity=3)
        [slot] = (await client.get("/api/build/list", params=PROJECT)).json()["slots"]
    assert sum(answer["acquired"] for answer in answers) == len(slot["holders"]) == 3
    assert len({answer["lease"]["fence"] for answer in answers if answer["acquired"]}) == 3


async def test_of_20_on_two_servers_that_claim_a_review_one_gets_it(servers: list[Serving]) -> None:
    async with httpx.AsyncClient(base_url=servers[0].url, timeout=30) as client:
        await furnish(client)
        message = {"sender_name": "Ann", "recipient_names": ["Bob"], "subject": "Cart", "body_md": "Done"}
        await client.post("/api/message/send", json={**PROJECT, **message, "thread_id": "Cart-1"})
        wanted = {**PROJECT, "requester_name": "Ann", "thread_id": "Cart-1"}
        review_id = (await client.post("/api/review/request", json=wanted)).json()["review_id"]
        answers = await at_once(servers, 20, "/api/review/claim", review_id=review_id)
        thread = (await client.get("/api/thread/Cart-1", params=PROJECT)).json()
    assert sum(answer["claimed"] for answer in answers) == 1
    assert len({answer["review"]["claimer_name"] for answer in answers}) == 1
    assert [one["subject"].split(":")[0] for one in thread["messages"]] == [
        "Cart",
        f"Review {review_id} requested",
        f"Review {review_id} claimed",
    ]


async def until_queued(client: httpx.AsyncClient, name: str) -> None:
    """Return when the agent is the one that waits for the project's slot."""
    async with asyncio.timeout(5):
        while True:
            [slot] = (await client.get("/api/build/list", params=PROJECT)).json()["slots"]
            if slot["queue"] == [name]:
                return
            await asyncio.sleep(0.02)


@pytest.mark.valkey
async def test_without_redis_a_wait_sees_what_is_let_go_on_another_server(fresh_postgres: str) -> None:
    slot = {"slot_name": "ci"}
    with two(fresh_postgres) as pair:
        here, there = (httpx.AsyncClient(base_url=server.url, timeout=30) for server in pair.servers)
        async with here, there:
            await furnish(here)
            pair.valkey.pause()
            try:
                await until_ready(there, "degraded")
                for _ in range(3):
                    assert (await here.post("/api/build/acquire", json={**ANN, **slot})).json()["acquired"]
                    wanted = {**BOB, **slot, "wait_seconds": 20}
                    waiting = asyncio.create_task(there.post("/api/build/acquire", json=wanted))
                    await until_queued(here, "Bob")
                    assert (await here.post("/api/build/release", json={**ANN, **slot})).is_success
                    async with asyncio.timeout(3):  # one query a second; a call that has just looked does so after five
                        assert (await waiting).json()["acquired"]
                    assert (await there.post("/api/build/release", json={**BOB, **slot})).is_success
            finally:
                pair.valkey.resume()
