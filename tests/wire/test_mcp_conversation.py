"""Two agents of the official client talk through whole servers, in both eras."""

import asyncio
from typing import Any, Literal

import httpx2
import pytest
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client

from agent_mail_server.operations import OPERATIONS
from tests.wire.asgi_client import until
from tests.wire.mcp_serving import serving
from tests.wire.server import Place, fleet


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_two_agents_exchange_mail(mode: Literal["auto", "legacy"], place: Place) -> None:
    async with (
        fleet(place) as server,
        serving(server.asgi) as url,
        httpx2.AsyncClient(timeout=httpx2.Timeout(10)) as web,
        McpClient(streamable_http_client(url, http_client=web), mode=mode) as client,
    ):
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == [row.name for row in OPERATIONS if row.is_tool]

        async def call(tool: str, /, **arguments: Any) -> Any:
            result = await client.call_tool(tool, arguments)  # checks it against the output schema
            assert not result.is_error, result.content
            return result.structured_content

        await call("ensure_project", human_key="/code/shop", slug="shop")
        for agent in ("Ann", "Bob"):
            await call("register_agent", project_slug="shop", program="pytest", model="none", name=agent)
        bob = {"project_slug": "shop", "agent_name": "Bob"}
        nothing = await call("check_inbox", **bob)
        waiting = asyncio.create_task(call("wait_for_messages", **bob, cursor=nothing["cursor"], timeout_seconds=20))
        await until(lambda: server.waiting == 1)
        sent = await call(
            "send_message",
            project_slug="shop",
            sender_name="Ann",
            recipient_names=["Bob"],
            subject="Hello",
            body_md="*Hi*",
            ack_required=True,
        )
        arrived = await waiting
        assert [message["message_id"] for message in arrived["messages"]] == [sent["message_id"]]
        await call(
            "reply_message", project_slug="shop", sender_name="Bob", message_id=sent["message_id"], body_md="Yes"
        )
        thread = await call("get_thread", project_slug="shop", thread_id=sent["thread_id"])
        assert [message["sender_name"] for message in thread["messages"]] == ["Ann", "Bob"]
        await call("acknowledge_message", **bob, message_id=sent["message_id"])
        assert await call("search_messages", query="hello", project_slug="shop")
        refused = await client.call_tool("check_inbox", {**bob, "agent_name": "Bobb"})
        assert refused.is_error
        await server.drain(5)
