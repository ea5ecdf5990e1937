"""Whole servers in this process, without a listener: what REST and page tests talk to.

`served` is one of them, on SQLite; `fleet` is what a `Place` has, one or several whose requests alternate.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_mail_archive.opening import open_archive
from agent_mail_core.clock import SystemClock
from agent_mail_core.settings import Settings
from agent_mail_server.running import RunningServer, running_server
from agent_mail_store.opening import open_store
from agent_mail_worker.answering import answering
from agent_mail_worker.metrics import JobMetrics
from agent_mail_worker.working import working

URL = "http://127.0.0.1:8765"


@dataclass(frozen=True)
class Place:
    """A migrated, empty database, and how many workers serve it; several share a Redis. The fixture of that name."""

    database_url: str
    redis_url: str | None = None
    workers: int = 1


class Served(Protocol):
    """What has an application to talk to."""

    @property
    def asgi(self) -> ASGIApp: ...


@dataclass
class Fleet:
    """The servers of a place. Each request goes to the next of them, in the order in which requests begin."""

    servers: Sequence[RunningServer]
    taken: list[int] = field(default_factory=list)
    """How many requests each of them got."""

    def __post_init__(self) -> None:
        self.taken = [0] * len(self.servers)
        self._turns = cycle(range(len(self.servers)))

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The next server's application."""
        turn = next(self._turns)
        self.taken[turn] += 1
        await self.servers[turn].asgi(scope, receive, send)

    @property
    def waiting(self) -> int:
        """How many calls wait, on all of them."""
        return sum(server.metrics.waiting for server in self.servers)

    def paths(self) -> list[tuple[str, str]]:
        """Method and path of all routes."""
        routes = self.servers[0].asgi.routes
        return [(method, path) for path, methods in routes.paths() for method in methods]

    def calls(self, operation: str) -> int:
        """How often an operation was called, on all of them."""
        rows = [row for server in self.servers for row in server.metrics.snapshot().tools]
        return sum(row.calls for row in rows if row.operation == operation)

    async def drain(self, patience: float) -> None:
        """All of them, at once."""
        await asyncio.gather(*(server.drain(patience) for server in self.servers))


@asynccontextmanager
async def fleet(place: Place, **settings: Any) -> AsyncIterator[Fleet]:
    """The servers of a place, each with its own connections to the database and to Redis."""
    shared = {} if place.redis_url is None else {"redis_url": place.redis_url}
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(served(place.database_url, **shared, **settings))
            for _ in range(place.workers)
        ]
        if place.redis_url is not None:  # what is sent before they listen to each other comes a second later
            for server in servers:
                await until(lambda: not server.cluster.is_lossy())  # noqa: B023 - awaited in the same turn
        yield Fleet(servers)


@asynccontextmanager
async def fleet_with_worker(place: Place) -> AsyncIterator[Fleet]:
    """The same, in a cluster with a job worker beside it, whom the servers ask for the archive."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(fleet(place))
        if place.redis_url is not None:
            worker = servers.servers[0]
            await stack.enter_async_context(working(worker.app, worker.cluster.hear_jobs, JobMetrics(), 1.0))
            await stack.enter_async_context(answering(worker.app, worker.cluster.questions))
        yield servers


@asynccontextmanager
async def served(database_url: str, **settings: Any) -> AsyncIterator[RunningServer]:
    """A server on a migrated database: for tests of what one process does, and keeps to itself."""
    chosen = Settings.model_validate({"database_url": database_url, **settings})
    store = await open_store(chosen, SystemClock(), single_server=False)
    try:
        with TemporaryDirectory() as root:
            async with (
                open_archive(chosen.model_copy(update={"archive_root": root})) as archive,
                running_server(chosen, store, archive=archive) as server,
            ):
                yield server
    finally:
        await store.close()


@asynccontextmanager
async def client_of(server: Served, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that speaks to the application itself. What the application raises is raised here."""
    transport = httpx.ASGITransport(server.asgi)
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
        yield client


async def until(holds: Callable[[], bool]) -> None:
    """Return when it holds; fail after five seconds."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def furnish(client: httpx.AsyncClient, *agents: str) -> None:
    """The project `shop` with agents."""
    await post(client, "project/ensure", human_key="/code/shop", slug="shop")
    for name in agents:
        await post(client, "agent/register", project_slug="shop", program="pytest", model="none", name=name)


async def post(client: httpx.AsyncClient, path: str, **arguments: Any) -> Any:
    """The result of a write that must succeed."""
    response = await client.post(f"/api/{path}", json=arguments)
    assert response.is_success, response.text
    return response.json()


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a refused request, in the one body that all have."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert list(error) == ["code", "message", "data", "request_id"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert isinstance(error["data"], dict)
    assert error["message"]
    return error
