"""Servers behind PgBouncer in transaction mode, with the configuration and the SQL that docs/deploying.md tells of."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from agent_mail_core.settings import Settings
from agent_mail_migrations.runner import migrate
from agent_mail_store.postgres.session_settings import wanted
from tests.deploy.pgbouncer import POOLED, Pooler, bring_along, pooler
from tests.e2e.serving import Serving, serving
from tests.e2e.test_cluster import PROJECT, furnish, send
from tests.e2e.test_doctor import findings
from tests.e2e.test_processes import run
from tests.servers import free_port, in_new_loop, postgres_server, query

pytestmark = [pytest.mark.postgres, pytest.mark.valkey]

POOLED_SETTINGS = {"DATABASE_STATEMENT_CACHE": "0"}


@pytest.fixture
def pooled(fresh_postgres: str) -> Iterator[Pooler]:
    """A pooler before a migrated database whose role brings the settings along."""
    bring_along(fresh_postgres)
    with pooler(fresh_postgres) as running:
        yield running


@pytest.fixture
def workers(pooled: Pooler, valkey_url: str) -> Iterator[Serving]:
    """Two worker processes with twenty connections, on five of the database."""
    with serving(pooled.url, REDIS_URL=valkey_url, WORKERS="2", **POOLED_SETTINGS) as server:
        yield server


def test_the_script_says_what_servers_look_for() -> None:
    script = POOLED.read_text(encoding="utf-8")
    for name, value in wanted(Settings()).items():
        assert f"SET {name} = '{value}';" in script


async def test_two_workers_serve_everything_over_a_few_connections(
    workers: Serving, pooled: Pooler, fresh_postgres: str
) -> None:
    async with httpx.AsyncClient(base_url=workers.url, timeout=30) as client:
        await furnish(client)
        cursor = (await client.get("/api/inbox", params={**PROJECT, "agent_name": "Bob"})).json()["cursor"]
        query_: dict[str, str | int] = {**PROJECT, "agent_name": "Bob", "cursor": cursor, "timeout_seconds": 20}
        wait = asyncio.create_task(client.get("/api/inbox/wait", params=query_))
        letter = {**PROJECT, "sender_name": "Ann", "recipient_names": ["Bob"], "subject": "Once", "body_md": "B"}
        headers = {"Idempotency-Key": "once"}
        sent, again = [(await client.post("/api/message/send", json=letter, headers=headers)).json() for _ in range(2)]
        assert (again["message_id"], again["replayed"]) == (sent["message_id"], True)
        assert [found["message_id"] for found in (await wait).json()["messages"]] == [sent["message_id"]]
        await asyncio.gather(*(send(client) for _ in range(300)))
        inbox = (await client.get("/api/inbox", params={**PROJECT, "agent_name": "Bob", "limit": 100})).json()
        assert (len(inbox["messages"]), inbox["unread_count"]) == (100, 301)
    held = query(
        fresh_postgres,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert 1 <= held[0][0] <= 5
    assert "error" not in workers.output, workers.output


async def test_a_pooler_that_is_restarted_is_got_over(workers: Serving, fresh_postgres: str, pooled: Pooler) -> None:
    async with httpx.AsyncClient(base_url=workers.url, timeout=30) as client:
        await furnish(client)
        pooled.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(pooled.process.wait, 10)
        refused = await until_status(client, 503)
        assert refused.headers["retry-after"]
        assert (await client.get("/health")).status_code == 200
        with pooler(fresh_postgres, port=pooled.port):
            await until_status(client, 200)
            await send(client)


async def test_a_database_that_is_restarted_behind_it_is_got_over(valkey_url: str) -> None:
    with postgres_server() as database:
        in_new_loop(migrate(database.url))
        bring_along(database.url)
        with pooler(database.url) as pooled, serving(pooled.url, REDIS_URL=valkey_url, **POOLED_SETTINGS) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
                await furnish(client)
                database.stop(signal.SIGQUIT)
                refused = await until_status(client, 503)
                assert refused.headers["retry-after"]
                assert (await client.get("/ready")).status_code == 503
                database.start()
                began = time.monotonic()
                await until_status(client, 200)
                print(f"back within {time.monotonic() - began:.2f} s")
                await send(client)


async def until_status(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """The first answer of an inbox with that status; others may come before."""
    deadline = time.monotonic() + 15
    while True:
        answer = await client.get("/api/inbox", params={**PROJECT, "agent_name": "Bob"})
        if answer.status_code == status:
            return answer
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.05)


def test_a_server_whose_role_brings_nothing_along_does_not_start(fresh_postgres: str, tmp_path: Path) -> None:
    with pooler(fresh_postgres) as unsettled:
        ended = run(tmp_path, "serve", DATABASE_URL=unsettled.url, PORT=str(free_port()), **POOLED_SETTINGS)
        assert ended.returncode == 10
        assert "deploy/postgres/pooled.sql" in ended.stdout + ended.stderr
        code, found = findings(tmp_path, DATABASE_URL=unsettled.url, **POOLED_SETTINGS)
        assert (code, found["settings"][0]) == (10, "failed")
        assert "synchronous_commit = on" in found["settings"][1]


def test_the_doctor_tells_what_the_pooler_must_allow(pooled: Pooler, valkey_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": pooled.url, "REDIS_URL": valkey_url, "WORKERS": "3"}
    code, found = findings(tmp_path, **settings, **POOLED_SETTINGS)
    assert (code, {status for status, _ in found.values()}) == (0, {"ok"}), found
    assert "= 30 connections a server to the pooler: its max_client_conn" in found["connections"][1]


def test_the_doctor_sees_a_pooler_that_nobody_told_it_of(pooled: Pooler, fresh_postgres: str, tmp_path: Path) -> None:
    code, found = findings(tmp_path, DATABASE_URL=pooled.url)
    assert (code, found["database"][0]) == (10, "failed")
    assert "set DATABASE_STATEMENT_CACHE=0" in found["database"][1]
    query(fresh_postgres, f'ALTER ROLE CURRENT_USER IN DATABASE "{urlsplit(fresh_postgres).path.strip("/")}" RESET ALL')
    names = ",".join(wanted(Settings()))
    with pooler(fresh_postgres, {"ignore_startup_parameters": names}) as ignoring:
        code, found = findings(tmp_path, DATABASE_URL=ignoring.url)
    assert (code, found["settings"][0]) == (10, "failed")
    assert "a pooler in between drops it" in found["settings"][1]
