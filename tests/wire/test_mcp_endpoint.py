"""The endpoint's requests: revisions, headers, sessions, and what is refused how."""

import asyncio
import json
from typing import Any

import pytest

from agent_mail_core.errors import Unavailable
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.settings import Settings
from tests.wire.asgi_client import HANDSHAKES, MODERN, Answer, Client
from tests.wire.mcp_wire import make_app, make_endpoint

JSON = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")]


def refusal(answer: Answer) -> tuple[int, int]:
    return answer.status, answer.json["error"]["code"]


CAPABILITIES = {
    "tools": {"listChanged": False},
    "resources": {"listChanged": False, "subscribe": True},
    "prompts": {"listChanged": False},
    "completions": {},
}


@pytest.fixture
def client(workers: None) -> Client:
    return Client(make_endpoint(make_app()))


# --- handshake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", HANDSHAKES)
async def test_initialize_begins_a_session(client: Client, version: str) -> None:
    answer = await client.initialize(version)
    result = answer.json["result"]
    assert result["protocolVersion"] == version
    assert result["serverInfo"] == {"name": "agent-mail", "title": "Agent Mail", "version": "1.2.3"}
    assert result["capabilities"] == CAPABILITIES
    assert "register_agent" in result["instructions"]
    assert client.session_id is not None
    assert len(client.session_id) == 32
    assert (await client.call("ping")).json["result"] == {}


async def test_an_unknown_revision_is_answered_with_the_latest_that_has_sessions(client: Client) -> None:
    assert (await client.initialize("1999-01-01")).json["result"]["protocolVersion"] == HANDSHAKES[-1]


async def test_a_refused_initialize_begins_none(client: Client) -> None:
    answer = await client.initialize(HANDSHAKES[-1], clientInfo=7)
    assert refusal(answer) == (200, -32602)
    assert "mcp-session-id" not in answer.headers


async def test_what_a_session_keeps_of_its_client_is_bounded(client: Client) -> None:
    info = {"name": "test", "version": "1", "icons": [{"src": "data:," + "x" * 100_000}]}
    assert (await client.initialize(HANDSHAKES[-1], clientInfo=info)).status == 200
    answer = await client.initialize(HANDSHAKES[-1], capabilities={"experimental": {"x": {"y": "x" * 20_000}}})
    assert refusal(answer) == (400, -32602)


@pytest.mark.parametrize("version", HANDSHAKES)
async def test_notifications_and_responses_are_accepted(client: Client, version: str) -> None:
    await client.initialize(version)
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/nobody-knows", "params": {}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": [1]}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "id": 5, "result": {}},
        {"jsonrpc": "2.0", "id": 5, "error": {"code": 1, "message": "no"}},
    ):
        answer = await client.post(message).complete()
        assert (answer.status, answer.body) == (202, b"")


async def test_a_message_without_a_session_is_refused(client: Client) -> None:
    assert refusal(await client.call("ping")) == (400, -32600)
    assert refusal(await client.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).complete()) == (
        400,
        -32600,
    )


async def test_an_unknown_session_is_not_found(client: Client) -> None:
    client.session_id = "nope"
    assert refusal(await client.call("ping")) == (404, -32600)


@pytest.mark.parametrize("stranger", [{"principal": Principal("token:9")}, {"team_id": TeamId(2)}])
async def test_a_session_is_not_found_by_another_principal(client: Client, stranger: dict[str, Any]) -> None:
    await client.initialize(HANDSHAKES[-1])
    other = client.as_caller(**stranger)
    assert refusal(await other.call("ping")) == (404, -32600)
    assert refusal(await other.request("GET", headers=other.headers())) == (404, -32600)
    assert refusal(await other.request("DELETE", headers=other.headers())) == (404, -32600)
    assert (await client.call("ping")).status == 200


async def test_delete_ends_a_session(client: Client) -> None:
    await client.initialize(HANDSHAKES[-1])
    assert (await client.request("DELETE", headers=client.headers())).status == 200
    async with asyncio.timeout(1):  # until the other worker has heard of it too
        while {(await client.call("ping")).status for _ in range(2)} != {404}:
            pass
    assert refusal(await client.call("ping")) == (404, -32600)
    assert refusal(await client.request("DELETE", headers=client.headers())) == (404, -32600)


async def test_sessions_that_cannot_be_reached_are_a_503(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    client = Client(make_endpoint(app, alternates=False))
    await client.initialize(HANDSHAKES[-1])

    async def away(*_: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(app.sessions, "get", away)
    answer = await client.call("ping")
    assert refusal(answer) == (503, -32603)
    assert answer.headers["retry-after"] == "1"
    assert answer.json["error"]["data"]["code"] == "unavailable"
    assert (await (await Client(make_endpoint(app)).speak(MODERN)).call("tools/list")).status == 200


@pytest.mark.parametrize("version", HANDSHAKES)
async def test_an_unknown_method_is_an_error_of_the_protocol(client: Client, version: str) -> None:
    await client.initialize(version)
    assert refusal(await client.call("nope")) == (200, -32601)
    assert refusal(await client.call("tasks/list")) == (200, -32601)


async def test_a_request_of_2026_that_lost_its_header_is_told_so(client: Client) -> None:
    client.version = MODERN
    message = client.message("tools/list")
    assert refusal(await client.request("POST", json.dumps(message).encode(), JSON)) == (400, -32020)


# --- 2026-07-28 -------------------------------------------------------------------------------------------------------


async def test_discover_says_what_there_is(client: Client) -> None:
    client.version = MODERN
    answer = await client.call("server/discover")
    result = answer.json["result"]
    assert result["supportedVersions"] == [MODERN]
    assert result["capabilities"] == CAPABILITIES
    assert (result["ttlMs"], result["cacheScope"]) == (300_000, "private")
    assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize(
    "header, value",
    [
        ("mcp-protocol-version", "2099-01-01"),
        ("mcp-method", "tools/list"),
        ("mcp-method", None),
        ("mcp-name", "whois"),
        ("mcp-name", None),
    ],
)
async def test_headers_that_disagree_with_the_body_are_refused(client: Client, header: str, value: str | None) -> None:
    client.version = MODERN
    message = client.message("tools/call", {"name": "health", "arguments": {}})
    headers = [pair for pair in client.headers(message) if pair[0] != header]
    if value is not None:
        headers.append((header, value))
    answer = await client.request("POST", json.dumps(message).encode(), headers)
    assert refusal(answer) == (400, -32020)
    assert answer.json["id"] == 1


@pytest.mark.parametrize("header", ["mcp-protocol-version", "mcp-method", "mcp-name"])
async def test_headers_given_twice_are_refused(client: Client, header: str) -> None:
    client.version = MODERN
    for message in (client.message("tools/call", {"name": "health"}), client.message("ping", {"name": "x"})):
        headers = client.headers(message)
        twice = [*headers, *[pair for pair in headers if pair[0] == header]]
        assert refusal(await client.request("POST", json.dumps(message).encode(), twice)) == (400, -32020)


async def test_an_unknown_revision_is_told_those_that_there_are(client: Client) -> None:
    client.version = MODERN
    message = client.message("tools/list")
    message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01"
    headers = [*JSON, ("mcp-protocol-version", "2099-01-01"), ("mcp-method", "tools/list")]
    answer = await client.request("POST", json.dumps(message).encode(), headers)
    assert refusal(answer) == (400, -32022)
    assert answer.json["error"]["data"]["supported"] == [MODERN]
    notification = b'{"jsonrpc":"2.0","method":"notifications/x"}'
    assert refusal(await client.request("POST", notification, headers)) == (400, -32022)


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities"])
async def test_the_envelope_must_be_whole(client: Client, missing: str) -> None:
    client.version = MODERN
    message = client.message("tools/list")
    del message["params"]["_meta"][f"io.modelcontextprotocol/{missing}"]
    assert refusal(await client.post(message).complete()) == (400, -32602)


async def test_notifications_are_accepted_and_responses_refused(client: Client) -> None:
    client.version = MODERN
    answer = await client.post({"jsonrpc": "2.0", "method": "notifications/cancelled"}).complete()
    assert (answer.status, answer.body) == (202, b"")
    assert refusal(await client.post({"jsonrpc": "2.0", "id": 1, "result": {}}).complete()) == (400, -32600)


@pytest.mark.parametrize("method", ["nope", "initialize", "ping", "logging/setLevel", "resources/subscribe"])
async def test_a_method_that_is_not_served_is_not_found(client: Client, method: str) -> None:
    client.version = MODERN
    assert refusal(await client.call(method, {"notifications": {}}))[0] in (400, 404)
    assert (await client.call(method, {"notifications": {}})).json["error"]["code"] in (-32601, -32602)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_only_post_is_served(client: Client, method: str) -> None:
    client.version = MODERN
    answer = await client.request(method, headers=client.headers())
    assert refusal(answer) == (405, -32600)
    assert answer.headers["allow"] == "POST"


# --- both -------------------------------------------------------------------------------------------------------------


async def test_other_methods_are_refused(client: Client) -> None:
    answer = await client.request("PUT", headers=JSON)
    assert refusal(answer) == (405, -32600)
    assert answer.headers["allow"] == "GET, POST, DELETE"


async def test_the_older_transport_is_not_offered(client: Client) -> None:
    assert refusal(await client.request("GET", headers=[("accept", "text/event-stream")])) == (400, -32600)


BAD_BODIES: list[tuple[bytes, int, int]] = [
    (b"", 400, -32700),
    (b"{", 400, -32700),
    (b"\xff\xfe", 400, -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":"\\ud800"}', 400, -32700),
    (b"[" * 100_000, 400, -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"[" * 99 + b"]" * 99 + b"}}", 400, -32700),
    (b"[]", 400, -32600),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400, -32600),
    (b"null", 400, -32600),
    (b'"text"', 400, -32600),
    (b"{}", 400, -32600),
    (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', 400, -32600),
    (b'{"jsonrpc":"2.0"}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":1}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":99999999999999999999999,"method":"ping"}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":7}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":null}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', 400, -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":7}', 400, -32600),
]


@pytest.mark.parametrize("body, status, code", BAD_BODIES)
@pytest.mark.parametrize("version", [HANDSHAKES[-1], MODERN])
async def test_bad_bodies(client: Client, version: str, body: bytes, status: int, code: int) -> None:
    await client.speak(version)
    headers = [*client.headers(), ("mcp-method", "ping")]
    answer = await client.request("POST", body, headers)
    assert refusal(answer) == (status, code)
    assert answer.json["jsonrpc"] == "2.0"


@pytest.mark.parametrize("message_id", [0, -1, 1, "1", "", "ü" * 1000, 2**53, 2**63, 2**64 - 1])
@pytest.mark.parametrize("version", [HANDSHAKES[-1], MODERN])
async def test_ids_come_back_as_they_were(client: Client, version: str, message_id: Any) -> None:
    await client.speak(version)
    answer = await client.tool("health", message_id=message_id).complete()
    assert answer.json["id"] == message_id
    assert type(answer.json["id"]) is type(message_id)


async def test_the_size_of_a_body_is_limited() -> None:
    client = Client(make_endpoint(make_app(Settings(max_body_bytes=2048))))
    client.version = MODERN
    message = client.message("tools/call", {"name": "health"})
    headers = client.headers(message)
    exact = json.dumps(message).encode().ljust(2048)
    assert (await client.request("POST", exact, headers)).status == 200
    assert refusal(await client.request("POST", exact + b" ", headers)) == (413, -32600)
    assert refusal(await client.request("POST", exact, [*headers, ("content-length", "9" * 5000)])) == (413, -32600)
    pieces = [exact[:1000], exact[1000:], b" "]
    assert refusal(await client.open("POST", headers=headers, chunks=pieces).complete()) == (413, -32600)
    assert (await client.open("POST", headers=headers, chunks=pieces[:2]).complete()).status == 200


async def test_a_client_that_leaves_before_the_end_of_its_body_is_not_answered(client: Client) -> None:
    client.version = MODERN
    app = make_endpoint(make_app())

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        raise AssertionError(event)

    scope = {
        "type": "http",
        "method": "POST",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in client.headers()],
        "state": {"caller": client.caller},
    }
    await app(scope, receive, send)


@pytest.mark.parametrize(
    "content_type, status",
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
        (None, 415),
    ],
)
async def test_a_body_must_say_that_it_is_json(client: Client, content_type: str | None, status: int) -> None:
    client.version = MODERN
    message = client.message("tools/call", {"name": "health"})
    headers = [pair for pair in client.headers(message) if pair[0] != "content-type"]
    if content_type is not None:
        headers.append(("content-type", content_type))
    answer = await client.request("POST", json.dumps(message).encode(), headers)
    assert (answer.status, "error" in answer.json) == (status, status != 200)


@pytest.mark.parametrize(
    "accept, status",
    [
        ("application/json, text/event-stream", 200),
        ("application/json", 200),
        ("*/*", 200),
        ("application/*;q=0.5", 200),
        (None, 200),
        ("text/event-stream", 406),
        ("text/html", 406),
        ("", 406),
    ],
)
async def test_a_client_must_accept_json(client: Client, accept: str | None, status: int) -> None:
    client.version = MODERN
    message = client.message("tools/call", {"name": "health"})
    headers = [pair for pair in client.headers(message) if pair[0] != "accept"]
    if accept is not None:
        headers.append(("accept", accept))
    answer = await client.request("POST", json.dumps(message).encode(), headers)
    assert (answer.status, "error" in answer.json) == (status, status != 200)
