"""What the lists cost the models that read them (SPEC §4): tokens of name, description and input schema.

Tokens are estimated, because no tokenizer is at hand that needs no download. Counted once with cl100k_base, by another
program that holds its ranks, a token of these texts was 4.5 characters on average, and 4.2 in the tool with the
shortest ones, so 4.2 is on the safe side.
"""

import json
from typing import Any

import pytest

from agent_mail_server.operations import BY_NAME, OPERATIONS
from tests.wire.asgi_client import HANDSHAKES, MODERN, Client
from tests.wire.mcp_wire import make_app, make_endpoint

CHARACTERS_A_TOKEN = 4.2
LARGEST_TOOL = 400

STARRED = {
    "ensure_project",
    "register_agent",
    "list_agents",
    "send_message",
    "reply_message",
    "check_inbox",
    "wait_for_messages",
    "get_message",
    "mark_read",
    "acknowledge_message",
    "search_messages",
    "get_thread",
    "reserve_file",
    "release_file",
    "start_session",
}
"""The rows with a star in SPEC §3.1."""


async def listed(query: str, version: str = MODERN) -> list[dict[str, Any]]:
    client = await Client(make_endpoint(make_app(), OPERATIONS)).speak(version)
    tools: list[dict[str, Any]] = (await client.call("tools/list", query=query)).json["result"]["tools"]
    return tools


def tokens(tool: dict[str, Any]) -> float:
    schema = json.dumps(tool["inputSchema"], separators=(",", ":"), ensure_ascii=False)
    return len(tool["name"] + tool["description"] + schema) / CHARACTERS_A_TOKEN


@pytest.mark.parametrize("query, limit", [("", 10_000), ("toolset=core", 2_500)])
async def test_a_list_keeps_its_budget(query: str, limit: int) -> None:
    costs = {tool["name"]: round(tokens(tool)) for tool in await listed(query)}
    assert sum(costs.values()) <= limit, sorted(costs.items(), key=lambda cost: -cost[1])[:10]
    assert max(costs.values()) <= LARGEST_TOOL


def test_core_are_the_starred_rows() -> None:
    assert {operation.name for operation in OPERATIONS if operation.is_core} == STARRED


@pytest.mark.parametrize("version", [HANDSHAKES[-1], MODERN])
async def test_the_core_list_leaves_out_output_schemas_and_every_tool_stays_callable(version: str) -> None:
    tools = await listed("toolset=core", version)
    assert [tool["name"] for tool in tools] == [operation.name for operation in OPERATIONS if operation.is_core]
    assert all("outputSchema" not in tool for tool in tools)
    client = await Client(make_endpoint(make_app(), OPERATIONS)).speak(version)
    answer = await client.post(client.message("tools/call", {"name": "health"}), query="toolset=core").complete()
    assert answer.json["result"]["isError"] is False


async def test_the_core_list_says_of_arguments_what_the_full_one_says() -> None:
    full = {tool["name"]: tool["inputSchema"] for tool in await listed("")}
    for tool in await listed("toolset=core"):
        assert {**tool["inputSchema"], "additionalProperties": False} == full[tool["name"]]


async def test_every_tool_and_argument_is_advertised_and_described_in_words() -> None:
    """Each argument of the request has its place in the schema; what its name does not say, a description does."""
    for tool in await listed(""):
        operation = BY_NAME[tool["name"]]
        assert list(tool["inputSchema"]["properties"]) == list(operation.request_type.model_fields)
        assert len(operation.description.split()) >= 5, operation.name
        assert "$defs" not in tool["inputSchema"], operation.name
        assert "title" not in tool["inputSchema"], operation.name


async def test_bounds_that_a_call_must_know_are_advertised() -> None:
    schemas = {tool["name"]: tool["inputSchema"]["properties"] for tool in await listed("")}
    assert schemas["reserve_file"]["ttl_seconds"] == {
        "type": "integer",
        "default": 3600,
        "minimum": 60,
        "maximum": 604800,
    }
    assert schemas["check_inbox"]["limit"]["maximum"] == 100
    assert schemas["send_message"]["priority"]["enum"] == ["low", "normal", "high", "urgent"]
    assert schemas["send_message"]["recipient_names"]["items"] == {"type": "string"}
