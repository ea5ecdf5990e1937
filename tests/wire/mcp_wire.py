"""The MCP endpoint without the rest of the server, on one worker or several, and a client for it in the process.

The client is a tiny ASGI server: it sees every event of an answer, and can leave in the middle of one.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, ClassVar, cast

from mcp.server import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_core.clock import SystemClock
from agent_mail_core.fields import NoArguments, Request, Result
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import App, Caller, Role, Store
from agent_mail_core.presence import PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_server.mcp import McpEndpoint
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import OPERATIONS, Operation
from tests.contract.clusters import Worker, memory_worker, redis_workers

MODERN = "2026-07-28"
HANDSHAKES = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
ANN = Caller(TeamId(1), Principal("local"), Role.admin, "request-1")
BOTH = "application/json, text/event-stream"


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


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    id: str | None
    message: Any


class Answer:
    """An answer as it comes in."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        self._news = asyncio.Event()
        self._leave = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def receive_after_body(self) -> dict[str, Any]:
        await self._leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        if event["type"] == "http.response.start":
            assert self.status == 0, "the answer began twice"
            self.status = event["status"]
            self.headers = {name.decode(): value.decode() for name, value in event["headers"]}
        else:
            assert self.status, "a body before its head"
            assert not self.is_complete, "something came after the end"
            self.body += event.get("body", b"")
            self.is_complete = not event.get("more_body", False)
        self._news.set()

    def leave(self) -> None:
        """Close the connection."""
        self._leave.set()

    async def until(self, text: bytes) -> None:
        """Return when the body holds the text."""
        async with asyncio.timeout(5):
            while text not in self.body:
                self._news.clear()
                await self._news.wait()

    async def begun(self) -> None:
        """Return when the head is there."""
        async with asyncio.timeout(5):
            while not self.status:
                self._news.clear()
                await self._news.wait()

    async def complete(self) -> "Answer":
        assert self.task is not None
        async with asyncio.timeout(5):
            await self.task
        return self

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    @property
    def json(self) -> Any:
        assert self.headers.get("content-type") == "application/json", (self.status, self.headers, self.body)
        assert int(self.headers["content-length"]) == len(self.body)
        return json.loads(self.body)

    @property
    def messages(self) -> list[Any]:
        """The JSON-RPC messages of a stream."""
        return [event.message for event in self.events if event.message is not None]

    @property
    def events(self) -> list["Event"]:
        """The events of a stream that are whole, those without a message too."""
        assert self.is_stream
        blocks = self.body.decode().split("\r\n\r\n")[:-1]
        events = [
            dict(line.split(": ", 1) for line in block.split("\r\n") if not line.startswith(":")) for block in blocks
        ]
        return [
            Event(event.get("id"), json.loads(event["data"]) if event.get("data") else None)
            for event in events
            if "data" in event
        ]

    @property
    def last_event_id(self) -> str:
        """What a client says to go on after what it has."""
        return [event.id for event in self.events if event.id is not None][-1]


class Client:
    """Calls an ASGI application in the process."""

    def __init__(self, app: ASGIApp, caller: Caller = ANN) -> None:
        self._app = app
        self.caller = caller
        self.session_id: str | None = None
        self.version: str | None = None

    def as_caller(self, **changes: Any) -> "Client":
        """The same client with another credential."""
        other = Client(self._app, replace(self.caller, **changes))
        other.session_id, other.version = self.session_id, self.version
        return other

    def open(
        self,
        method: str,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        query: str = "",
        chunks: Iterable[bytes] | None = None,
    ) -> Answer:
        """Send a request; its answer comes while others are sent."""
        answer = Answer()
        pieces = list(chunks) if chunks is not None else [body]
        events: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
            for number, piece in enumerate(pieces)
        ]

        async def receive() -> Any:
            return events.pop(0) if events else await answer.receive_after_body()

        scope = {
            "type": "http",
            "method": method,
            "path": "/mcp",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "state": {"caller": self.caller},
        }
        answer.task = asyncio.create_task(cast(Any, self._app(scope, receive, answer.send)))
        return answer

    async def request(self, method: str, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> Answer:
        return await self.open(method, body, headers).complete()

    def headers(self, message: Any = None, accept: str = BOTH) -> list[tuple[str, str]]:
        """The headers that a client of the chosen revision sends."""
        headers = [("content-type", "application/json"), ("accept", accept)]
        if self.session_id is not None:
            headers.append(("mcp-session-id", self.session_id))
        if self.version is not None:
            headers.append(("mcp-protocol-version", self.version))
        if self.version == MODERN and isinstance(message, dict):
            headers.append(("mcp-method", str(message.get("method"))))
            name = (message.get("params") or {}).get("name")
            if isinstance(name, str):
                headers.append(("mcp-name", name))
        return headers

    def message(self, method: str, params: dict[str, Any] | None = None, message_id: Any = 1) -> dict[str, Any]:
        """A request of the chosen revision."""
        params = dict(params or {})
        if self.version == MODERN:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                **params.get("_meta", {}),
            }
        return {"jsonrpc": "2.0", "id": message_id, "method": method, "params": params}

    def post(self, message: Any, accept: str = BOTH, query: str = "") -> Answer:
        return self.open("POST", json.dumps(message).encode(), self.headers(message, accept), query)

    async def call(
        self, method: str, params: dict[str, Any] | None = None, *, accept: str = BOTH, query: str = ""
    ) -> Answer:
        return await self.post(self.message(method, params), accept, query).complete()

    def tool(
        self, name: str, arguments: Any = None, *, message_id: Any = 1, token: Any = None, accept: str = BOTH
    ) -> Answer:
        params: dict[str, Any] = {"name": name, "arguments": arguments or {}}
        if token is not None:
            params["_meta"] = {"progressToken": token}
        return self.post(self.message("tools/call", params, message_id), accept)

    async def initialize(self, version: str, **changes: Any) -> Answer:
        """Begin a session, or nothing in the revision that has none."""
        params = {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
            **changes,
        }
        answer = await self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).complete()
        self.session_id = answer.headers.get("mcp-session-id")
        self.version = version
        return answer

    async def speak(self, version: str) -> "Client":
        """Be ready to call in a revision."""
        if version == MODERN:
            self.version = MODERN
        else:
            assert (await self.initialize(version)).status == 200
        return self


async def until(is_so: Callable[[], object]) -> None:
    """Return when something is so that nobody tells of."""
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.005)
