"""Tools: what is listed, and that a call's short way and the SDK's way answer alike."""

import json
from typing import Any

import jsonschema
import pytest

from agent_mail_core.error_suggestions import SUGGESTIONS
from agent_mail_server.mcp import McpEndpoint
from agent_mail_server.mcp_wire import Message
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import BY_NAME, OPERATIONS, Operation
from tests.wire.asgi_client import HANDSHAKES, MODERN, Client
from tests.wire.mcp_wire import TEST_OPERATIONS, make_app, make_endpoint

pytestmark = pytest.mark.usefixtures("workers")

REVISIONS = (*HANDSHAKES, MODERN)

TAKES_AWAY = {"retire_agent", "force_release_file", "unlink_project", "cancel_review"}

CALLS: list[dict[str, Any]] = [
    {"name": "echo", "arguments": {"text": "hällo \u2028 </script> 😀 \x7f"}},
    {"name": "echo", "arguments": {"text": ""}},
    {"name": "echo", "arguments": {"texts": "a near name"}},
    {"name": "echo", "arguments": {"text": 1}},
    {"name": "echo", "arguments": None},
    {"name": "echo"},
    {"name": "break_down", "arguments": {}},
    {"name": "break_down", "_meta": {"progressToken": True, "other": {"a": 1}}},
    {"name": "health", "arguments": {"unknown": None}},
    {"name": "echo", "arguments": {"text": "x"}, "task": {"ttl": 1}},
    {"name": "echo", "arguments": {"text": "x"}, "inputResponses": {}},
    # what the protocol does not allow
    {"name": "echo", "arguments": []},
    {"name": "echo", "arguments": "text"},
    {"name": "echo", "arguments": {"text": "x"}, "task": 3},
    {"name": "echo", "arguments": {"text": "x"}, "inputResponses": 3},
    {"name": "echo", "arguments": {"text": "x"}, "_meta": {"progressToken": 1.5}},
    {"name": None},
    {"name": 7, "arguments": {}},
    {"arguments": {}},
    {},
    {"name": "ecko", "arguments": {"text": "x"}},
    {"name": "", "arguments": {}},
]


class SlowEndpoint(McpEndpoint):
    """Sends every call through the SDK."""

    def _plain_call(self, message: Message, version: str) -> Operation | None:
        return None


@pytest.mark.parametrize("params", CALLS, ids=str)
@pytest.mark.parametrize("version", REVISIONS)
async def test_a_call_is_answered_as_the_sdk_would_answer_it(version: str, params: dict[str, Any]) -> None:
    app = make_app()
    short = Client(make_endpoint(app))
    sdk = Client(SlowEndpoint(app, ServerMetrics(), TEST_OPERATIONS))
    answers = []
    for client in (short, sdk):
        await client.speak(version)
        answer = await client.call("tools/call", params)
        answers.append((answer.status, answer.headers["content-type"], answer.json))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("version", REVISIONS)
async def test_a_result_is_text_and_structure_of_one_content(version: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(version)
    result = (await client.tool("health").complete()).json["result"]
    assert result["structuredContent"] == json.loads(result["content"][0]["text"])
    assert result["structuredContent"]["version"] == "1.2.3"
    assert result["isError"] is False
    jsonschema.validate(result["structuredContent"], await _output_schema(client, "health"))
    if version == MODERN:
        assert result["resultType"] == "complete"
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "agent-mail"


async def _output_schema(client: Client, name: str) -> dict[str, Any]:
    tools = (await client.call("tools/list")).json["result"]["tools"]
    schema: dict[str, Any] = next(tool["outputSchema"] for tool in tools if tool["name"] == name)
    return schema


@pytest.mark.parametrize("version", REVISIONS)
async def test_what_is_absent_is_left_out_of_a_result(version: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(version)
    result = (await client.tool("echo", {"text": "x"}).complete()).json["result"]
    assert result["structuredContent"] == {"text": "x", "at": "2026-11-22T00:00:00Z"}


@pytest.mark.parametrize("version", REVISIONS)
async def test_an_error_is_text_without_structure(version: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(version)
    answer = await client.tool("echo", {"text": 1}).complete()
    assert answer.status == 200
    result = answer.json["result"]
    assert result["isError"] is True
    assert "structuredContent" not in result
    error = json.loads(result["content"][0]["text"])["error"]
    assert error["code"] == "invalid_arguments"
    assert error["data"]["errors"][0]["pointer"] == "/text"
    assert error["request_id"] == "request-1"


async def test_an_unforeseen_failure_is_logged_and_says_nothing_of_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    client = await Client(make_endpoint(make_app())).speak(MODERN)
    answer = await client.tool("break_down").complete()
    assert b"secret" not in answer.body
    assert b"ZeroDivision" not in answer.body
    error = json.loads(answer.json["result"]["content"][0]["text"])["error"]
    assert (error["code"], error["request_id"]) == ("internal", "request-1")
    assert error["data"] == {"suggestion": SUGGESTIONS["internal"]}
    assert "the secret cause" in caplog.text
    assert caplog.records[0].request_id == "request-1"  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", REVISIONS)
async def test_an_unknown_tool_is_a_protocol_error_that_names_near_ones(version: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(version)
    answer = await client.tool("chek_inbox").complete()
    assert answer.status == (400 if version == MODERN else 200)
    assert answer.json["error"]["code"] == -32602
    assert "check_inbox" in answer.json["error"]["message"]


@pytest.mark.parametrize("version", REVISIONS)
async def test_the_list_is_the_table_in_its_order(version: str) -> None:
    client = await Client(make_endpoint(make_app(), OPERATIONS)).speak(version)
    result = (await client.call("tools/list")).json["result"]
    assert [tool["name"] for tool in result["tools"]] == [each.name for each in OPERATIONS if each.is_tool]
    assert "nextCursor" not in result
    for tool in result["tools"]:
        operation = BY_NAME[tool["name"]]
        assert tool["title"] == operation.title
        assert tool["description"] == operation.description
        assert tool["annotations"] == {
            "readOnlyHint": not operation.is_write,
            "idempotentHint": not operation.is_write or operation.is_repeatable,
            "destructiveHint": operation.name in TAKES_AWAY,
            "openWorldHint": False,
        }
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object"
        assert tool["inputSchema"]["additionalProperties"] is False
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert '"null"' not in json.dumps(schema)
    if version == MODERN:
        assert (result["ttlMs"], result["cacheScope"]) == (300_000, "private")


async def test_what_is_no_tool_cannot_be_called() -> None:
    client = await Client(make_endpoint(make_app(), OPERATIONS)).speak(MODERN)
    for operation in OPERATIONS:
        if not operation.is_tool:
            answer = await client.tool(operation.name, {"project_slug": "shop"}).complete()
            assert answer.json["error"]["code"] == -32602, operation.name
            assert f"REST only: {operation.routes[0]}." in answer.json["error"]["message"]


async def test_another_toolset_is_refused() -> None:
    client = await Client(make_endpoint(make_app())).speak(MODERN)
    answer = await client.call("tools/list", query="toolset=cor")
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)


@pytest.mark.parametrize("version", REVISIONS)
async def test_a_kept_list_is_the_one_that_the_sdk_makes(version: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(version)
    for query in ("", "toolset=core"):
        first = await client.call("tools/list", query=query)
        again = await client.post(client.message("tools/list", message_id="two"), query=query).complete()
        assert again.json == {**first.json, "id": "two"}
    wrong = await client.call("tools/list", {"_meta": {"progressToken": 1.5}})
    assert wrong.json["error"]["code"] == -32602


@pytest.mark.parametrize("version", REVISIONS)
async def test_a_cursor_of_no_list_is_refused(version: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(version)
    answer = await client.call("tools/list", {"cursor": "2"})
    assert answer.json["error"]["code"] == -32602
