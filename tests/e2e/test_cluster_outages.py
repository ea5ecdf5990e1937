"""Redis and PostgreSQL stopped, paused and started again under load: what can be answered is, the rest says so."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from agent_mail_migrations.runner import migrate
from tests.contract.test_postgres_outages import paused
from tests.contract.valkey_server import ValkeyServer, valkey_server
from tests.e2e.serving import Serving, serving
from tests.e2e.test_cluster import PROJECT, furnish, send
from tests.e2e.test_processes import handshake
from tests.servers import in_new_loop, query, running_postgres

RECOVERY = 5.0
SLOWEST = 4.0
"""Seconds for any answer with the timeouts below, on a machine that may be busy."""
TIMEOUTS = {"DATABASE_STATEMENT_TIMEOUT": "1", "DATABASE_LOCK_TIMEOUT": "1"}

pytestmark = [pytest.mark.postgres, pytest.mark.valkey]


@dataclass
class Seen:
    """What clients of both servers saw."""

    statuses: list[int] = field(default_factory=list)
    slowest: float = 0.0
    last_failure_at: float = 0.0
    headers_missing: int = 0

    def note(self, answer: httpx.Response, took: float) -> None:
        self.statuses.append(answer.status_code)
        self.slowest = max(self.slowest, took)
        if answer.status_code >= 500:
            self.last_failure_at = time.monotonic()
            self.headers_missing += answer.status_code == 503 and "retry-after" not in answer.headers


@dataclass
class Two:
    """Two servers on one database and one Redis."""

    servers: list[Serving]
    valkey: ValkeyServer

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Seen]:
        """Reads and writes on both, without pause, while the block lasts."""
        seen, is_over = Seen(), asyncio.Event()

        async def client(url: str, writes: bool) -> None:
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                while not is_over.is_set():
                    began = time.monotonic()
                    if writes:
                        names = {"sender_name": "Ann", "recipient_names": ["Bob"]}
                        message = {**PROJECT, **names, "subject": "Hello", "body_md": "Bob"}
                        answer = await http.post("/api/message/send", json=message)
                    else:
                        answer = await http.get("/api/inbox", params={**PROJECT, "agent_name": "Bob", "limit": "5"})
                    seen.note(answer, time.monotonic() - began)
                    await asyncio.sleep(0.01)

        clients = [
            asyncio.create_task(client(server.url, writes)) for server in self.servers for writes in (True, False)
        ]
        try:
            yield seen
        finally:
            is_over.set()
            await asyncio.gather(*clients)


@contextmanager
def two(database_url: str) -> Iterator[Two]:
    with valkey_server() as valkey:
        settings = {"REDIS_URL": valkey.url, **TIMEOUTS}
        with serving(database_url, **settings) as first, serving(database_url, **settings) as second:
            yield Two([first, second], valkey)


@pytest.fixture
def pair(fresh_postgres: str) -> Iterator[Two]:
    """Two servers, and a Redis that the test may harm."""
    with two(fresh_postgres) as running:
        yield running


async def until_ready(client: httpx.AsyncClient, status: str, within: float = RECOVERY) -> None:
    deadline = time.monotonic() + within
    while True:
        answer = (await client.get("/ready")).json()
        if answer["status"] == status:
            return
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.05)


def session_headers(session_id: str) -> dict[str, str]:
    return {
        "Accept": "application/json, text/event-stream",
        "Mcp-Session-Id": session_id,
        "MCP-Protocol-Version": "2025-11-25",
    }


PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_without_redis_rest_goes_on_and_sessions_say_503(pair: Two, how: str) -> None:
    here, there = (httpx.AsyncClient(base_url=server.url, timeout=30) for server in pair.servers)
    async with here, there:
        await furnish(here)
        session_id = await handshake(here)
        async with pair.load() as seen:
            await asyncio.sleep(0.3)
            if how == "paused":
                pair.valkey.pause()
            else:
                pair.valkey.stop()
            try:
                await until_ready(here, "degraded")
                assert (await here.get("/ready")).status_code == 200
                await asyncio.sleep(1.5)  # longer than a session is kept without asking
                began = time.monotonic()
                deadline = began + 8
                while True:
                    answer = await there.post("/mcp", json=PING, headers=session_headers(session_id))
                    if answer.status_code == 503:
                        break
                    assert time.monotonic() < deadline, answer.text
                    await asyncio.sleep(0.1)
                assert int(answer.headers["retry-after"]) >= 1
                cursor = (await here.get("/api/inbox", params={**PROJECT, "agent_name": "Ann"})).json()["cursor"]
                waiting: dict[str, str | int] = {**PROJECT, "agent_name": "Ann", "cursor": cursor}
                wait = asyncio.create_task(here.get("/api/inbox/wait", params={**waiting, "timeout_seconds": 20}))
                await asyncio.sleep(1.5)
                began = time.monotonic()
                message = {**PROJECT, "sender_name": "Bob", "recipient_names": ["Ann"], "subject": "S", "body_md": "B"}
                assert (await there.post("/api/message/send", json=message)).status_code == 201
                assert len((await wait).json()["messages"]) == 1
                assert time.monotonic() - began < SLOWEST, "one query a second looks for what nobody says"
            finally:
                if how == "paused":
                    pair.valkey.resume()
                else:
                    pair.valkey.start()
            await until_ready(here, "ready")
            await until_ready(there, "ready")
        assert set(seen.statuses) <= {200, 201}
        assert seen.slowest < SLOWEST
        # A flushed session is unknown; a new one works everywhere.
        status = (await there.post("/mcp", json=PING, headers=session_headers(session_id))).status_code
        assert status == (200 if how == "paused" else 404)
        fresh = await handshake(here)
        assert (await there.post("/mcp", json=PING, headers=session_headers(fresh))).status_code == 200


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[str]:
    """A migrated PostgreSQL that these tests may harm."""
    with running_postgres() as url:
        in_new_loop(migrate(url))
        yield url


async def test_a_postgres_that_is_paused_is_said_and_got_over(own_postgres: str) -> None:
    with two(own_postgres) as pair:
        async with httpx.AsyncClient(base_url=pair.servers[0].url, timeout=30) as here:
            await furnish(here)
            async with pair.load() as seen:
                await asyncio.sleep(0.3)
                with paused(own_postgres):
                    await until_ready(here, "not_ready")
                    assert (await here.get("/ready")).status_code == 503
                    assert (await here.get("/health")).status_code == 200
                    await asyncio.sleep(2)
                    began = time.monotonic()
                    refused = await here.get("/api/inbox", params={**PROJECT, "agent_name": "Bob"})
                    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                    assert time.monotonic() - began < 0.5, "nobody waits for what is known to be away"
                resumed_at = time.monotonic()
                await until_ready(here, "ready")
                await asyncio.sleep(RECOVERY)
            assert set(seen.statuses) <= {200, 201, 503}
            assert 503 in seen.statuses
            assert seen.headers_missing == 0
            assert seen.last_failure_at < resumed_at + RECOVERY
            assert seen.slowest < SLOWEST


async def test_connections_that_postgres_ends_are_replaced_and_none_leaks(own_postgres: str) -> None:
    with two(own_postgres) as pair:
        async with httpx.AsyncClient(base_url=pair.servers[0].url, timeout=30) as here:
            await furnish(here)
            async with pair.load() as seen:
                for _ in range(5):
                    await asyncio.sleep(0.3)
                    ended = (
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'agent-mail'"
                    )
                    query(own_postgres, ended)
                await asyncio.sleep(1)
                before = len(seen.statuses)
                await asyncio.sleep(1)
            assert set(seen.statuses) <= {200, 201, 503}
            assert set(seen.statuses[before:]) <= {200, 201}
            assert seen.headers_missing == 0
            await send(here)
        held = query(own_postgres, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agent-mail'")[0][0]
        assert held <= 2 * 10


async def test_a_thousand_idle_waiters_do_no_harm(fresh_postgres: str) -> None:
    with valkey_server() as valkey, serving(fresh_postgres, REDIS_URL=valkey.url, MAX_WAITERS="2000") as server:
        limits = httpx.Limits(max_connections=1200, max_keepalive_connections=10)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as http:
            await furnish(http)
            query_: dict[str, str | int] = {**PROJECT, "agent_name": "Ann", "timeout_seconds": 40}
            waits = [asyncio.create_task(http.get("/api/inbox/wait", params=query_)) for _ in range(1000)]
            deadline = time.monotonic() + 30
            while (await http.get("/api/metrics")).json()["waiting_calls"] < 1000:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            took = []
            for _ in range(50):
                began = time.monotonic()
                await send(http)
                took.append(time.monotonic() - began)
            assert sorted(took)[25] < 0.2
            os.kill(valkey.process.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(3)
                began = time.monotonic()
                await send(http)
                assert time.monotonic() - began < 2
            finally:
                os.kill(valkey.process.pid, signal.SIGCONT)
            message = {**PROJECT, "sender_name": "Bob", "recipient_names": ["Ann"], "subject": "S", "body_md": "B"}
            assert (await http.post("/api/message/send", json=message)).status_code == 201
            answers = await asyncio.gather(*waits)
            assert {len(answer.json()["messages"]) for answer in answers} == {1}
