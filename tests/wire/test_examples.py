"""Every row of the operations table over both transports: what REST answers on one server, MCP answers on another.

The servers are alike and empty at first; one gets its calls by REST, the other by MCP, in both eras by turns. What no
two servers can have in common (times, random names and ids, signed cursors) is masked in one place, `masked`.
"""

import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_mail_server.examples import EXAMPLES, Example
from agent_mail_server.operations import BY_NAME, Operation
from tests.wire.asgi_client import BOTH, HANDSHAKES, MODERN
from tests.wire.server import client_of, served

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

THREAD = re.compile(r"\bT-[0-9A-Z]{10}\b")
"""A thread whose key was generated."""

UNLIKE = {
    *{"cursor", "next_cursor", "older_cursor", "uptime_seconds", "request_id", "attachment_id", "age_seconds"},
    *{"commit", "commits", "secret"},
}
"""Fields whose values are a server's own. What is in one commit of the archive depends on when the job ran."""

RANDOM_TEXTS = {"suggest_agent_names", "metrics"}
"""Operations whose answers are compared by their shape alone."""


def masked(value: Any, shape_alone: bool = False) -> Any:
    """The value without what is a server's own."""
    match value:
        case dict():
            return {
                name: "…" if name in UNLIKE else masked(item, shape_alone or name == "dependencies")
                for name, item in value.items()
            }
        case list():
            return [masked(item, shape_alone) for item in value]
        case _ if shape_alone:
            return type(value).__name__
        case str():
            return masked_text(value)
        case _:
            return value


def masked_text(text: str) -> str:
    """A text without the times and the generated threads in it, which Markdown may escape."""
    return THREAD.sub("a thread", TIME.sub("a time", text.replace("\\", "")))


@dataclass
class Side:
    """One of the two servers, and what its answers have told of ids that nobody knows before."""

    client: httpx.AsyncClient
    told: dict[str, Any] = field(default_factory=dict)

    def filled(self, example: Example) -> Example:
        """The example with the id that an answer has told."""
        return example.after(self.told[example.taken_from]) if example.taken_from is not None else example

    async def rest(self, example: Example) -> tuple[bool, Any]:
        """Whether it worked, and the body."""
        method, path, body = self.filled(example).request()
        return self._heard(example, await self.client.request(method, path, json=body))

    async def mcp(self, example: Example, version: str) -> tuple[bool, Any]:
        """The same as a tool; by REST what is no tool."""
        if not BY_NAME[example.operation].is_tool:
            return await self.rest(example)
        params: dict[str, Any] = {"name": example.operation, "arguments": dict(self.filled(example).arguments)}
        headers = {"accept": BOTH, "mcp-protocol-version": version}
        if version == MODERN:
            prefix = "io.modelcontextprotocol/"
            params["_meta"] = {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}
            headers |= {"mcp-method": "tools/call", "mcp-name": example.operation}
        else:
            headers["mcp-session-id"] = await self.session(version)
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        response = await self.client.post("/mcp", json=message, headers=headers)
        if response.headers["content-type"] == "text/event-stream":
            data = [line for line in response.text.splitlines() if line.startswith("data: {")]
            result = json.loads(data[-1][6:])["result"]
        else:
            result = response.json()["result"]
        answer = json.loads(result["content"][0]["text"])
        assert ("structuredContent" not in result) if result["isError"] else (result["structuredContent"] == answer)
        self.told[example.operation] = answer
        return not result["isError"], answer

    async def session(self, version: str) -> str:
        """A session of the era that has them."""
        if version not in self.told:
            params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
            message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
            response = await self.client.post("/mcp", json=message, headers={"accept": BOTH})
            self.told[version] = response.headers["mcp-session-id"]
        session_id: str = self.told[version]
        return session_id

    def _heard(self, example: Example, response: httpx.Response) -> tuple[bool, Any]:
        kind = response.headers["content-type"].partition(";")[0]
        answer = response.json() if kind == "application/json" else response.text
        self.told[example.operation] = answer
        return response.is_success, answer


@pytest.fixture
async def sides(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    """Two servers, each on an empty database of its own."""
    async with AsyncExitStack() as stack:
        clients = []
        for name in ("rest", "mcp"):
            path = shutil.copyfile(sqlite_template, tmp_path / f"{name}.db")
            server = await stack.enter_async_context(served(f"sqlite:///{path}"))
            clients.append(await stack.enter_async_context(client_of(server)))
        yield Side(clients[0]), Side(clients[1])


def version_of(turn: int) -> str:
    """The eras by turns, and of the elder one revision after the other."""
    return MODERN if turn % 2 else HANDSHAKES[turn // 2 % len(HANDSHAKES)]


async def compare(sides: tuple[Side, Side], turn: int, example: Example) -> tuple[bool, Any]:
    """Perform it on both sides; what it answers, when both answer the same."""
    by_rest, by_mcp = await sides[0].rest(example), await sides[1].mcp(example, version_of(turn))
    shape_alone = example.operation in RANDOM_TEXTS
    assert by_rest[0] is by_mcp[0], (example, by_rest, by_mcp)
    if isinstance(by_rest[1], str):  # a download
        other = by_mcp[1]
        text = other if isinstance(other, str) else base64.b64decode(other["content_base64"]).decode()
        assert masked_text(by_rest[1]) == masked_text(text), example
        return by_rest
    assert masked(by_rest[1], shape_alone) == masked(by_mcp[1], shape_alone), example
    return by_rest


async def test_every_example_is_answered_alike(sides: tuple[Side, Side]) -> None:
    for turn, example in enumerate(EXAMPLES):
        works, answer = await compare(sides, turn, example)
        assert works, (example, answer)


# --- errors -----------------------------------------------------------------------------------------------------------

UNKNOWN: dict[str, Any] = {
    "project_slug": "shoq",
    "agent_name": "BlueLaka",
    "sender_name": "BlueLaka",
    "from_agent": "BlueLaka",
    "requester_name": "BlueLaka",
    "message_id": 987_654,
    "message_ids": [987_654],
    "parent_id": 987_654,
    "thread_id": "FEAT-124",
    "product_name": "Store fronts",
    "attachment_id": "f" * 32,
    "review_id": 987_654,
    "webhook_id": 987_654,
    "delivery_id": 987_654,
}
"""For every argument that names something: the name of what there is not."""

MISTYPED: dict[type, Any] = {str: 7, int: "seven", bool: "perhaps", list: {"a": 1}, float: "long"}


def wrong_calls() -> list[Example]:
    """For each operation: no arguments, one too many, one of another type, and each name that names nothing."""
    calls = []
    for example in {example.operation: example for example in reversed(EXAMPLES)}.values():
        operation = BY_NAME[example.operation]
        arguments = dict(example.arguments)
        in_path = set(Operation.path_fields(operation.routes[0]))
        calls.append(Example(operation.name, {name: arguments[name] for name in in_path}))
        calls.append(Example(operation.name, {**arguments, "projekt_slug": "shop"}))
        calls.append(Example(operation.name, {**arguments, "\u00e4": "x"}))
        calls += [
            Example(operation.name, {**arguments, name: nothing})
            for name, nothing in UNKNOWN.items()
            if name in operation.request_type.model_fields and not (name in in_path and example.taken_from)
        ]
        if operation.routes[0].startswith("POST"):
            for name, value in arguments.items():
                if name not in in_path:
                    calls.append(Example(operation.name, {**arguments, name: MISTYPED[type(value)]}))
    return [call for call in calls if call != Example("delete_project", {"project_slug": "shop"})]


async def test_every_error_is_answered_alike(sides: tuple[Side, Side]) -> None:
    """On servers where all the examples have been done up to the one that retires an agent."""
    for example in EXAMPLES:
        if example.operation in ("retire_agent", "delete_project"):
            break
        for side in sides:
            await side.rest(example)
    codes = set()
    for turn, call in enumerate(wrong_calls()):
        works, answer = await compare(sides, turn, call)
        if not works:
            assert set(answer) == {"error"}
            codes.add(answer["error"]["code"])
    assert codes >= {"invalid_arguments", "project_not_found", "agent_not_found", "message_not_found"}
    assert codes >= {"thread_not_found", "product_not_found", "attachment_not_found"}
    assert "internal" not in codes
