"""The measure for MCP: the SDK's own session manager, stateless and answering in JSON, with a tool equal to health.

`python -m bench.sdk PORT WORKERS`, served as Agent Mail is. Its sessions live in one process, so that several workers
can only be had without any.
"""

from __future__ import annotations

import json
import time
from typing import Any

from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from bench.baseline import constant, main, serve

STARTED = time.monotonic()
OUTPUT = {
    "type": "object",
    "properties": {
        "status": {"const": "healthy", "type": "string"},
        "version": {"type": "string"},
        "uptime_seconds": {"type": "number"},
    },
    "required": ["status", "version", "uptime_seconds"],
}
HEALTH = Tool(
    name="health",
    description="Say that the server lives.",
    input_schema={"type": "object", "properties": {}, "additionalProperties": False},
    output_schema=OUTPUT,
)


async def list_tools(context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
    """The one tool."""
    return ListToolsResult(tools=[HEALTH])


async def call_tool(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
    """As Agent Mail's health: structured, and the same as text."""
    answer = {"status": "healthy", "version": "0.0.0", "uptime_seconds": round(time.monotonic() - STARTED, 3)}
    text = TextContent(type="text", text=json.dumps(answer, separators=(",", ":")))
    return CallToolResult(content=[text], structured_content=answer)


async def serve_sdk(port: int) -> None:
    """Serve until the process ends."""
    server = Server[Any]("bench", version="0.0.0", on_list_tools=list_tools, on_call_tool=call_tool)
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
    routes = [Route("/health", constant), Mount("/mcp", manager.handle_request), Mount("/", manager.handle_request)]
    async with manager.run():
        await serve(Starlette(routes=routes), port)


if __name__ == "__main__":
    main(serve_sdk)
