"""Several workers that share a database and Redis: below one supervisor, and as servers of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.e2e.serving import NotServing, Serving, family, serving, stat

PROJECT = {"project_slug": "shop"}


@pytest.fixture
def workers(database_url: str, valkey_url: str) -> Iterator[Serving]:
    """Three worker processes on one port, on each engine."""
    with serving(database_url, REDIS_URL=valkey_url, WORKERS="3", LOG_LEVEL="info") as server:
        until(lambda: '"serving"' in server.output)
        yield server


def worker_pids(server: Serving) -> list[int]:
    """The living worker processes."""
    return [pid for pid in family(server.process.pid)[1:] if (stat(pid) or "Z")[0] != "Z"]


def until(holds: Callable[[], bool], patience: float = 15.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def furnish(client: httpx.AsyncClient) -> None:
    """The project `shop` with Ann and Bob."""
    await client.post("/api/project/ensure", json={"human_key": "shop", "slug": "shop"})
    for name in ("Ann", "Bob"):
        agent = {**PROJECT, "name": name, "program": "pytest", "model": "none"}
        assert (await client.post("/api/agent/register", json=agent)).is_success


async def send(client: httpx.AsyncClient) -> None:
    """A message from Ann to Bob, which must be taken."""
    message = {**PROJECT, "sender_name": "Ann", "recipient_names": ["Bob"], "subject": "Hello", "body_md": "Bob"}
    answer = await client.post("/api/message/send", json=message)
    assert answer.status_code == 201, answer.text


async def test_mail_sent_on_one_worker_wakes_a_wait_on_another(workers: Serving) -> None:
    async with httpx.AsyncClient(base_url=workers.url, timeout=30) as client:
        await furnish(client)
        cursor = (await client.get("/api/inbox", params={**PROJECT, "agent_name": "Bob"})).json()["cursor"]
        took = []
        for _ in range(30):  # each connection is a new draw of the worker
            async with httpx.AsyncClient(base_url=workers.url, timeout=30) as waiter:
                wanted = {**PROJECT, "agent_name": "Bob", "cursor": cursor, "timeout_seconds": 20}
                wait = asyncio.create_task(waiter.get("/api/inbox/wait", params=wanted))
                await asyncio.sleep(0.05)
                await send(client)
                sent_at = time.monotonic()
                answer = (await wait).json()
                took.append(time.monotonic() - sent_at)
                assert len(answer["messages"]) == 1
                cursor = answer["cursor"]
        assert sorted(took)[len(took) // 2] < 0.1


def test_connections_are_spread_evenly_and_the_figures_are_those_of_all_workers(
    fresh_sqlite: str, valkey_url: str
) -> None:
    with serving(fresh_sqlite, REDIS_URL=valkey_url, WORKERS="3", LOG_LEVEL="info") as server:
        until(lambda: '"serving"' in server.output)
        before = server.get("/api/metrics")["requests"]
        with httpx.Client(base_url=server.url) as one:
            one.get("/api/metrics")
        opened = [httpx.Client(base_url=server.url) for _ in range(300)]
        for client in opened:
            assert client.get("/health").is_success
        spread = Counter(connections(pid, server.port) for pid in worker_pids(server))
        for client in opened:
            client.close()
        counts = sorted(spread.elements())
        assert sum(counts) >= 300
        assert counts[0] > 60, counts
        assert server.get("/api/metrics")["requests"] >= before + 301
        text = httpx.get(f"{server.url}/metrics").text
        assert 'agent_mail_operations_total{operation="health",outcome="ok"} 300.0' in text


def connections(pid: int, port: int) -> int:
    """How many connections to a port a process holds."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.read().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "01" and int(row[1].rpartition(":")[2], 16) == port}
    found = 0
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(entry.path) in inodes
        except FileNotFoundError:
            continue
    return found


def test_a_worker_that_is_killed_is_replaced_and_its_figures_stay(workers: Serving) -> None:
    for _ in range(20):
        workers.get("/health")
    pids = worker_pids(workers)
    assert len(pids) == 3
    for pid in pids[:2]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(worker_pids(workers)) == 3 and not set(pids[:2]) & set(worker_pids(workers)))
    assert workers.get("/ready")["status"] == "ready"
    health = next(tool for tool in workers.get("/api/metrics")["tools"] if tool["operation"] == "health")
    assert health["calls"] == 20


def test_workers_end_when_their_supervisor_is_killed(workers: Serving) -> None:
    pids = worker_pids(workers)
    os.kill(workers.process.pid, signal.SIGKILL)
    workers.process.wait()
    until(lambda: all((stat(pid) or "Z")[0] == "Z" for pid in pids))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_all_workers_end_cleanly(how: signal.Signals, fresh_sqlite: str, valkey_url: str) -> None:
    with serving(fresh_sqlite, REDIS_URL=valkey_url, WORKERS="2") as server:
        pids = worker_pids(server)
        server.process.send_signal(how)
        assert server.process.wait(5) == 0, server.output
        assert not any(stat(pid) for pid in pids)
        assert "Traceback" not in server.output


def test_a_fleet_whose_workers_cannot_start_ends_with_the_reason(fresh_sqlite: str, valkey_url: str) -> None:
    gone = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(NotServing, match="ended with 10") as ended, serving(gone, REDIS_URL=valkey_url, WORKERS="2"):
        pass
    assert "cannot start" in str(ended.value)
    assert "Traceback" not in str(ended.value)


def test_several_workers_without_redis_are_refused_in_one_sentence(fresh_sqlite: str) -> None:
    with pytest.raises(NotServing, match="WORKERS: more than one needs REDIS_URL"), serving(fresh_sqlite, WORKERS="2"):
        pass


async def test_servers_that_share_redis_share_a_database(fresh_sqlite: str, valkey_url: str) -> None:
    with (
        serving(fresh_sqlite, REDIS_URL=valkey_url) as first,
        serving(fresh_sqlite, REDIS_URL=valkey_url) as second,
    ):
        async with (
            httpx.AsyncClient(base_url=first.url, timeout=30) as here,
            httpx.AsyncClient(base_url=second.url, timeout=30) as there,
        ):
            await furnish(here)
            await send(there)
            inbox = (await here.get("/api/inbox", params={**PROJECT, "agent_name": "Bob"})).json()
            assert len(inbox["messages"]) == 1
