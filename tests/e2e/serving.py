"""`agent-mail` as a process: started on a port of its own, proved to be the one that answers, and gone afterwards.

End-to-end tests and benchmarks share it. The process gets a clean environment and an empty working directory, so that
no `.env` or variable of the person who runs it has a say; what it writes is kept and shown when it does not start.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [str(ROOT / folder) for folder in ("libs", "services", "migrations")]
START_TIMEOUT = 30.0
ENTRY_TIMEOUT = 30.0
"""Seconds in which a command that should end by itself has to end."""
TICKS = os.sysconf("SC_CLK_TCK")


class NotServing(Exception):
    """A server ended or did not become ready; says what it wrote."""


def agent_mail(*arguments: str) -> list[str]:
    """The command line of `agent-mail`, from this tree and this Python, installed or not."""
    return [sys.executable, "-c", "from agent_mail_cli.main import main; main()", *arguments]


def clean_environment(folder: Path, settings: dict[str, str]) -> dict[str, str]:
    """What a process of ours sees: its settings, and nothing of this process's own."""
    sources = os.pathsep.join([*SOURCES, str(ROOT)])
    return {"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": sources, "LC_ALL": "C.UTF-8", **settings}


@dataclass
class Serving:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def port(self) -> int:
        """Where it listens, on the loopback address."""
        return int(self.url.rpartition(":")[2])

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL to all its processes at once, as when the machine takes them away."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def get(self, path: str) -> Any:
        """The JSON answer to a GET."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def serving(database_url: str, **settings: str) -> Iterator[Serving]:
    """`agent-mail serve` on a database, ready; stopped politely at the end, and by force if that takes over 15 s."""
    port = free_port()
    values = {
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "warning",
        "DRAIN_SECONDS": "0",
    }
    values |= settings
    with started(agent_mail("serve"), port, values) as server:
        yield server


@contextmanager
def started(command: list[str], port: int, settings: dict[str, str], ready_path: str = "/ready") -> Iterator[Serving]:
    """A command that listens on a port, ready; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="agent-mail-serving-") as name:
        folder = Path(name)
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=clean_environment(folder, settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Serving(process, f"http://127.0.0.1:{port}", log)
        try:
            wait_until_ready(server, ready_path)
            yield server
        finally:
            stop(process)


def wait_until_ready(server: Serving, path: str = "/ready") -> None:
    """Return when it answers and the listener is its own; raise NotServing when it ended or took too long."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        if server.process.poll() is not None:
            raise NotServing(f"ended with {server.process.returncode}:\n{server.output[-4000:]}")
        try:
            server.get(path)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise NotServing(f"not ready after {START_TIMEOUT:.0f} s: {error}\n{server.output[-4000:]}") from None
            time.sleep(0.02)
            continue
        if not listens(server.process.pid, server.port):
            raise NotServing(f"another process answers on port {server.port}")
        return


def stop(process: subprocess.Popen[bytes], patience: float = 15.0) -> int:
    """SIGTERM, then SIGKILL to whatever is left of its group; the exit status."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


# --- what the kernel tells about processes ----------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            parents[int(entry)] = int(fields[1])
    found = [pid]
    for member in found:  # grows while we go through it
        found += [child for child, parent in parents.items() if parent == member]
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, that a process and its descendants have used, those that ended included."""
    ticks = 0
    for member in family(pid):
        if fields := stat(member):
            ticks += sum(map(int, fields[11:15]))  # utime, stime, and both of the children that were waited for
    return ticks / TICKS


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, state first; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def listens(pid: int, port: int) -> bool:
    """Whether a port's listener belongs to the process or a descendant; True where the system cannot tell."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        return True
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    listeners = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    for member in family(pid):
        try:
            descriptors = list(Path(f"/proc/{member}/fd").iterdir())
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                if os.readlink(descriptor) in listeners:
                    return True
            except OSError:
                continue
    return False
