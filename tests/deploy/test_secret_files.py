"""Secrets in files, as a platform mounts and rotates them: read at the start, and again at SIGHUP."""

import asyncio
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent_mail_migrations.runner import migrate
from tests.deploy.databases import ADDRESS, Database, database_with_roles, platform_postgres, server_folder
from tests.e2e.serving import Serving, serving
from tests.servers import in_new_loop, query

pytestmark = [pytest.mark.postgres, pytest.mark.valkey]

PATIENCE = 30.0


@pytest.fixture
def database() -> Iterator[Database]:
    """A migrated database that asks for passwords."""
    with server_folder() as folder, platform_postgres(folder) as url, database_with_roles(url) as made:
        in_new_loop(migrate(made.owner))
        yield made


def put(file: Path, secret: str) -> str:
    """Replace a secret at a stroke, as mounted secrets are; returns where it is."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{secret}\n")
    fresh.replace(file)
    return str(file)


async def status(server: Serving, token: str) -> int:
    """What a new connection gets with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
        return (await client.get("/api/project/list")).status_code


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_secrets_that_are_rotated_are_taken_at_sighup_and_nobody_is_turned_away(
    database: Database, valkey_url: str, tmp_path: Path, workers: str
) -> None:
    old, new = secrets.token_hex(16), secrets.token_hex(16)
    url_file, token_file = tmp_path / "database-url", tmp_path / "token"
    settings = {
        "DATABASE_URL_FILE": put(url_file, database.app),
        "REDIS_URL_FILE": put(tmp_path / "redis-url", valkey_url),
        "HTTP_BEARER_TOKEN_FILE": put(token_file, old),
        "AUTH_MODE": "bearer",
        "WORKERS": workers,
        "RATE_LIMIT_ENABLED": "false",
        "DRAIN_SECONDS": "1",  # who has just connected gets an answer
    }
    with serving("", **settings) as server:
        assert (await status(server, old), await status(server, new)) == (200, 401)
        put(token_file, new)
        assert await status(server, new) == 401, "not before it is told"
        database.app_password = "another-password"
        assert database.make_roles().returncode == 0
        put(url_file, database.app)
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        in_a_row = 0
        while in_a_row < 20:  # of every worker
            found = await status(server, new), await status(server, old)
            assert set(found) <= {200, 401}, (found, server.output)
            in_a_row = in_a_row + 1 if found == (200, 401) else 0
            assert time.monotonic() < deadline, server.output
            await asyncio.sleep(0.02)
        query(
            database.administrator,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL",
        )
        assert await status(server, new) in (200, 503), "a connection that was lost is opened with the new password"
        assert await status(server, new) == 200
        for secret in (old, new, "another-password"):
            assert secret not in server.output
    assert ADDRESS in url_file.read_text()
