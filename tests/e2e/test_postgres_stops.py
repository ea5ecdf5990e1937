"""PostgreSQL stopped and started again under load, politely and by force: said at once, got over, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from agent_mail_migrations.runner import migrate
from tests.contract.valkey_server import valkey_server
from tests.e2e.serving import Serving, family, serving
from tests.e2e.test_cluster import PROJECT, furnish
from tests.e2e.test_cluster_outages import until_ready
from tests.servers import PostgresServer, in_new_loop, postgres_server, query

POOL = 4
WRITERS = 8
PATIENCE = 15.0
"""Seconds in which what takes a few at most must have happened, on a machine that may be busy."""

pytestmark = [pytest.mark.postgres, pytest.mark.valkey]


@dataclass
class Mailing:
    """What writers sent to Bob, each message under a key of its own that is repeated until it is acknowledged."""

    name: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    refusals: Counter[int] = field(default_factory=Counter)
    slowest_refusal: float = 0.0
    faults: list[str] = field(default_factory=list)

    def note(self, key: str, answer: httpx.Response, took: float) -> None:
        if answer.status_code == 201:
            self.acknowledged[key] = answer.json()["message_id"]
            return
        self.refusals[answer.status_code] += 1
        self.slowest_refusal = max(self.slowest_refusal, took)
        if answer.status_code != 503 or "retry-after" not in answer.headers:
            self.faults.append(f"{answer.status_code} {answer.headers} {answer.text}")

    async def write(self, http: httpx.AsyncClient, writer: int, is_over: asyncio.Event) -> None:
        """Send until it is over, and then until the last message is acknowledged."""
        number = 0
        while not is_over.is_set():
            key = f"{self.name} {writer}-{number}"
            body = {"sender_name": "Ann", "recipient_names": ["Bob"], "subject": key, "body_md": "B"}
            while key not in self.acknowledged:
                began = time.monotonic()
                answer = await http.post("/api/message/send", json={**PROJECT, **body, "idempotency_key": key})
                self.note(key, answer, time.monotonic() - began)
                await asyncio.sleep(0.01)
            number += 1


@asynccontextmanager
async def mailing(name: str, clients: list[httpx.AsyncClient]) -> AsyncIterator[Mailing]:
    """Writers on every server, at work while the block lasts; afterwards each message has been acknowledged."""
    mail, is_over = Mailing(name), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for writer in range(WRITERS):
            tasks.create_task(mail.write(clients[writer % len(clients)], writer, is_over))
        try:
            yield mail
        finally:
            is_over.set()


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A migrated PostgreSQL that these tests may harm."""
    with postgres_server() as server:
        in_new_loop(migrate(server.url))
        yield server


@pytest.fixture
def servers(postgres: PostgresServer) -> Iterator[list[Serving]]:
    """Two, with the time limits that a server has by itself."""
    with valkey_server() as valkey:
        settings = {"REDIS_URL": valkey.url, "DATABASE_POOL_SIZE": str(POOL)}
        with serving(postgres.url, **settings) as first, serving(postgres.url, **settings) as second:
            yield [first, second]


async def inbox_of_bob(http: httpx.AsyncClient, cursor: str) -> list[dict[str, object]]:
    """All that came after the cursor."""
    found: list[dict[str, object]] = []
    while True:
        asked: dict[str, str | int] = {**PROJECT, "agent_name": "Bob", "limit": 100, "cursor": cursor}
        page = (await http.get("/api/inbox", params=asked)).raise_for_status().json()
        if not page["messages"]:
            return found
        found += page["messages"]
        cursor = page["cursor"]


async def refused_at_once(http: httpx.AsyncClient) -> float:
    """How long the slowest of some calls took, all of which are refused while the process itself is well."""
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        answer = await http.get("/api/inbox", params={**PROJECT, "agent_name": "Bob"})
        slowest = max(slowest, time.monotonic() - began)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert (await http.get("/health")).json()["status"] == "healthy"
    assert (await http.get("/ready")).status_code == 503
    return slowest


def open_descriptors(server: Serving) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family(server.process.pid))


def connections(url: str) -> int:
    rows = query(url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agent-mail'")
    return int(rows[0][0])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=["fast", "immediate", "killed"])
async def test_a_postgres_that_stops_under_load_is_said_at_once_and_got_over(
    postgres: PostgresServer, servers: list[Serving], how: signal.Signals
) -> None:
    here, there = (httpx.AsyncClient(base_url=server.url, timeout=30) for server in servers)
    async with here, there:
        await furnish(here)
        cursor = (await here.get("/api/inbox", params={**PROJECT, "agent_name": "Bob"})).json()["cursor"]
        async with mailing(how.name, [here, there]) as mail:
            await until_more(mail, 50)
            held, descriptors = connections(postgres.url), [open_descriptors(server) for server in servers]
            await asyncio.to_thread(postgres.stop, how)
            for http in (here, there):
                await until_ready(http, "not_ready", PATIENCE)
                print(f"refused within {await refused_at_once(http):.3f} s")
            async with asyncio.timeout(PATIENCE):
                while mail.refusals[503] < 500:  # noqa: ASYNC110 - nobody tells us
                    await asyncio.sleep(0.02)
            postgres.start()  # not on a thread, with which it would end
            accepts_since = time.monotonic()
            for http in (here, there):
                await until_ready(http, "ready", PATIENCE)
            await until_more(mail, 2 * WRITERS)
            print(f"back within {time.monotonic() - accepts_since:.3f} s")
        print(f"{len(mail.acknowledged)} sends, {mail.refusals} refusals, the slowest {mail.slowest_refusal:.3f} s")
        assert mail.faults == []
        found = {str(message["subject"]): message["message_id"] for message in await inbox_of_bob(there, cursor)}
        assert found == mail.acknowledged, "nothing acknowledged is lost, and no key is stored under two numbers"
        assert len(await inbox_of_bob(here, cursor)) == len(mail.acknowledged), "nor twice"
        assert connections(postgres.url) <= len(servers) * POOL >= held
        assert [open_descriptors(server) for server in servers] <= [before + POOL for before in descriptors]


async def until_more(mail: Mailing, messages: int) -> None:
    """Return when so many more have been acknowledged."""
    enough = len(mail.acknowledged) + messages
    deadline = time.monotonic() + PATIENCE
    while len(mail.acknowledged) < enough:
        assert time.monotonic() < deadline, mail
        await asyncio.sleep(0.02)
