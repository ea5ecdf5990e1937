"""Runs the official conformance suite against two workers that share a real Valkey: `make conformance`.

Every request reaches a random worker. For each revision the suite runs what the revision requires, which is scored, and
what it only reports; then everything that it has for the revision. Nothing but npm's packages comes from the network.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.servers import free_port, running_valkey

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
NODE = "node@22"
REVISIONS = ("2025-11-25", "2026-07-28")
WORKERS = 2
READY_PATIENCE = 30.0
RUN_PATIENCE = 300.0
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def worker(port: int, redis_url: str) -> Iterator[None]:
    """A worker process."""
    paths = [str(ROOT / part) for part in ("libs", "services", "migrations", ".")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "tests.conformance.worker", str(port), redis_url]
    process = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Balancer:
    """Brings each connection to a random worker."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self.served: Counter[int] = Counter()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Takes connections inside the block; the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield port
        finally:
            server.close()

    async def until_ready(self) -> None:
        """Return when every worker takes connections."""
        async with asyncio.timeout(READY_PATIENCE):
            for port in self._ports:
                while True:
                    with suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        break
                    await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = random.choice(self._ports)
        self.served[port] += 1
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
        ways = [_copy(reader, onward_writer), _copy(onward_reader, writer)]
        await asyncio.wait([asyncio.create_task(way) for way in ways])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def suite(url: str, selection: list[str], results: Path) -> tuple[bool, str]:
    """Run the suite; whether all that it scores has passed, and its report."""
    command = ["npx", "--yes", f"--package={NODE}", f"--package={SUITE}", "--", "conformance", "server", "--url", url]
    process = await asyncio.create_subprocess_exec(
        *command,
        *selection,
        "--output-dir",
        str(results),
        cwd=results,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(RUN_PATIENCE):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        return False, f"The suite was not done after {RUN_PATIENCE:.0f} s."
    report = output.decode(errors="replace")
    found = re.search(r"^=== SUMMARY ===$.*", report, re.MULTILINE | re.DOTALL)
    return process.returncode == 0, found[0] if found else report[-4000:]


async def run(revisions: list[str], results: Path) -> int:
    """Run everything; the number of runs that failed."""
    failed = 0
    ports = [free_port() for _ in range(WORKERS)]
    balancer = Balancer(ports)
    with running_valkey() as redis_url, worker(ports[0], redis_url), worker(ports[1], redis_url):
        await balancer.until_ready()
        async with balancer.listening() as port:
            url = f"http://127.0.0.1:{port}/mcp"
            for revision in revisions:
                for selection in (["--requirements", revision], ["--suite", "all", "--spec-version", revision]):
                    passed, report = await suite(url, selection, results)
                    is_scored = selection[0] == "--requirements"
                    failed += is_scored and not passed
                    print(f"\n##### {' '.join(selection)}{'' if is_scored else ' (for information)'}\n{report}")
    print("\nConnections by worker:", ", ".join(str(balancer.served[port]) for port in ports))
    print("All scored checks passed." if not failed else f"{failed} of {len(revisions)} scored runs FAILED.")
    return failed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revision", choices=REVISIONS, action="append", help="this one alone")
    parser.add_argument("--results", type=Path, help="keep each check's result in this folder")
    arguments = parser.parse_args()
    revisions = arguments.revision or list(REVISIONS)
    if arguments.results is not None:
        arguments.results.mkdir(parents=True, exist_ok=True)
        return min(asyncio.run(run(revisions, arguments.results.resolve())), 1)
    with tempfile.TemporaryDirectory(prefix="agent-mail-conformance-") as results:
        return min(asyncio.run(run(revisions, Path(results))), 1)


if __name__ == "__main__":
    sys.exit(main())
