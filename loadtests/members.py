"""Processes of a cluster that may be hurt, and started again in their places: server workers and job workers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.e2e.serving import clean_environment, listens, stat, stop

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0


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


@dataclass(kw_only=True)
class Member:
    """A place, and the process that fills it now."""

    name: str
    command: Sequence[str]
    settings: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What its processes have written, one after the other."""
        return self.folder / "log"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start its process; it is not ready yet. From the main thread: the kernel ends it with the thread."""
        command = list(self.command)
        if (setpriv := shutil.which("setpriv")) is not None:
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=clean_environment(self.folder, dict(self.settings)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Whether it does its work; NotReady when its process has ended."""
        if self.process is None or self.process.poll() is not None:
            raise NotReady(f"{self.name} ended:\n{self.tail()}")
        return self._says_so()

    def _says_so(self) -> bool:
        raise NotImplementedError

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

    def end(self) -> None:
        """Politely, then by force; also when it is paused."""
        assert self.process is not None
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
        stop(self.process)

    def tail(self) -> str:
        """The last lines that it wrote."""
        return self.log.read_text(errors="replace")[-3000:]


@dataclass(kw_only=True)
class Worker(Member):
    """One `agent-mail serve`, on a port of its own."""

    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def _says_so(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/ready", timeout=5):
                return listens(self.pid, self.port)
        except (urllib.error.URLError, OSError):
            return False


@dataclass(kw_only=True)
class JobWorker(Member):
    """One `agent-mail worker`, which logs from INFO on, as JSON."""

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What its processes have logged under that name, but for lines that SIGKILL cut off."""
        found = []
        for line in self.log.read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError):
                found.append(orjson.loads(line))
        return [line for line in found if isinstance(line, dict) and line.get("event") == event]

    def _says_so(self) -> bool:
        return any(line["pid"] == self.pid for line in self.lines("working"))
