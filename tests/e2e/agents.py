"""An agent's way to the server: the same calls by name, over REST or through the official MCP client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import jsonschema
from mcp import Client

ROUTES = {
    "ensure_project": "POST /api/project/ensure",
    "register_agent": "POST /api/agent/register",
    "send_message": "POST /api/message/send",
    "reply_message": "POST /api/message/reply",
    "check_inbox": "GET /api/inbox",
    "wait_for_messages": "GET /api/inbox/wait",
    "get_message": "GET /api/message/{message_id}",
    "mark_read": "POST /api/message/read",
    "acknowledge_message": "POST /api/message/acknowledge",
    "search_messages": "GET /api/message/search",
    "get_thread": "GET /api/thread/{thread_id}",
}
"""Written out rather than taken from the operations table: this is what clients rely on."""

CREATED = {"send_message", "reply_message"}


class Refused(Exception):
    """The server answered with an error; it carries the code."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]


class Call(Protocol):
    """Call an operation by name."""

    def __call__(self, operation: str, **arguments: Any) -> Coroutine[Any, Any, dict[str, Any]]:
        """Its result; raises Refused."""
        ...


Connect = Callable[[str], Any]
"""From a server's URL to a context that yields a Call."""


@asynccontextmanager
async def over_rest(url: str) -> AsyncIterator[Call]:
    """REST, with httpx."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def call(operation: str, **arguments: Any) -> dict[str, Any]:
            method, _, path = ROUTES[operation].partition(" ")
            in_path = {name: arguments.pop(name) for name in list(arguments) if f"{{{name}}}" in path}
            if method == "GET":
                response = await client.get(path.format(**in_path), params=arguments)
            else:
                response = await client.post(path.format(**in_path), json=arguments)
            body: dict[str, Any] = response.json()
            assert response.headers["x-request-id"]
            if response.is_error:
                raise Refused(body["error"])
            assert response.status_code == (201 if operation in CREATED else 200)
            return body

        yield call


@asynccontextmanager
async def over_mcp(url: str, mode: str) -> AsyncIterator[Call]:
    """MCP; every result is checked against the schema that the server advertised for it, and against its text form."""
    async with Client(f"{url}/mcp", mode=mode, read_timeout_seconds=60) as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}

        async def call(operation: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(operation, arguments)
            text = json.loads(getattr(result.content[0], "text", "null"))
            if result.is_error:
                assert result.structured_content is None
                raise Refused(text["error"])
            structured = result.structured_content
            assert isinstance(structured, dict)
            assert text == structured
            schema = schemas[operation]
            assert schema is not None
            jsonschema.validate(structured, schema, format_checker=jsonschema.FormatChecker())
            return structured

        yield call


def modern(url: str) -> Any:
    """The official client as it comes: it asks which revision the server speaks."""
    return over_mcp(url, "auto")


def legacy(url: str) -> Any:
    """The official client with a handshake and a session."""
    return over_mcp(url, "legacy")
