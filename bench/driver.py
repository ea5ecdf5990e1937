"""What a scenario works with: connections, seeded randomness, and a place for what was measured."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson

from bench.connection import Connection

SAMPLES = 5
Check = Callable[[int, bytes], bool]


def is_success(status: int, body: bytes) -> bool:
    """A REST answer that is no error."""
    return 200 <= status < 300


def is_tool_result(status: int, body: bytes) -> bool:
    """An MCP answer that holds a result: neither a protocol error nor `isError`."""
    return status == 200 and b'"structuredContent"' in body and b'"isError":true' not in body


class Driver:
    """One for all connections of a scenario."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.port: int = job["port"]
        self.seed: int = job["seed"]
        self.token: str = job.get("token", "")
        self.is_measuring = False
        self.latencies: dict[str, array[float]] = {}
        self.errors: Counter[str] = Counter()
        self.samples: list[str] = []
        self.connections: list[Connection] = []

    def connection(self) -> Connection:
        """A new one, watched so that no request waits for ever."""
        connection = Connection(self.port, self.token)
        self.connections.append(connection)
        return connection

    def random(self, number: int) -> random.Random:
        """Randomness of one connection, the same in every run."""
        return random.Random(f"{self.seed}:{number}")

    async def ask(self, connection: Connection, label: str, request: bytes, check: Check = is_success) -> bytes | None:
        """One measured exchange; None when it failed."""
        begun = time.perf_counter()
        try:
            status, body = await connection.exchange(request)
        except OSError as error:
            self.fail(label, f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.05)
            return None
        if not check(status, body):
            self.fail(label, f"{status} {body[:300].decode(errors='replace')}")
            return None
        self.note(label, time.perf_counter() - begun)
        return body

    def note(self, label: str, seconds: float) -> None:
        """Keep a latency, if the window is open."""
        if self.is_measuring:
            self.latencies.setdefault(label, array("d")).append(seconds)

    def fail(self, label: str, what: str) -> None:
        """Keep an error, if the window is open; a sample of it in any case."""
        if self.is_measuring:
            self.errors[label] += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(f"{label}: {what}")

    async def watch(self) -> None:
        """Abort requests that wait for too long."""
        while True:
            await asyncio.sleep(1)
            for connection in self.connections:
                if connection.is_overdue:
                    connection.abort()


async def must(connection: Connection, request: bytes) -> Any:
    """The answer's JSON, or the end of the run."""
    status, body = await connection.exchange(request)
    if not is_success(status, body):
        raise RuntimeError(f"{request[:80]!r} was answered {status}: {body[:500].decode(errors='replace')}")
    return orjson.loads(body)
