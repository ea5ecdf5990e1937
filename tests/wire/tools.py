"""Tools of a whole server, called over its MCP endpoint as a stateless client does."""

import json
from typing import Any

import httpx

from tests.wire.asgi_client import BOTH, MODERN


async def call_tool(client: httpx.AsyncClient, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the tool answers; an error as `{"error": …}`."""
    result = await _ask(client, "tools/call", {"name": name, "arguments": arguments}, {"mcp-name": name})
    answer: dict[str, Any] = json.loads(result["content"][0]["text"])
    assert result["isError"] is ("error" in answer)
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
    result: dict[str, Any] = (await client.post("/mcp", json=message, headers=given)).json()["result"]
    return result
