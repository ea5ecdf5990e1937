"""The official client against the endpoint on a socket, in both eras."""

import asyncio
from typing import Literal

import httpx2
import pytest
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from agent_mail_server.mcp_streams import Pace
from agent_mail_server.operations import OPERATIONS
from tests.wire.asgi_client import HANDSHAKES, MODERN, until
from tests.wire.mcp_serving import serving, with_caller
from tests.wire.mcp_wire import bench_of, make_app, make_endpoint

pytestmark = pytest.mark.usefixtures("workers")

MODES: list[Literal["auto", "legacy"]] = ["auto", "legacy"]
REVISION = {"auto": MODERN, "legacy": HANDSHAKES[-1]}


def http() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=httpx2.Timeout(10))


@pytest.mark.parametrize("mode", MODES)
async def test_it_lists_and_calls(mode: Literal["auto", "legacy"]) -> None:
    endpoint = make_endpoint(make_app())
    async with (
        serving(with_caller(endpoint)) as url,
        http() as web,
        McpClient(streamable_http_client(url, http_client=web), mode=mode) as client,
    ):
        assert client.session.protocol_version == REVISION[mode]
        assert client.server_info is not None
        assert client.server_info.name == "agent-mail"
        assert "register_agent" in (client.instructions or "")
        tools = (await client.list_tools()).tools
        names = [operation.name for operation in OPERATIONS if operation.is_tool]
        assert [tool.name for tool in tools][: len(names)] == names
        for _ in range(3):
            result = await client.call_tool("health", {})
            assert not result.is_error
            assert result.structured_content["status"] == "healthy"
        refused = await client.call_tool("echo", {"txt": "x"})
        assert refused.is_error
        assert refused.structured_content is None
        with pytest.raises(MCPError, match="check_inbox"):
            await client.call_tool("chek_inbox", {})
        await endpoint.close()


@pytest.mark.parametrize("mode", MODES)
async def test_it_waits_with_progress(mode: Literal["auto", "legacy"]) -> None:
    app = make_app()
    endpoint = make_endpoint(app, pace=Pace(stream_after=0.01, tick=0.01))
    told: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)
        if len(told) == 3:
            bench_of(app).go_on.set()

    async with (
        serving(with_caller(endpoint)) as url,
        http() as web,
        McpClient(streamable_http_client(url, http_client=web), mode=mode) as client,
    ):
        result = await client.call_tool("wait_long", {}, progress_callback=on_progress)
        assert result.structured_content["text"] == "wait"
        assert len(told) >= 3
        await endpoint.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["wait_long", "read_slowly", "write_slowly"])
async def test_giving_up_stops_all_but_writes(mode: Literal["auto", "legacy"], name: str) -> None:
    app = make_app()
    bench = bench_of(app)
    endpoint = make_endpoint(app, pace=Pace(stream_after=0.01, tick=0.01))
    async with (
        serving(with_caller(endpoint)) as url,
        http() as web,
        McpClient(streamable_http_client(url, http_client=web), mode=mode) as client,
    ):
        call = asyncio.create_task(client.call_tool(name, {}))
        await bench.begun.wait()
        await asyncio.sleep(0.05)  # the server has begun to watch for the client's leaving
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        kind = name.split("_")[0]
        if kind == "write":
            await asyncio.sleep(0.05)
            assert bench.ended == []
            bench.go_on.set()
        await until(lambda: bench.ended)
        assert bench.ended == [f"{kind} {'done' if kind == 'write' else 'cancelled'}"]
        assert not (await client.call_tool("health", {})).is_error
        await endpoint.close()


async def test_a_stream_is_held_for_a_client_with_a_session() -> None:
    endpoint = make_endpoint(make_app())
    async with serving(with_caller(endpoint)) as url, http() as web:
        async with McpClient(streamable_http_client(url, http_client=web), mode="legacy") as client:
            await client.call_tool("health", {})
            await until(lambda: endpoint.held == 1)
        await until(lambda: endpoint.held == 0)
