"""Stopping and replacing servers under load: no request fails, and nothing takes longer than 15 s."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.serving import Serving, agent_mail, serving, started, stop
from tests.e2e.test_cluster import PROJECT, furnish, send, worker_pids
from tests.servers import free_port
from tools.cluster import balancer

CLIENTS = 8


async def test_a_stopping_server_says_so_and_goes_on_accepting(fresh_sqlite: str) -> None:
    with serving(fresh_sqlite, DRAIN_SECONDS="2") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            await furnish(client)
            query: dict[str, str | int] = {**PROJECT, "agent_name": "Bob", "timeout_seconds": 45}
            wait = asyncio.create_task(client.get("/api/inbox/wait", params=query))
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            server.process.terminate()
            await asyncio.sleep(0.3)
            for _ in range(5):
                async with httpx.AsyncClient(base_url=server.url) as stranger:
                    ready = await stranger.get("/ready")
                    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
                    served = await stranger.get("/api/project/list")
                    assert (served.status_code, served.headers["connection"]) == (200, "close")
                await asyncio.sleep(0.2)
            answer = (await wait).json()
            assert (answer["messages"], answer["timed_out"]) == ([], True)
        assert await asyncio.to_thread(server.process.wait, 15) == 0
        assert 1.9 < time.monotonic() - begun < 5


class Load:
    """Clients that read and write without pause and note whatever is not a success; half make connections anew."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failures: list[str] = []
        self.answers = 0
        self._is_over = asyncio.Event()

    async def __aenter__(self) -> Load:
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            await furnish(client)
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        keeps = httpx.Limits(max_keepalive_connections=1 if number < CLIENTS // 2 else 0)
        async with httpx.AsyncClient(base_url=self.url, timeout=30, limits=keeps) as client:
            while not self._is_over.is_set():
                try:
                    if number % 2:
                        await send(client)
                    else:
                        answer = await client.get("/api/inbox", params={**PROJECT, "agent_name": "Bob", "limit": 5})
                        assert answer.status_code == 200, answer.text
                    self.answers += 1
                except (httpx.HTTPError, AssertionError) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.005)


@pytest.mark.postgres
async def test_a_rolling_restart_below_a_supervisor_fails_no_request(fresh_postgres: str, valkey_url: str) -> None:
    settings = {"REDIS_URL": valkey_url, "WORKERS": "3", "DRAIN_SECONDS": "1", "LOG_LEVEL": "info"}
    with serving(fresh_postgres, **settings) as server:
        before = set(worker_pids(server))
        async with Load(server.url) as load:
            await asyncio.sleep(0.5)
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while before & set(worker_pids(server)):
                assert time.monotonic() < deadline, server.output
                async with httpx.AsyncClient(base_url=server.url) as stranger:
                    assert (await stranger.get("/ready")).status_code == 200
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
        assert load.failures == []
        assert load.answers > 100
        assert len(worker_pids(server)) == 3


@pytest.mark.postgres
async def test_a_rolling_restart_behind_a_balancer_fails_no_request(fresh_postgres: str, valkey_url: str) -> None:
    values = {
        "DATABASE_URL": fresh_postgres,
        "REDIS_URL": valkey_url,
        "DRAIN_SECONDS": "2",
        "LOG_LEVEL": "warning",
        "LOG_FORMAT": "json",
    }
    ports = [free_port() for _ in range(3)]

    def begin(stack: ExitStack, port: int) -> Serving:
        return stack.enter_context(started(agent_mail("serve"), port, {**values, "PORT": str(port)}))

    with ExitStack() as servers, ExitStack() as front:
        running = [begin(servers, port) for port in ports]
        balanced = front.enter_context(balancer(free_port(), ports))
        async with Load(balanced.url) as load:
            await asyncio.sleep(0.5)
            for number, port in enumerate(ports):
                begun = time.monotonic()
                assert await asyncio.to_thread(stop, running[number].process) == 0
                assert time.monotonic() - begun < 15
                running[number] = await asyncio.to_thread(begin, servers, port)
                await asyncio.sleep(1)  # the balancer sees that it is back
        assert load.failures == []
        assert load.answers > 100
        front.close()
