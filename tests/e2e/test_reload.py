"""SIGHUP to a server of one worker: it begins again where it is, with its settings and secrets read anew."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.serving import Serving, serving, stop
from tests.e2e.test_cluster import PROJECT, furnish

PATIENCE = 15.0


def put(file: Path, secret: str) -> str:
    """Replace a secret; returns where it is."""
    file.write_text(f"{secret}\n")
    return str(file)


def settings_with(folder: Path, token: str) -> dict[str, str]:
    return {
        "HTTP_BEARER_TOKEN_FILE": put(folder / "token", token),
        "AUTH_MODE": "bearer",
        "RATE_LIMIT_ENABLED": "false",
        "LOG_LEVEL": "info",
        "DRAIN_SECONDS": "1",  # who has just connected gets an answer
    }


async def status(server: Serving, token: str) -> int:
    """What a new connection gets with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as client:
        return (await client.get("/api/project/list")).status_code


async def says(server: Serving, words: str) -> None:
    """Return once the log has these words."""
    deadline = time.monotonic() + PATIENCE
    while words not in server.output:
        assert time.monotonic() < deadline, server.output
        await asyncio.sleep(0.01)


async def test_a_secret_that_was_rotated_is_taken_in_place_and_every_connection_is_answered(tmp_path: Path) -> None:
    old, new = secrets.token_hex(16), secrets.token_hex(16)
    with serving(f"sqlite:///{tmp_path}/mail.db", **settings_with(tmp_path, old)) as server:
        headers = {"Authorization": f"Bearer {old}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as client:
            await furnish(client)
        assert (await status(server, old), await status(server, new)) == (200, 401)
        put(tmp_path / "token", new)
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while (found := (await status(server, new), await status(server, old))) != (200, 401):
            assert set(found) <= {200, 401}, (found, server.output)
            assert time.monotonic() < deadline, server.output
        assert "serving again" in server.output
        headers = {"Authorization": f"Bearer {new}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as client:
            listed = (await client.get("/api/project/list")).json()["projects"]
        assert [project["slug"] for project in listed] == [PROJECT["project_slug"]]
        assert stop(server.process) == 0, server.output


async def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    token = secrets.token_hex(16)
    with serving(f"sqlite:///{tmp_path}/mail.db", **settings_with(tmp_path, token)) as server:
        (tmp_path / "token").unlink()
        server.process.send_signal(signal.SIGHUP)
        await says(server, "the settings cannot be used; the server stays as it is")
        assert await status(server, token) == 200
        assert "serving again" not in server.output


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_who_is_told_to_begin_again_and_then_to_stop_stops(tmp_path: Path, how: signal.Signals) -> None:
    token = secrets.token_hex(16)
    with serving(f"sqlite:///{tmp_path}/mail.db", **settings_with(tmp_path, token)) as server:
        for _ in range(3):
            server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(how)
        assert await asyncio.to_thread(server.process.wait, PATIENCE) == 0, server.output


async def test_a_wait_ends_empty_when_the_server_begins_again(tmp_path: Path) -> None:
    token = secrets.token_hex(16)
    with serving(f"sqlite:///{tmp_path}/mail.db", **settings_with(tmp_path, token)) as server:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as client:
            await furnish(client)
            asked = {**PROJECT, "agent_name": "Ann"}
            cursor = (await client.get("/api/inbox", params=asked)).json()["cursor"]
            waiting = asyncio.create_task(
                client.get("/api/inbox/wait", params={**asked, "cursor": cursor, "timeout_seconds": "45"})
            )
            deadline = time.monotonic() + PATIENCE
            while (await client.get("/api/metrics")).json()["waiting_calls"] == 0:
                assert time.monotonic() < deadline, server.output
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGHUP)
            answer = await waiting
        assert (answer.status_code, answer.json()["messages"]) == (200, [])
