"""What a server has loaded when nothing was asked of it yet: each of these packages takes megabytes."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.serving import ROOT, SOURCES

LOADED_WHEN_NEEDED = (
    "apsw",
    "asyncpg",
    "arq",
    "httpx",
    "jinja2",
    "numpy",
    "pygit2",
    "redis",
    "sentencex",
    "sqlite_vec",
)

SERVER_MODULES = """
import sys
import agent_mail_cli.main, agent_mail_server.main
print(*sys.modules)
"""

STARTED_ALONE = """
import asyncio, sys
from agent_mail_archive.opening import open_archive
from agent_mail_core.clock import SystemClock
from agent_mail_core.settings import load
from agent_mail_migrations.runner import migrate
from agent_mail_server.running import running_server
from agent_mail_store.opening import open_store

async def main():
    settings, _ = load({"DATABASE_URL": sys.argv[1], "ARCHIVE_ROOT": sys.argv[2]})
    await migrate(sys.argv[1])
    store = await open_store(settings, SystemClock(), single_server=True)
    async with open_archive(settings) as archive, running_server(settings, store, archive=archive):
        print(*sys.modules)
    await store.close()

asyncio.run(main())
"""


def test_the_modules_of_a_server_load_no_driver_no_git_and_no_client_of_others() -> None:
    assert loaded(SERVER_MODULES) & set(LOADED_WHEN_NEEDED) == set()


def test_a_server_alone_starts_without_git_templates_an_http_client_and_what_a_cluster_needs(tmp_path: Path) -> None:
    found = loaded(STARTED_ALONE, f"sqlite:///{tmp_path}/mail.db", f"{tmp_path}/archive")
    assert found & set(LOADED_WHEN_NEEDED) == {"apsw"}


def loaded(program: str, *arguments: str) -> set[str]:
    """The packages that a fresh interpreter has imported, as the program prints them."""
    told = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(SOURCES)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in told.stdout.split()}
