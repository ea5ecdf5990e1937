"""SIGKILL in the middle of concurrent sends: what was acknowledged is there, and a retry stores nothing twice."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.e2e.serving import Serving, serving

SENDERS = 8
PROJECT = "crash"


@dataclass
class Mailing:
    """What was sent, by idempotency key: every key ever used, and the ids that the server answered."""

    keys: list[str] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    cursor: str | None = None
    inbox: list[tuple[int, str]] = field(default_factory=list)
    """Ids and subjects in the order in which a reader that follows its cursor sees them; a subject is the key."""


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.is_success, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def send(client: httpx.AsyncClient, mailing: Mailing, key: str) -> dict[str, Any]:
    sent = await post(
        client,
        "/api/message/send",
        project_slug=PROJECT,
        sender_name="Sender",
        recipient_names=["Reader"],
        subject=key,
        body_md="x" * 500,
        idempotency_key=key,
    )
    mailing.acknowledged[key] = sent["message_id"]
    return sent


async def send_until_killed(server: Serving, mailing: Mailing, chance: random.Random) -> None:
    """Eight senders at once; the server is killed while they send, after some were answered."""
    round_number, enough = len(mailing.keys), asyncio.Event()
    wanted = len(mailing.acknowledged) + chance.randint(1, 60)
    numbers = iter(range(round_number, round_number + 100_000))

    async def sender(client: httpx.AsyncClient) -> None:
        for number in numbers:
            key = f"message {number}"
            mailing.keys.append(key)
            await send(client, mailing, key)
            if len(mailing.acknowledged) >= wanted:
                enough.set()

    async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
        senders = [asyncio.create_task(sender(client)) for _ in range(SENDERS)]
        await asyncio.wait_for(enough.wait(), 20)
        await asyncio.sleep(chance.uniform(0, 0.02))
        server.kill()
        with suppress(httpx.TransportError):
            await asyncio.gather(*senders)
        ended = await asyncio.gather(*senders, return_exceptions=True)
    assert all(isinstance(end, httpx.TransportError) for end in ended), ended


async def check_after_restart(server: Serving, mailing: Mailing) -> None:
    """Nothing acknowledged is missing; retried keys store one copy, under the id that the answer says."""
    async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
        await read_on(client, mailing)
        stored = {subject: message_id for message_id, subject in mailing.inbox}
        lost = {key: number for key, number in mailing.acknowledged.items() if stored.get(key) != number}
        assert lost == {}, "acknowledged messages are missing"
        for key in [key for key in mailing.keys if key not in mailing.acknowledged]:
            sent = await send(client, mailing, key)
            assert sent["replayed"] is (key in stored)
            assert stored.get(key, sent["message_id"]) == sent["message_id"]
        await read_on(client, mailing)
    assert Counter(subject for _, subject in mailing.inbox) == Counter(mailing.keys)


async def read_on(client: httpx.AsyncClient, mailing: Mailing) -> None:
    """Follow the cursor to the end; it outlives the server."""
    while True:
        query: dict[str, str | int] = {"project_slug": PROJECT, "agent_name": "Reader", "limit": 100}
        # The first look is without a cursor, so it shows the newest: it has to be at an empty inbox.
        response = await client.get("/api/inbox", params=query | ({"cursor": mailing.cursor} if mailing.cursor else {}))
        assert response.is_success, response.text
        page = response.json()
        mailing.cursor = page["cursor"]
        mailing.inbox += [(message["message_id"], message["subject"]) for message in page["messages"]]
        if len(page["messages"]) < 100:
            return


async def join(server: Serving, mailing: Mailing) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
        await post(client, "/api/project/ensure", human_key=PROJECT, slug=PROJECT)
        for name in ("Sender", "Reader"):
            await post(client, "/api/agent/register", project_slug=PROJECT, name=name, program="pytest", model="none")
        await read_on(client, mailing)
    assert mailing.inbox == []


async def kill_again_and_again(database_url: str, rounds: int) -> None:
    """The database is checked by the next round's server, which is then killed in turn."""
    chance, mailing = random.Random(20), Mailing()
    for number in range(rounds + 1):
        with serving(database_url) as server:
            if number == 0:
                await join(server, mailing)
            else:
                await check_after_restart(server, mailing)
            if number < rounds:
                await send_until_killed(server, mailing, chance)
    assert len(mailing.acknowledged) == len(mailing.keys) > rounds


@pytest.mark.timeout(280)
async def test_sqlite_loses_no_acknowledged_message_in_fifty_kills(fresh_sqlite: str) -> None:
    await kill_again_and_again(fresh_sqlite, 50)


@pytest.mark.timeout(120)
async def test_postgres_loses_no_acknowledged_message_when_the_server_is_killed(fresh_postgres: str) -> None:
    await kill_again_and_again(fresh_postgres, 5)
