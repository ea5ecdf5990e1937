"""Whatever is posted, the endpoint answers with JSON, and never with a fault of its own."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.asgi_client import HANDSHAKES, MODERN, Client
from tests.wire.mcp_wire import Alternating, alternating_workers, bench_of, make_app, make_endpoint

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=8
)
names = st.sampled_from(["health", "echo", "ready", "list_inbox", "wait_long", "nope", "", "\x00", "hea\u2028lth"])
metas = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            "progressToken": scalars,
            "io.modelcontextprotocol/protocolVersion": st.one_of(st.just(MODERN), values),
            "io.modelcontextprotocol/clientCapabilities": values,
            "io.modelcontextprotocol/clientInfo": values,
            "io.modelcontextprotocol/logLevel": scalars,
        },
    ),
)
params = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.one_of(names, scalars),
            "arguments": st.one_of(values, st.fixed_dictionaries({"text": values})),
            "cursor": scalars,
            "protocolVersion": scalars,
            "capabilities": values,
            "clientInfo": values,
            "requestId": scalars,
            "_meta": metas,
        },
    ),
)
methods = st.sampled_from(
    [
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "tools/call",
        "resources/read",
        "subscriptions/listen",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "logging/setLevel",
        "",
        "nope",
    ]
)
messages = st.one_of(
    values,
    st.fixed_dictionaries(
        {"jsonrpc": st.sampled_from(["2.0", "1.0", 2])},
        optional={
            "id": st.one_of(scalars, st.just(1)),
            "method": st.one_of(methods, scalars),
            "params": params,
            "result": values,
            "error": values,
        },
    ),
)

thorough = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Talk:
    """The endpoints of all workers, one for all examples of a test, and a loop of its own to talk to them."""

    def __init__(self, redis_url: str | None) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.endpoint = self._runner.run(self._open(redis_url))
        self.run = self._runner.run

    async def _open(self, redis_url: str | None) -> Alternating:
        await self._stack.enter_async_context(alternating_workers(redis_url))
        app = make_app()
        bench_of(app).go_on.set()  # nothing waits
        return make_endpoint(app)

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture
def talk(shared_redis: str | None) -> Iterator[Talk]:
    talking = Talk(shared_redis)
    yield talking
    talking.close()


def dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


async def answered(endpoint: Alternating, version: str, body: bytes, message: Any) -> None:
    client = await Client(endpoint).speak(version)
    headers = client.headers()
    if version == MODERN and isinstance(message, dict):
        given = message.get("params")
        headers.append(("mcp-method", str(message.get("method")).encode("ascii", "ignore").decode()))
        if isinstance(given, dict):
            headers.append(("mcp-name", str(given.get("name")).encode("ascii", "ignore").decode()))
    answer = await client.request("POST", body, headers)
    if answer.status == 202:
        assert answer.body == b""
    elif answer.is_stream:
        assert answer.messages[-1]["jsonrpc"] == "2.0"
    else:
        assert answer.json["jsonrpc"] == "2.0"
        assert ("result" in answer.json) != ("error" in answer.json)
    assert answer.status < 500
    assert b"Traceback" not in answer.body


@pytest.mark.parametrize("version", [HANDSHAKES[0], HANDSHAKES[-1], MODERN])
@thorough
@given(message=messages)
def test_any_json(talk: Talk, version: str, message: Any) -> None:
    talk.run(answered(talk.endpoint, version, dumped(message), message))


@pytest.mark.parametrize("version", [HANDSHAKES[-1], MODERN])
@thorough
@given(body=st.binary())
def test_any_bytes(talk: Talk, version: str, body: bytes) -> None:
    talk.run(answered(talk.endpoint, version, body, None))


@pytest.mark.parametrize("version", [HANDSHAKES[-1], MODERN])
@thorough
@given(given_params=params)
def test_any_call_of_a_tool(talk: Talk, version: str, given_params: Any) -> None:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": given_params}
    if version == MODERN and isinstance(given_params, dict) and isinstance(given_params.get("_meta", {}), dict):
        envelope = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        message["params"] = {**given_params, "_meta": {**envelope, **given_params.get("_meta", {})}}
    talk.run(answered(talk.endpoint, version, dumped(message), message))


@thorough
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "accept",
                    "content-type",
                    "content-length",
                    "mcp-protocol-version",
                    "mcp-session-id",
                    "mcp-method",
                    "mcp-name",
                    "last-event-id",
                ]
            ),
            st.one_of(
                st.sampled_from([MODERN, *HANDSHAKES, "*/*", "application/json", "tools/call", "=?base64?aGVhbHRo?="]),
                st.text(st.characters(max_codepoint=255)),
            ),
        )
    ),
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"]),
    query=st.one_of(st.just(""), st.binary().map(lambda raw: "toolset=" + raw.hex())),
)
def test_any_headers(talk: Talk, headers: list[tuple[str, str]], method: str, query: str) -> None:
    async def go() -> None:
        client = Client(talk.endpoint)
        scope_headers = [(name, value.encode("latin-1").decode("latin-1")) for name, value in headers]
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "health"}}).encode()
        answer = await client.open(method, body, scope_headers, query).complete()
        assert answer.json["jsonrpc"] == "2.0"
        assert 400 <= answer.status < 500 or answer.json["result"]

    talk.run(go())


BIG = "x" * 50_000
REFUSED: list[tuple[str, dict[str, Any]]] = [
    (BIG, {}),
    ("tools/call", {"name": BIG}),
    ("tools/call", {"name": "echo", "arguments": {BIG: 1}}),
    ("prompts/get", {"name": BIG}),
    ("prompts/get", {"name": "join_project", "arguments": {BIG: "x"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": BIG}, "argument": {"name": "a", "value": ""}}),
    ("completion/complete", {"ref": {"type": "ref/resource", "uri": BIG}, "argument": {"name": "a", "value": ""}}),
    ("resources/read", {"uri": BIG}),
    ("resources/subscribe", {"uri": BIG}),
]


@pytest.mark.parametrize("version", [HANDSHAKES[-1], MODERN])
def test_what_is_refused_is_repeated_in_part_only(talk: Talk, version: str) -> None:
    async def go() -> None:
        client = await Client(talk.endpoint).speak(version)
        for method, asked in REFUSED:
            answer = await client.call(method, asked)
            assert "error" in answer.json or answer.json["result"]["isError"]
            assert len(answer.body) < 8000, method[:50]

    talk.run(go())
