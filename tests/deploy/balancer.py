"""The Caddyfile, run by a real Caddy, before servers of ours and before upstreams that misbehave on purpose.

Servers have the same port on several loopback addresses, as containers have on several addresses of their network.
"""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.deploy.names import Names, name_server
from tests.deploy.programs import ROOT, program
from tests.e2e.serving import Serving, agent_mail, clean_environment, stop, wait_until_ready
from tests.servers import free_port

CADDYFILE = ROOT / "deploy" / "caddy" / "Caddyfile"
START_TIMEOUT = 20.0


@dataclass
class Balancer:
    """A running one."""

    url: str
    names: Names
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def balancer(upstream_port: int, *addresses: str) -> Iterator[Balancer]:
    """Caddy with the project's own Caddyfile, before whatever listens at the addresses."""
    with tempfile.TemporaryDirectory(prefix="agent-mail-balancer-") as name, name_server(*addresses) as names:
        folder, port, health = Path(name), free_port(), free_port()
        environment = {
            "PATH": os.defpath,
            "HOME": name,
            "SITE_ADDRESS": f"http://:{port}",
            "HEALTH_PORT": str(health),
            "UPSTREAM_PORT": str(upstream_port),
            "UPSTREAM_RESOLVERS": f"resolvers 127.0.0.1:{names.port}",
        }
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program("caddy"), "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_until_healthy(process, f"http://127.0.0.1:{health}/", log)
            yield Balancer(f"http://127.0.0.1:{port}", names, process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # it waits for streams that a test left open
                process.kill()
                process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.read() == b"ok"
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


@contextmanager
def server_at(address: str, port: int) -> Iterator[Serving]:
    """`agent-mail serve` on one loopback address, with a database of its own."""
    with tempfile.TemporaryDirectory(prefix="agent-mail-serving-") as name, ExitStack() as stack:
        folder = Path(name)
        log = folder / "log"
        settings = {"HOST": address, "PORT": str(port), "DATABASE_URL": f"sqlite:///{folder}/mail.db"}
        settings |= {"LOG_FORMAT": "json", "LOG_LEVEL": "warning", "RATE_LIMIT_ENABLED": "false"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                agent_mail("serve"),
                cwd=folder,
                env=clean_environment(folder, settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stack.callback(stop, process)
        server = Serving(process, f"http://{address}:{port}", log)
        wait_until_ready(server)
        yield server


@dataclass
class Upstream:
    """One that does what a path says: `/echo` tells what it got, `/drop` hangs up unanswered, `/hold` never answers."""

    port: int
    requests: list[tuple[str, str]] = field(default_factory=list)
    client_left: threading.Event = field(default_factory=threading.Event)


@contextmanager
def upstream_at(address: str, port: int) -> Iterator[Upstream]:
    """Such an upstream, until the end of the block."""
    upstream = Upstream(port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            upstream.requests.append((self.command, self.path))
            if self.path == "/drop":
                self.close_connection = True
                return
            if self.path == "/hold":
                self.connection.settimeout(20)
                if self.connection.recv(1) == b"":
                    upstream.client_left.set()
                self.close_connection = True
                return
            told = str(self.headers).encode() + body
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that breaks off is what some tests are about."""

    with Server((address, port), Handler) as server:
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def deaf_at(address: str, port: int) -> Iterator[None]:
    """A port where connections are neither taken nor refused, as at the address of a container that was just killed."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(8):  # fill its queue; from then on the kernel drops what knocks
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield
