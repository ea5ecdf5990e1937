"""The names that prompts for the Rust port use (SPEC §3.1): read over MCP and REST, shown in no schema."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agent_mail_server.aliases import ARGUMENT_ALIASES, OPERATION_ALIASES, TOOL_ALIASES
from agent_mail_server.operations import BY_NAME, OPERATIONS
from tests.wire.asgi_client import MODERN, Client
from tests.wire.mcp_wire import make_app, make_endpoint
from tests.wire.server import client_of, furnish, served
from tests.wire.tools import call_tool

TOOLS = {
    "list_inbox": "check_inbox",
    "fetch_inbox": "check_inbox",
    "reserve_file_paths": "reserve_file",
    "file_reservation_paths": "reserve_file",
    "release_file_paths": "release_file",
    "release_reservation": "release_file",
    "release_file_reservations": "release_file",
    "link_project_to_product": "link_project",
    "request_contact": "add_contact",
    "mark_message_read": "mark_read",
    "macro_start_session": "start_session",
}

SHOP = {"project_key": "shop"}
SENT = {**SHOP, "sender_name": "Ann", "subject": "Hello", "body_md": "Hi"}
CALLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("list_agents", SHOP, {"project_slug": "shop"}),
    ("register_agent", {**SHOP, "agent_name": "Dan", "program": "p", "model": "m"}, {"name": "Dan"}),
    ("send_message", {**SENT, "to": "Bob, Cid", "importance": 2}, {"recipient_names": ["Bob", "Cid"]}),
    (
        "send_message",
        {**SENT, "to": ["Bob"], "cc": "Cid", "bcc": "Ann"},
        {"recipient_names": ["Bob"], "cc_names": ["Cid"], "bcc_names": ["Ann"]},
    ),
    ("reserve_file", {**SHOP, "agent_name": "Ann", "path_pattern": "src/**"}, {"paths": ["src/**"]}),
    ("reserve_file", {**SHOP, "agent_name": "Ann", "file_path": "a, b.py"}, {"paths": ["a, b.py"]}),
    ("check_paths", {**SHOP, "file_path": ["a.py", "b.py"]}, {"paths": ["a.py", "b.py"]}),
]


@pytest.fixture
async def client(fresh_sqlite: str) -> AsyncIterator[httpx.AsyncClient]:
    async with served(fresh_sqlite) as server, client_of(server) as talking:
        await furnish(talking, "Ann", "Bob", "Cid")
        yield talking


def test_all_aliases_of_the_contract_are_there() -> None:
    assert TOOL_ALIASES == TOOLS
    called = {alias for _, arguments, _ in CALLS for alias in arguments}
    assert called >= ARGUMENT_ALIASES.keys()
    assert {alias for table in OPERATION_ALIASES.values() for alias in table} == {"agent_name"}


@pytest.mark.parametrize("operation, arguments, meant", CALLS, ids=str)
async def test_an_alias_means_its_argument_over_mcp_and_rest(
    client: httpx.AsyncClient, operation: str, arguments: dict[str, Any], meant: dict[str, Any]
) -> None:
    method, path = BY_NAME[operation].routes[-1].split()
    own = {**meant, **{name: value for name, value in arguments.items() if name not in ARGUMENT_ALIASES}}
    own = {**own, "project_slug": "shop"}
    if operation == "register_agent":
        del own["agent_name"]
    if "importance" in arguments:
        own["priority"] = "urgent"
    answers = [await call_tool(client, operation, own), await call_tool(client, operation, arguments)]
    for given in (own, arguments):
        by_post = method == "POST"
        response = await client.request(
            method, path, json=given if by_post else None, params=None if by_post else given
        )
        assert response.is_success, response.text
        answers.append(response.json())
    for answer in answers:
        assert "error" not in answer, answer
        assert masked(answer) == masked(answers[1])


def masked(answer: dict[str, Any]) -> Any:
    """Without what differs from call to call."""
    differing = ("message_id", "thread_id", "created_at", "created", "renewed", "expires_at", "last_active_at", "now")
    return json.loads(
        json.dumps(answer), object_hook=lambda found: {k: v for k, v in found.items() if k not in differing}
    )


async def test_an_alias_beside_its_own_name_is_refused(client: httpx.AsyncClient) -> None:
    answer = await call_tool(client, "list_agents", {"project_slug": "shop", "project_key": "shop"})
    assert answer["error"]["code"] == "invalid_arguments"


@pytest.mark.parametrize("alias, name", TOOL_ALIASES.items())
async def test_an_alias_of_a_tool_is_callable_but_not_listed(alias: str, name: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(MODERN)
    tools = (await client.call("tools/list")).json["result"]["tools"]
    assert alias not in [tool["name"] for tool in tools]
    result = (await client.tool(alias, {"nonsense": 1}).complete()).json["result"]
    assert f"{name} has no argument" in json.loads(result["content"][0]["text"])["error"]["message"]


async def test_no_schema_shows_an_alias(client: httpx.AsyncClient) -> None:
    mcp = await Client(make_endpoint(make_app(), OPERATIONS)).speak(MODERN)
    for tool in (await mcp.call("tools/list")).json["result"]["tools"]:
        for alias, field in ARGUMENT_ALIASES.items():
            if alias not in BY_NAME[tool["name"]].request_type.model_fields:
                assert alias not in tool["inputSchema"]["properties"], (tool["name"], field)
    document = (await client.get("/openapi.json")).text
    for alias in (*TOOL_ALIASES, "project_key", "importance", "path_pattern"):
        assert f'"{alias}"' not in document
