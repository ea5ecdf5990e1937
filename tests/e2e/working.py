"""`agent-mail worker` as a process: started, known to work, and gone afterwards. As serving.py does it for servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.serving import NotServing, agent_mail, clean_environment, stop

PATIENCE = 30.0


@dataclass
class Worker:
    """A job worker's process."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What it has logged under that name."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]
        return [line for line in found if line["event"] == event]

    def send(self, what: signal.Signals) -> None:
        """A signal to its process."""
        os.kill(self.process.pid, what)


@contextmanager
def working(command: list[str] | None = None, **settings: str) -> Iterator[Worker]:
    """A worker that has begun to work, on DATABASE_URL and REDIS_URL; `agent-mail worker`, or another command."""
    with tempfile.TemporaryDirectory(prefix="agent-mail-working-") as name:
        log = Path(name) / "log"
        values = {"LOG_FORMAT": "json", "LOG_LEVEL": "info", **settings}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command or agent_mail("worker"),
                cwd=name,
                env=clean_environment(Path(name), values),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(process, log)
        try:
            until(lambda: bool(worker.lines("working")) or process.poll() is not None)
            if process.poll() is not None:
                raise NotServing(f"ended with {process.returncode}:\n{log.read_text()[-4000:]}")
            yield worker
        finally:
            if process.poll() is None:
                worker.send(signal.SIGCONT)
            stop(process)


def until(holds: Callable[[], bool], patience: float = PATIENCE) -> float:
    """Seconds until it holds; fails when it does not."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < patience, "it did not come to hold"
        time.sleep(0.02)
    return time.monotonic() - began
