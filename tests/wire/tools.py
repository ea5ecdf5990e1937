"""Tools of a whole server, called over its MCP endpoint as a stateless client does."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from tests.wire.asgi_client import BOTH, MODERN


async def call_tool(
    client: httpx.AsyncClient, name: str, arguments: dict[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the tool answers; an error as `{"error": …}`."""
    given = {"mcp-name": name, **(headers or {})}
    result = await _ask(client, "tools/call", {"name": name, "arguments": arguments}, given)
    answer: dict[str, Any] = json.loads(result["content"][0]["text"])
    assert result["isError"] is ("error" in answer)
    assert ("structuredContent" not in result) if result["isError"] else (result["structuredContent"] == answer)
    return answer


async def tool_names(client: httpx.AsyncClient) -> set[str]:
    """All tools that are listed."""
    return {tool["name"] for tool in (await _ask(client, "tools/list", {}, {}))["tools"]}


async def _ask(
    client: httpx.AsyncClient, method: str, params: dict[str, Any], headers: dict[str, str]
) -> dict[str, Any]:
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    given = {"mcp-protocol-version": MODERN, "mcp-method": method, "accept": BOTH, **headers}
    response = await client.post("/mcp", json=message, headers=given)
    result: dict[str, Any] = _message(response)["result"]
    return result


def _message(response: httpx.Response) -> dict[str, Any]:
    """The JSON-RPC message of an answer; the last one of a stream, which is how calls that wait are answered."""
    if response.headers["content-type"] != "text/event-stream":
        message: dict[str, Any] = response.json()
        return message
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    last: dict[str, Any] = json.loads(events[-1])
    return last
