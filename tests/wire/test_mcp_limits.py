"""What a request of the MCP endpoint counts: once, whatever it is, but for notifications, replies and pings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.wire.asgi_client import BOTH, HANDSHAKES, MODERN
from tests.wire.server import URL, Fleet, Place, fleet, furnish

TOKEN = "a-token-of-some-length"
LATEST = HANDSHAKES[-1]
INBOX = "agentmail://project/shop/inbox/Ann"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@asynccontextmanager
async def limited(place: Place, reads: int) -> AsyncIterator[tuple[Fleet, httpx.AsyncClient]]:
    """Servers where a caller has so many reads, and its client."""
    settings = {"auth_mode": "bearer", "http_bearer_token": TOKEN, "rate_limit_reads": f"{reads}/minute"}
    async with fleet(place, **settings) as servers:
        transport = httpx.ASGITransport(servers.asgi, client=("10.0.0.9", 1234))
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": BOTH}
        async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
            yield servers, client


async def modern(client: httpx.AsyncClient, method: str, params: dict[str, Any]) -> httpx.Response:
    """A request of revision 2026-07-28."""
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    name = params.get("name", params.get("uri"))
    if name is not None:
        headers["Mcp-Name"] = name
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    return await client.post("/mcp", json=message, headers=headers)


async def left(client: httpx.AsyncClient, **query: str) -> int:
    """How many reads the caller has left, or the agent that the query names, once this one has been counted."""
    path = "/api/inbox" if query else "/api/project/list"
    answer = await client.get(path, params=query)
    budget, remaining, _ = answer.headers["ratelimit"].split(";")
    assert budget == '"reads"'
    return int(remaining.removeprefix("r="))


@pytest.mark.parametrize(
    "method, params",
    [
        ("server/discover", {}),
        ("tools/list", {}),
        ("tools/call", {"name": "list_projects", "arguments": {}}),
        ("tools/call", {"name": "list_projects", "arguments": {"limit": "many"}}),
        ("tools/call", {"name": "list_projects", "arguments": []}),
        ("tools/call", {"name": "no_such_tool", "arguments": {}}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("resources/read", {"uri": "agentmail://no/such/resource"}),
        ("resources/read", {}),
        ("no/such/method", {}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": 7}}),
    ],
    ids=str,
)
async def test_whatever_is_asked_counts_once_as_a_read(fresh_sqlite: str, method: str, params: dict[str, Any]) -> None:
    async with limited(Place(fresh_sqlite), reads=20) as (_, client):
        await modern(client, method, params)
        assert await left(client) == 18


async def test_past_the_budget_a_request_is_refused_with_when_to_come_back(place: Place) -> None:
    async with limited(place, reads=3) as (_, client):
        assert [(await modern(client, "tools/list", {})).status_code for _ in range(3)] == [200] * 3
        refused = await modern(client, "tools/list", {})
        assert refused.status_code == 429
        assert refused.json()["id"] == 1
        assert refused.json()["error"]["data"]["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit"].startswith('"reads";r=0;')
        unknown = await modern(client, "tools/call", {"name": "no_such_tool", "arguments": {}})
        assert unknown.status_code == 429


async def test_arguments_that_are_not_valid_cannot_be_tried_without_end(fresh_sqlite: str) -> None:
    async with limited(Place(fresh_sqlite), reads=3) as (_, client):
        call = {"name": "list_projects", "arguments": {"limit": "many"}}
        answers = [(await modern(client, "tools/call", call)).json()["result"] for _ in range(4)]
        codes = ["invalid_arguments" if "limit" in answer["content"][0]["text"] else "?" for answer in answers[:3]]
        assert codes == ["invalid_arguments"] * 3
        assert answers[3]["isError"]
        assert '"code":"rate_limited"' in answers[3]["content"][0]["text"]


@pytest.mark.parametrize(
    "content, headers",
    [
        (b"{", {}),
        (b"[]", {}),
        (b"{}", {"Accept": "text/html"}),
        (b"{}", {"Content-Type": "text/plain"}),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', {"MCP-Protocol-Version": MODERN}),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', {"Mcp-Session-Id": "none"}),
    ],
    ids=str,
)
async def test_what_the_transport_refuses_counts_too(
    fresh_sqlite: str, content: bytes, headers: dict[str, str]
) -> None:
    async with limited(Place(fresh_sqlite), reads=2) as (_, client):
        given = {"Content-Type": "application/json", **headers}
        statuses = [(await client.post("/mcp", content=content, headers=given)).status_code for _ in range(3)]
        assert statuses[0] == statuses[1] != 429
        assert 400 <= statuses[0] < 500
        assert statuses[2] == 429


async def test_reading_a_resource_counts_for_the_agent_whose_inbox_it_is(fresh_sqlite: str) -> None:
    async with limited(Place(fresh_sqlite), reads=20) as (_, client):
        await furnish(client, "Ann")
        assert (await modern(client, "resources/read", {"uri": INBOX})).status_code == 200
        assert await left(client, project_slug="shop", agent_name="Ann") == 18
        assert await left(client) == 19


async def test_in_a_session_each_request_counts_and_no_notification_or_ping(place: Place) -> None:
    async with limited(place, reads=20) as (_, client):
        given = {"protocolVersion": LATEST, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        begun = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": given})
        headers = {"Mcp-Session-Id": begun.headers["mcp-session-id"], "MCP-Protocol-Version": LATEST}

        async def say(status: int, **message: Any) -> None:
            answer = await client.post("/mcp", json={"jsonrpc": "2.0", **message}, headers=headers)
            assert answer.status_code == status

        assert await left(client) == 18
        for _ in range(3):
            await say(202, method="notifications/initialized")
            await say(200, id=1, method="ping")
            await say(202, id="nobody-asked", result={})
            await say(200, id=1, method="tools/call", params={"name": "health", "arguments": {}})
        assert await left(client) == 17
        await say(200, id=1, method="tools/list")
        assert await left(client) == 15
        await say(200, id=1, method="tools/call", params={"name": "no_such_tool", "arguments": {}})
        assert await left(client) == 13
        refused = await client.get("/mcp", headers={**headers, "Accept": "application/json"})
        assert refused.status_code == 406
        assert await left(client) == 11
        assert (await client.delete("/mcp", headers=headers)).status_code == 200
        assert await left(client) == 9


async def test_a_valid_credential_works_where_others_were_guessed(fresh_sqlite: str) -> None:
    """Many share an address: refusing it would let one of them lock out the rest. Tokens are too long to be guessed."""
    async with limited(Place(fresh_sqlite), reads=20) as (_, client):
        wrong = {"Authorization": "Bearer a-wrong-token-of-some-length"}
        statuses = [(await client.post("/mcp", json={}, headers=wrong)).status_code for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert (await modern(client, "tools/list", {})).status_code == 200
        assert (await client.post("/mcp", json={}, headers=wrong)).status_code == 429
