"""Reservations and build slots over REST and MCP: the same bodies, the same answers, and waits that stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.wire.server import Fleet, Place, client_of, error_of, fleet, furnish, until

SHOP = {"project_slug": "shop"}
LAKE = {**SHOP, "agent_name": "BlueLake"}
HILL = {**SHOP, "agent_name": "GreenHill"}
VOLATILE = {"next_cursor", "id", "fence", "expires_at", "granted_at", "ended_at", "reservation_id", "released_ids"}

STEPS: list[tuple[str, str, dict[str, Any]]] = [
    ("reserve_file", "POST /api/file/reserve", {**LAKE, "paths": ["src/**", "docs/a.md"], "reason": "rewriting"}),
    ("reserve_file", "POST /api/file/reserve", {**HILL, "paths": ["src/x.py", "free"], "wait_seconds": 0.01}),
    ("reserve_file", "POST /api/file/reserve", {**HILL, "paths": ["src/x.py", "free"], "allow_partial": True}),
    ("reserve_file", "POST /api/file/reserve", {**HILL, "paths": ["src/[x]"], "literal": True, "advisory": True}),
    ("reserve_file", "POST /api/file/reserve", {**HILL, "paths": ["lib"], "exclusive": False, "ttl_seconds": 60}),
    ("renew_file", "POST /api/file/renew", {**LAKE, "paths": ["docs/a.md", "never"], "ttl_seconds": 7200}),
    ("check_paths", "POST /api/file/check", {**HILL, "paths": ["src/x.py", "lib/y", "README.md"]}),
    ("check_paths", "GET /api/file/check", {**HILL, "paths": ["src/x.py", "lib/y", "README.md"]}),
    ("list_reservations", "GET /api/file/list", {**SHOP, "limit": 2}),
    ("list_reservations", "GET /api/file/list", {**LAKE, "active_only": False}),
    ("release_file", "POST /api/file/release", {**LAKE, "paths": ["docs/a.md"]}),
    (
        "force_release_file",
        "POST /api/file/force-release",
        {**HILL, "reservation_id": 1, "reason": "urgent", "override": True},
    ),
    ("renew_file", "POST /api/file/renew", {**LAKE, "ids": [1]}),
    ("release_file", "POST /api/file/release", LAKE),
    ("acquire_build_slot", "POST /api/build/acquire", {**LAKE, "slot_name": "ci", "slot_type": "test", "capacity": 1}),
    ("acquire_build_slot", "POST /api/build/acquire", {**HILL, "slot_name": "ci", "slot_type": "test"}),
    ("renew_build_slot", "POST /api/build/renew", {**LAKE, "slot_name": "ci", "slot_type": "test", "ttl_seconds": 60}),
    ("list_slots", "GET /api/build/list", SHOP),
    ("release_build_slot", "POST /api/build/release", {**LAKE, "slot_name": "ci", "slot_type": "test"}),
    ("list_slots", "GET /api/build/list", {**SHOP, "active_only": False}),
]

REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("file/reserve", {**LAKE, "paths": ["../x"]}, 422, "invalid_path"),
    ("file/reserve", {**LAKE, "paths": []}, 422, "invalid_arguments"),
    ("file/reserve", {**LAKE, "paths": ["a"], "wait_seconds": 1, "allow_partial": True}, 422, "invalid_arguments"),
    ("file/release", {**LAKE, "paths": ["a"], "ids": [1]}, 422, "invalid_arguments"),
    ("file/check", {**SHOP, "paths": ["/elsewhere"]}, 422, "invalid_path"),
    ("file/force-release", {**LAKE, "reservation_id": 99, "reason": "x"}, 404, "reservation_not_found"),
    ("file/force-release", {**HILL, "reservation_id": 1, "reason": "x"}, 403, "holder_active"),
    ("build/renew", {**LAKE, "slot_name": "none"}, 404, "slot_not_found"),
    ("build/renew", {**HILL, "slot_name": "ci"}, 409, "slot_not_held"),
    ("build/acquire", {**HILL, "slot_name": "ci", "capacity": 2}, 409, "slot_capacity_mismatch"),
]


@pytest.fixture
async def server(place: Place) -> AsyncIterator[Fleet]:
    async with fleet(place) as running:
        yield running


@pytest.fixture
async def client(server: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as talking:
        yield talking


async def call_rest(client: httpx.AsyncClient, route: str, arguments: dict[str, Any]) -> Any:
    method, _, path = route.partition(" ")
    if method == "POST":
        response = await client.post(path, json=arguments)
    else:
        query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in arguments.items()}
        response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def call_tool(client: httpx.AsyncClient, name: str, arguments: dict[str, Any]) -> Any:
    """Over MCP of revision 2026-07-28; the answer may come as a stream."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": name,
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    response = await client.post("/mcp", json=body, headers=headers)
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        text = [line[6:] for line in text.splitlines() if line.startswith("data: ")][-1]
    result = json.loads(text)["result"]
    assert not result["isError"], result
    return result["structuredContent"]


def steady(answer: Any) -> Any:
    """An answer without what differs from one database to the next; what is there stays named."""
    if isinstance(answer, dict):
        return {name: "…" if name in VOLATILE else steady(value) for name, value in answer.items()}
    return [steady(value) for value in answer] if isinstance(answer, list) else answer


async def test_rest_and_mcp_answer_alike(client: httpx.AsyncClient) -> None:
    """The same steps in two projects that differ in nothing else."""
    await furnish(client, "BlueLake", "GreenHill")
    by_rest = [steady(await call_rest(client, route, arguments)) for _, route, arguments in STEPS]
    await client.post("/api/project/ensure", json={"human_key": "/code/other", "slug": "other"})
    for name in ("BlueLake", "GreenHill"):
        agent = {"project_slug": "other", "program": "pytest", "model": "none", "name": name}
        await client.post("/api/agent/register", json=agent)
    known = (await client.get("/api/file/list", params={**SHOP, "active_only": "false", "limit": 1})).json()
    shift = known["reservations"][0]["id"]
    for (name, _, arguments), expected in zip(STEPS, by_rest, strict=True):
        there = {**arguments, "project_slug": "other"}
        if "reservation_id" in there:
            there["reservation_id"] += shift
        if "ids" in there:
            there["ids"] = [shift + 1]
        assert steady(await call_tool(client, name, there)) == expected, name


@pytest.mark.parametrize("path, body, status, code", REFUSED)
async def test_a_refused_call_says_why(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    await furnish(client, "BlueLake", "GreenHill")
    await client.post("/api/build/acquire", json={**LAKE, "slot_name": "ci"})
    await client.post("/api/file/reserve", json={**LAKE, "paths": ["held"]})
    response = await client.post(f"/api/{path}", json=body)
    assert (response.status_code, error_of(response)["code"]) == (status, code)
    assert error_of(response)["data"]["suggestion"]


@pytest.mark.parametrize("transport", ["rest", "mcp"])
async def test_a_waiting_call_outlives_the_request_deadline(place: Place, transport: str) -> None:
    async with fleet(place, request_timeout_seconds=0.1) as server, client_of(server) as client:
        await furnish(client, "BlueLake", "GreenHill")
        await client.post("/api/file/reserve", json={**LAKE, "paths": ["src"]})
        wanted = {**HILL, "paths": ["src/a.py"], "wait_seconds": 30}
        if transport == "rest":
            waiting = asyncio.create_task(call_rest(client, "POST /api/file/reserve", wanted))
        else:
            waiting = asyncio.create_task(call_tool(client, "reserve_file", wanted))
        await until(lambda: server.waiting == 1)
        assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
        await client.post("/api/file/release", json=LAKE)
        answer = await asyncio.wait_for(waiting, 5)
        assert [one["pattern"] for one in answer["granted"]] == ["src/a.py"]


async def test_calls_that_wait_end_when_their_project_is_deleted(server: Fleet, client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake", "GreenHill")
    await client.post("/api/file/reserve", json={**LAKE, "paths": ["src"]})
    waits = (
        client.post("/api/file/reserve", json={**HILL, "paths": ["src"], "wait_seconds": 40}),
        client.get("/api/inbox/wait", params={**HILL, "timeout_seconds": 40}),
    )
    calls = asyncio.gather(*waits)
    await until(lambda: server.waiting == 2)
    assert (await client.delete("/api/project/shop")).status_code == 200
    for answer in await asyncio.wait_for(calls, 5):
        assert (answer.status_code, error_of(answer)["code"]) == (404, "project_not_found")


async def test_names_of_the_rust_port_are_read(client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake")
    ported = {"project_key": "shop", "agent_name": "BlueLake", "path_pattern": "src/**"}
    answer = (await client.post("/api/file/reserve", json=ported)).json()
    assert [one["pattern"] for one in answer["granted"]] == ["src/**"]
    for alias in ("reserve_file_paths", "file_reservation_paths"):
        assert (await call_tool(client, alias, {**LAKE, "file_path": "src/**"}))["granted"][0]["renewed"]
    for alias in ("release_file_paths", "release_reservation", "release_file_reservations"):
        assert "released_ids" in await call_tool(client, alias, LAKE)


async def test_a_capacity_is_changed_over_rest_and_is_no_tool(client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake")
    slot = {"slot_name": "ci", "slot_type": "test"}
    await client.post("/api/build/acquire", json={**LAKE, **slot})
    answer = await client.post("/api/build/capacity", json={**SHOP, **slot, "capacity": 3})
    assert (answer.status_code, answer.json()["capacity"]) == (200, 3)
