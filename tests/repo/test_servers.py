"""The servers that tests run on are real, private and gone afterwards; a database of one's own is one's own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
import redis

from tests.conftest import leftover_connections
from tests.repo.sources import ROOT
from tests.servers import query, running_postgres, with_database

SERVER_IN_A_PROCESS = """
import sys, time
from tests.servers import running_postgres, running_valkey
with running_postgres() as postgres, running_valkey() as valkey:
    print(postgres, valkey, flush=True)
    time.sleep(600)
"""


async def test_a_fresh_database_is_a_clone_with_the_schema(fresh_postgres: str) -> None:
    connection = await asyncpg.connect(fresh_postgres)
    try:
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        await connection.execute("CREATE TABLE mark (id int)")
    finally:
        await connection.close()
    assert tables > 0


def test_a_fresh_database_does_not_see_another(fresh_postgres: str, postgres_url: str) -> None:
    assert query(fresh_postgres, "SELECT to_regclass('mark') AS mark")[0]["mark"] is None
    assert query(fresh_postgres, "SHOW server_version_num") != []
    assert with_database(postgres_url, "x") != fresh_postgres


async def test_a_connection_left_open_is_noticed(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url, server_settings={"application_name": "left-behind"})
    try:
        database = await connection.fetchval("SELECT current_database()")
        assert [who for who in leftover_connections(postgres_url, database, patience=0) if "left-behind" in who]
    finally:
        await connection.close()


def test_a_durable_postgres_waits_for_the_disk() -> None:
    with running_postgres(durable=True, settings={"max_connections": "20"}) as url:
        assert [query(url, f"SHOW {name}")[0][0] for name in ("fsync", "synchronous_commit", "max_connections")] == [
            "on",
            "on",
            "20",
        ]


def test_valkey_answers(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.set("tests:mark", "1", ex=5)
        assert client.getdel("tests:mark") == b"1"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the kernel's help is Linux's")
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_the_servers_end_with_the_process_that_started_them(how: str) -> None:
    command = [sys.executable, "-c", SERVER_IN_A_PROCESS]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        servers = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent(pid) == process.pid]
        homes = {home(pid) for pid in servers}
        getattr(process, how)()
        process.wait()
    assert len(line.split()) == 2
    assert len(servers) == 2
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/stat").exists() and state(pid) != "Z" for pid in servers):
        assert time.monotonic() < deadline, "a server lives on"
        time.sleep(0.05)
    for left in homes:  # nobody was there any more to remove them
        shutil.rmtree(left)


def home(pid: int) -> Path:
    """A server's private directory; PostgreSQL works in a folder of it."""
    folder = Path(os.readlink(f"/proc/{pid}/cwd"))
    return next(path for path in (folder, *folder.parents) if path.name.startswith("agent-mail-"))


def parent(pid: int) -> int:
    fields = status(pid)
    return int(fields[1]) if fields else 0


def state(pid: int) -> str:
    fields = status(pid)
    return fields[0] if fields else "Z"


def status(pid: int) -> list[str]:
    """State, parent, … of a process, without its name; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
