"""A real PgBouncer with the project's own configuration, in transaction mode, before a PostgreSQL of ours.

No wheel brings one. Where there is none (`apt-get install pgbouncer`), its tests are skipped, and the list at the end
of the run says so: it is the one program that `make test` cannot install by itself.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.deploy.databases import psql, psql_program, server_folder
from tests.deploy.programs import ROOT
from tests.servers import free_port

CONFIGURATION = ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini"
POOLED = ROOT / "deploy" / "postgres" / "pooled.sql"
START_TIMEOUT = 10.0
SERVER_CONNECTIONS = 5
"""Fewer than a server of ours opens, so that transactions change their connections all the time."""


def program() -> str:
    """Where it is; the test is skipped when it is nowhere."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("PgBouncer is not installed, and no wheel brings it: apt-get install pgbouncer")
    return found


@dataclass
class Pooler:
    """A running one."""

    url: str
    """What DATABASE_URL becomes."""
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    def admin(self, command: str) -> str:
        """What its console answers."""
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--username", "postgres"]
        command_line = [psql_program(), "--no-psqlrc", "--tuples-only", "--no-align", *where, "--command", command]
        done = subprocess.run(
            [*command_line, "pgbouncer"],
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def bring_along(url: str) -> None:
    """Run pooled.sql, as the user and in the database of a direct URL."""
    done = psql(url, {}, POOLED)
    assert done.returncode == 0, done.stderr


@contextmanager
def pooler(direct: str, more: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[Pooler]:
    """PgBouncer before the server of a direct URL; `more` overrides its settings."""
    executable = program()
    parts = urlsplit(direct)
    behind = parse_qs(parts.query)
    with server_folder() as folder:
        port = port or free_port()
        own = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "admin_users": "postgres",
            "default_pool_size": str(SERVER_CONNECTIONS),
            **(more or {}),
        }
        target = f"host={behind['host'][0]} port={behind['port'][0]} user={parts.username}"
        configuration = folder / "pgbouncer.ini"
        included = shutil.copy(CONFIGURATION, folder / "included.ini")  # whichever account runs it can read this one
        lines = [f"%include {included}", *(f"{name} = {value}" for name, value in own.items())]
        configuration.write_text("\n".join([*lines, "[databases]", f"* = {target}", ""]))
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [executable, str(configuration)],
                env={"PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        try:
            _wait_until_listening(process, port, log)
            url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}", query="sslmode=disable").geturl()
            yield Pooler(url, port, process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_TIMEOUT)


def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
