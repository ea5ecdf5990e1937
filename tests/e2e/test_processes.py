"""The server as a process: one per database, a quick and clean end, and words that help when it cannot start."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import anyio
import httpx
import pytest
from mcp import Client

from tests.e2e.serving import ENTRY_TIMEOUT, Serving, agent_mail, clean_environment, serving
from tests.servers import free_port

DRAIN_LIMIT = 5.0
TOKEN = "a-token-that-nobody-must-see"


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    environment = clean_environment(folder, settings)
    return subprocess.run(
        agent_mail(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=ENTRY_TIMEOUT
    )


def test_a_second_server_on_the_same_database_is_refused(server: Serving, database_url: str, tmp_path: Path) -> None:
    second = run(tmp_path, "serve", DATABASE_URL=database_url, PORT=str(free_port()))
    assert second.returncode != 0
    assert "Another server holds this database" in second.stdout + second.stderr
    assert "Traceback" not in second.stdout + second.stderr
    assert server.get("/ready")["status"] == "ready", "the first one is not disturbed"


def test_a_server_can_follow_another_on_the_same_database(database_url: str) -> None:
    for _ in range(2):
        with serving(database_url) as server:
            assert server.get("/ready")["status"] == "ready"


def test_a_port_that_is_taken_is_said_in_one_sentence(fresh_sqlite: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = run(tmp_path, "serve", DATABASE_URL=fresh_sqlite, PORT=str(port))
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert str(port) in said
    assert "Traceback" not in said


async def test_sigterm_ends_waits_and_streams_and_exits_soon(server: Serving) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        await client.post("/api/project/ensure", json={"human_key": "stop", "slug": "stop"})
        agent = {"project_slug": "stop", "name": "Ada", "program": "pytest", "model": "none"}
        await client.post("/api/agent/register", json=agent)
        query: dict[str, str | int] = {"project_slug": "stop", "agent_name": "Ada", "timeout_seconds": 45}
        wait = asyncio.create_task(client.get("/api/inbox/wait", params=query))
        session_id = await handshake(client)
        headers = {"Mcp-Session-Id": session_id, "MCP-Protocol-Version": "2025-11-25", "Accept": "text/event-stream"}
        async with client.stream("GET", "/mcp", headers=headers) as stream:
            assert stream.status_code == 200
            await asyncio.sleep(0.3)
            begun = time.monotonic()
            server.process.terminate()
            answer = await asyncio.wait_for(wait, DRAIN_LIMIT)
            assert answer.status_code == 200
            assert (answer.json()["timed_out"], answer.json()["messages"]) == (True, [])
            async for _ in stream.aiter_raw():
                pass
    code = await asyncio.to_thread(server.process.wait, DRAIN_LIMIT)
    assert code == 0, server.output
    assert time.monotonic() - begun < DRAIN_LIMIT


async def handshake(client: httpx.AsyncClient) -> str:
    """A session of the handshake revisions."""
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "pytest", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info}
    headers = {"Accept": "application/json, text/event-stream"}
    response = await client.post("/mcp", json=message, headers=headers)
    assert response.status_code == 200, response.text
    session_id: str = response.headers["mcp-session-id"]
    headers |= {"Mcp-Session-Id": session_id, "MCP-Protocol-Version": "2025-11-25"}
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await client.post("/mcp", json=done, headers=headers)).status_code == 202
    return session_id


async def test_sigterm_ends_a_wait_of_the_official_client(fresh_sqlite: str) -> None:
    with serving(fresh_sqlite) as server:
        async with Client(f"{server.url}/mcp", mode="legacy", read_timeout_seconds=30) as client:
            await client.call_tool("ensure_project", {"human_key": "stop", "slug": "stop"})
            agent = {"project_slug": "stop", "name": "Ada", "program": "pytest", "model": "none"}
            await client.call_tool("register_agent", agent)
            with anyio.fail_after(2 * DRAIN_LIMIT):
                asyncio.get_running_loop().call_later(0.3, server.process.terminate)
                waiting = {"project_slug": "stop", "agent_name": "Ada", "timeout_seconds": 45}
                woken = await client.call_tool("wait_for_messages", waiting)
            assert woken.structured_content is not None
            assert woken.structured_content["timed_out"] is True
        assert await asyncio.to_thread(server.process.wait, DRAIN_LIMIT) == 0, server.output


def test_interrupting_the_server_at_the_keyboard_ends_it_cleanly(fresh_sqlite: str) -> None:
    with serving(fresh_sqlite) as server:
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(DRAIN_LIMIT) == 0, server.output
        assert "Traceback" not in server.output


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_migrating_twice_changes_nothing(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if engine == "sqlite":
        url = f"sqlite:///{tmp_path}/new folder/mail.db"
    else:
        url = request.getfixturevalue("fresh_postgres")
    for _ in range(2):
        ended = run(tmp_path, "migrate", DATABASE_URL=url)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_config_shows_the_settings_and_no_secret(tmp_path: Path) -> None:
    shown = run(
        tmp_path,
        "config",
        PORT="9999",
        AUTH_MODE="bearer",
        HTTP_BEARER_TOKEN=TOKEN,
        DATABASE_URL="postgresql://mail:hunter22@db.example/mail",
    )
    said = shown.stdout + shown.stderr
    assert shown.returncode == 0, said
    assert "9999" in said
    assert TOKEN not in said
    assert "hunter22" not in said


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"PORT": "eighty"}, "PORT"),
        ({"HOST": "0.0.0.0"}, "AUTH_MODE"),  # noqa: S104 - it is refused
        ({"AUTH_MODE": "bearer"}, "HTTP_BEARER_TOKEN"),
        ({"DATABASE_URL": "mysql://localhost/mail"}, "DATABASE_URL"),
        ({"WORKERS": "2"}, "WORKERS"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(settings: dict[str, str], names: str, tmp_path: Path) -> None:
    ended = run(tmp_path, "serve", **settings)
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert names in said
    assert "Traceback" not in said


def test_a_postgres_that_is_away_is_said_in_one_sentence(tmp_path: Path) -> None:
    url = f"postgresql://mail:hunter22@127.0.0.1:{free_port()}/mail"
    ended = run(tmp_path, "serve", DATABASE_URL=url, PORT=str(free_port()))
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "Traceback" not in said
    assert "hunter22" not in said


async def test_a_bearer_token_is_needed_for_all_but_health_and_ready(fresh_sqlite: str) -> None:
    with serving(fresh_sqlite, AUTH_MODE="bearer", HTTP_BEARER_TOKEN=TOKEN) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/health")).status_code == 200
            for headers in ({}, {"Authorization": "Bearer wrong-token-of-some-length"}):
                for answer in (
                    await client.get("/api/project/list", headers=headers),
                    await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=headers),
                ):
                    assert answer.status_code == 401
                    assert answer.headers["www-authenticate"].startswith("Bearer")
            right = {"Authorization": f"Bearer {TOKEN}"}
            assert (await client.get("/api/project/list", headers=right)).status_code == 200
        assert TOKEN not in server.output
