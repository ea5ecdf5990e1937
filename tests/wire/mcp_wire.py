"""The MCP endpoint without the rest of the server, on one worker or several, with operations to test it by."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, ClassVar, cast

from mcp.server import Server
from starlette.types import Receive, Scope, Send

from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_core.clock import SystemClock
from agent_mail_core.fields import NoArguments, Request, Result
from agent_mail_core.ports import App, Caller, Role, Store
from agent_mail_core.presence import PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_server.mcp import McpEndpoint
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import OPERATIONS, Operation
from tests.contract.clusters import Worker, memory_worker, redis_workers


@dataclass
class Bench:
    """What the test operations do, and what was seen of them."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)


BENCHES: dict[int, Bench] = {}


class Done(Result):
    text: str
    nothing: str | None = None
    at: datetime = datetime(2026, 11, 22, tzinfo=UTC)


class Echo(Request):
    text: str


async def echo(app: App, caller: Caller, request: Echo) -> Done:
    """Say it again."""
    return Done(text=request.text)


async def _hold(app: App, name: str) -> Done:
    bench = BENCHES[id(app.sessions)]
    bench.begun.set()
    try:
        await bench.go_on.wait()
        bench.ended.append(f"{name} done")
    except asyncio.CancelledError:
        bench.ended.append(f"{name} cancelled")
        raise
    return Done(text=name)


async def wait_long(app: App, caller: Caller, request: NoArguments) -> Done:
    """Wait until told."""
    return await _hold(app, "wait")


async def read_slowly(app: App, caller: Caller, request: NoArguments) -> Done:
    """Read until told."""
    return await _hold(app, "read")


async def write_slowly(app: App, caller: Caller, request: NoArguments) -> Done:
    """Write until told."""
    return await _hold(app, "write")


async def break_down(app: App, caller: Caller, request: NoArguments) -> Done:
    """Fail as nobody foresaw."""
    raise ZeroDivisionError("the secret cause")


TEST_OPERATIONS = (
    *OPERATIONS,
    Operation(echo, ("GET /echo",), Role.reader),
    Operation(wait_long, ("GET /wait-long",), Role.reader, is_waiting=True),
    Operation(read_slowly, ("GET /read-slowly",), Role.reader),
    Operation(write_slowly, ("POST /write-slowly",), Role.writer),
    Operation(break_down, ("GET /break-down",), Role.reader),
)


class Workers:
    """The ports of the workers that a test has: none for one in memory, or several that requests alternate on."""

    current: ClassVar[Sequence[Worker]] = ()


@asynccontextmanager
async def alternating_workers(redis_url: str | None) -> AsyncIterator[None]:
    """Two workers on a Redis for what is made within the block; one in memory without."""
    if redis_url is None:
        yield
        return
    async with redis_workers(redis_url, 2) as both:
        Workers.current = both
        try:
            yield
        finally:
            Workers.current = ()


def make_app(settings: Settings | None = None, store: Store | None = None) -> App:
    """An app of the first worker; without a store only operations that need none can be called."""
    settings = settings or Settings()
    clock = SystemClock()
    ports = Workers.current[0] if Workers.current else memory_worker()
    app = App(
        store=cast(Store, store),
        wakeups=ports.wakeups,
        presence=PresenceLog(clock),
        waiters=MemoryWaiters(settings.max_waiters),
        sessions=ports.sessions,
        signals=ports.signals,
        replies=ports.replies,
        stream_log=ports.stream_log,
        subscriptions=ports.subscriptions,
        limits=ports.limits,
        metrics=ServerMetrics(),
        clock=clock,
        settings=settings,
        version="1.2.3",
        started_at=clock.now(),
        is_draining=lambda: False,
    )
    BENCHES[id(app.sessions)] = Bench()
    return app


def bench_of(app: App) -> Bench:
    return BENCHES[id(app.sessions)]


class Alternating:
    """Endpoints of several workers: each request goes to the next."""

    def __init__(self, endpoints: Sequence[McpEndpoint]) -> None:
        self.endpoints = endpoints
        self._next = cycle(endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await next(self._next)(scope, receive, send)

    async def close(self, **options: Any) -> None:
        await asyncio.gather(*(endpoint.close(**options) for endpoint in self.endpoints))

    @property
    def held(self) -> int:
        """How many streams are held open."""
        return sum(len(endpoint._held) for endpoint in self.endpoints)


Served = Callable[[App], Server[Any]]


def make_endpoint(
    app: App,
    operations: Iterable[Operation] = TEST_OPERATIONS,
    server: Served | None = None,
    alternates: bool = True,
    stores: Sequence[Store] = (),
    **options: Any,
) -> Alternating:
    """The endpoints of all workers; of the first one alone unless it `alternates`. `stores` are the others' own."""
    apps = [app]
    for number, ports in enumerate(Workers.current[1:] if alternates else ()):
        names = ("wakeups", "sessions", "signals", "replies", "stream_log", "subscriptions", "limits")
        store = stores[number] if stores else app.store
        apps.append(replace(app, store=store, **{name: getattr(ports, name) for name in names}))
        BENCHES[id(ports.sessions)] = bench_of(app)
    return Alternating(
        [
            McpEndpoint(each, ServerMetrics(), operations, server=server(each) if server else None, **options)
            for each in apps
        ]
    )
