"""A Valkey that a test may pause, stop and start again at the same address."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import servers


@dataclass
class ValkeyServer:
    """One address, and the process that serves it now."""

    home: Path
    url: str
    port: int
    password: str
    process: subprocess.Popen[bytes]

    def pause(self) -> None:
        """It takes connections (the kernel does) and answers nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it was."""
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it: connections are reset, and all that it kept is gone."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again, empty."""
        self.process = servers.start_valkey(self.home, self.url, self.port, self.password)


@contextmanager
def valkey_server() -> Iterator[ValkeyServer]:
    """A server of one's own."""
    with servers.private_directory("agent-mail-valkey-", None, in_memory=True) as home:
        password, port = secrets.token_hex(16), servers.free_port()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        server = ValkeyServer(home, url, port, password, servers.start_valkey(home, url, port, password))
        try:
            yield server
        finally:
            server.stop()
