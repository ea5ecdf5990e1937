"""A cluster of one's own on the loopback address: PostgreSQL, Valkey and server workers, processes that may be hurt.

The workers listen on ports of their own; who calls chooses among them. PostgreSQL keeps what it commits (fsync on).
Everything ends with the context, and (on Linux) with this process, should that be killed; nothing else is touched.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import redis.asyncio

from tests import servers
from tests.contract.valkey_server import ValkeyServer, valkey_server
from tests.e2e.serving import agent_mail, clean_environment, listens, stat, stop

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0
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


class NotReady(Exception):
    """A part of the cluster did not come up; says what it wrote."""


async def until(is_so: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """Return once it is so; `what` is said when it takes too long. `is_so` may block, and runs on a thread."""
    deadline = time.monotonic() + timeout
    while not await asyncio.to_thread(is_so):
        if time.monotonic() > deadline:
            raise NotReady(f"{what}: not after {timeout:.0f} s")
        await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    fields = stat(pid)
    return not fields or fields[0] == "Z"


# --- workers ----------------------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """One `agent-mail serve`: a place to listen, and the process that does so now."""

    name: str
    command: Sequence[str]
    settings: Mapping[str, str]
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What its processes have written, one after the other."""
        return self.folder / "log"

    @property
    def pid(self) -> int:
        """Of the process that serves now."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start its process; it is not ready yet. From the main thread: the kernel ends it with the thread."""
        command = list(self.command)
        if (setpriv := shutil.which("setpriv")) is not None:
            command = [setpriv, "--pdeathsig", "KILL", *command]
        settings = {"PORT": str(self.port), **self.settings}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=clean_environment(self.folder, settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Whether it answers that it is; NotReady when its process has ended."""
        if self.process is None or self.process.poll() is not None:
            raise NotReady(f"{self.name} ended:\n{self.tail()}")
        try:
            with urllib.request.urlopen(self.url + "/ready", timeout=5):
                return listens(self.pid, self.port)
        except (urllib.error.URLError, OSError):
            return False

    async def ready(self) -> None:
        """Wait until it is ready."""
        await until(self.is_ready, self.name)

    def send(self, number: signal.Signals) -> None:
        """To every process of its group."""
        os.killpg(self.pid, number)

    async def ended(self) -> None:
        """Wait until its process has ended."""
        assert self.process is not None
        process = self.process
        await until(lambda: process.poll() is not None, f"{self.name} should end", STOP_TIMEOUT)

    def tail(self) -> str:
        """The last lines that it wrote."""
        return self.log.read_text(errors="replace")[-3000:]


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

    async def ready(self) -> None:
        """Wait until every worker is."""
        await asyncio.gather(*(worker.ready() for worker in self.workers))

    async def flush_redis(self) -> None:
        """Forget everything that Redis keeps."""
        async with redis.asyncio.Redis.from_url(self.valkey.url) as client:
            await client.flushall()


@contextmanager
def running_cluster(
    workers: int, command: Sequence[str] | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """PostgreSQL, Valkey, a migrated database and started workers; `command` runs instead of `agent-mail serve`."""
    with ExitStack() as stack:
        postgres = Postgres(stack.enter_context(servers.running_postgres(durable=True)))
        stack.callback(postgres.close)
        valkey = stack.enter_context(valkey_server())
        servers.query(postgres.url, "CREATE DATABASE agent_mail")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-mail-cluster-")))
        cluster = Cluster(postgres, valkey, servers.with_database(postgres.url, "agent_mail"))
        migrate(cluster.database_url, folder)
        values = {
            "DATABASE_URL": cluster.database_url,
            "REDIS_URL": valkey.url,
            **SETTINGS,
            **(settings or {}),
        }
        for number in range(1, workers + 1):
            home = folder / f"worker-{number}"
            home.mkdir()
            worker = Worker(f"worker {number}", command or agent_mail("serve"), values, servers.free_port(), home)
            cluster.workers.append(worker)
            worker.start()
            stack.callback(end, worker)
        yield cluster


def end(worker: Worker) -> None:
    """Politely, then by force; also when it is paused."""
    assert worker.process is not None
    if worker.process.poll() is None:
        worker.send(signal.SIGCONT)
    stop(worker.process)


def migrate(database_url: str, folder: Path) -> None:
    """Bring a database to the schema."""
    environment = clean_environment(folder, {"DATABASE_URL": database_url})
    subprocess.run(agent_mail("migrate"), cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
