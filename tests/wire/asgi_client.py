"""A client for an MCP endpoint in the process: it sees every event of an answer, and can leave in the middle of one.

It is a tiny ASGI server, so nothing lies between the test and the endpoint.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from starlette.types import ASGIApp

from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Caller, Role

MODERN = "2026-07-28"
HANDSHAKES = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
ANN = Caller(TeamId(1), Principal("local"), Role.admin, "request-1")
BOTH = "application/json, text/event-stream"


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
