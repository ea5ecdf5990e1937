"""A cluster of one's own on the loopback address: PostgreSQL, Valkey, server workers and, if wanted, job workers.

All are processes that may be hurt. Each server worker listens on a port of its own; who calls chooses among them.
PostgreSQL keeps what it commits (fsync on). Everything ends with the context, and (on Linux) with this process, should
that be killed; nothing else is touched.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import redis.asyncio

from loadtests.disks import Disk
from loadtests.members import STOP_TIMEOUT, JobWorker, Worker, is_gone, until
from tests import servers
from tests.contract.valkey_server import ValkeyServer, valkey_server
from tests.e2e.serving import agent_mail, clean_environment

TOKEN = "a-token-of-the-load-tests"
SETTINGS = {
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "warning",
    "DRAIN_SECONDS": "1",
    # Limits are part of the work, and out of the way. Without a token callers of this machine are not limited at all.
    "AUTH_MODE": "bearer",
    "HTTP_BEARER_TOKEN": TOKEN,
    **{f"RATE_LIMIT_{what}": "100000/minute" for what in ("READS", "WRITES", "TEAM")},
}


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@dataclass
class Postgres:
    """The server of `running_postgres`, which may also be ended and started again on the same data."""

    url: str
    process: subprocess.Popen[bytes] | None = None
    """The one that we started again ourselves."""

    @property
    def home(self) -> Path:
        """Its private directory."""
        return Path(parse_qs(urlsplit(self.url).query)["host"][0])

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int((self.home / "data" / "postmaster.pid").read_text().splitlines()[0])

    async def restart(self, how: signal.Signals, away: float) -> None:
        """End it (SIGINT politely, SIGQUIT as a crash), stay away for some seconds, start it on the same data."""
        pid = self.pid
        command, owner = started_as(pid)
        os.kill(pid, how)
        await until(lambda: is_gone(pid), "PostgreSQL should end", STOP_TIMEOUT)
        if self.process is not None:
            self.process.wait()
        await asyncio.sleep(away)
        account = pwd.getpwuid(owner) if owner != os.geteuid() else None
        with (self.home / "log").open("ab") as output:
            self.process = servers.start(command, self.home, output, account)
        await until(lambda: servers.postgres_is_ready(self.home / "data"), "PostgreSQL should start")

    def close(self) -> None:
        """End the one that we started; `running_postgres` ends its own."""
        if self.process is not None:
            servers.stop(self.process, signal.SIGINT)


def started_as(pid: int) -> tuple[list[str], int]:
    """A process's command line and its user's number."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    return words, Path(f"/proc/{pid}").stat().st_uid


# --- all together -----------------------------------------------------------------------------------------------------


@dataclass
class Cluster:
    """What runs."""

    postgres: Postgres
    valkey: ValkeyServer
    database_url: str
    workers: list[Worker] = field(default_factory=list)
    job_workers: list[JobWorker] = field(default_factory=list)
    disks: list[Disk] = field(default_factory=list)
    """Where the job workers keep their archives; one for each, or one for all."""

    async def ready(self) -> None:
        """Wait until every worker is."""
        await asyncio.gather(*(worker.ready() for worker in (*self.workers, *self.job_workers)))

    async def flush_redis(self) -> None:
        """Forget everything that Redis keeps."""
        async with redis.asyncio.Redis.from_url(self.valkey.url) as client:
            await client.flushall()


@contextmanager
def running_cluster(
    workers: int,
    command: Sequence[str] | None = None,
    settings: Mapping[str, str] | None = None,
    job_disks: Sequence[Disk] = (),
    job_command: Sequence[str] | None = None,
) -> Iterator[Cluster]:
    """PostgreSQL, Valkey, a migrated database and started workers, with a job worker for each of `job_disks`.

    The commands run instead of `agent-mail serve` and `agent-mail worker`.
    """
    with ExitStack() as stack:
        postgres = Postgres(stack.enter_context(servers.running_postgres(durable=True)))
        stack.callback(postgres.close)
        valkey = stack.enter_context(valkey_server())
        servers.query(postgres.url, "CREATE DATABASE agent_mail")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-mail-cluster-")))
        cluster = Cluster(postgres, valkey, servers.with_database(postgres.url, "agent_mail"))
        cluster.disks = list(dict.fromkeys(job_disks))
        migrate(cluster.database_url, folder)
        values = {
            "DATABASE_URL": cluster.database_url,
            "REDIS_URL": valkey.url,
            **SETTINGS,
            **(settings or {}),
        }
        cluster.workers = _servers(workers, command or agent_mail("serve"), values, folder)
        cluster.job_workers = _job_workers(job_disks, job_command or agent_mail("worker"), values, folder)
        for worker in (*cluster.workers, *cluster.job_workers):
            worker.start()
            stack.callback(worker.end)
        yield cluster


def _servers(count: int, command: Sequence[str], settings: Mapping[str, str], folder: Path) -> list[Worker]:
    ports = [servers.free_port() for _ in range(count)]
    return [
        Worker(
            name=f"worker {number}",
            command=command,
            settings={**settings, "PORT": str(port)},
            folder=_made(folder / f"worker-{number}"),
            port=port,
        )
        for number, port in enumerate(ports, 1)
    ]


def _job_workers(
    disks: Sequence[Disk], command: Sequence[str], settings: Mapping[str, str], folder: Path
) -> list[JobWorker]:
    return [
        JobWorker(
            name=f"job worker {number}",
            command=[*disk.entering, *command],
            settings={**settings, "ARCHIVE_ROOT": str(disk.folder), "LOG_LEVEL": "info"},
            folder=_made(folder / f"job-worker-{number}"),
        )
        for number, disk in enumerate(disks, 1)
    ]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def migrate(database_url: str, folder: Path) -> None:
    """Bring a database to the schema."""
    environment = clean_environment(folder, {"DATABASE_URL": database_url})
    subprocess.run(agent_mail("migrate"), cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
