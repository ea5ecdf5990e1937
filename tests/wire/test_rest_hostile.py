"""Whatever is sent: a coded error in the one body, never a 500, and nothing stored."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_mail_server.operations import OPERATIONS, Operation
from tests.wire.server import Fleet, Place, client_of, error_of, fleet, furnish, post

READS = [operation for operation in OPERATIONS if operation.routes[0].startswith("GET") and not operation.is_public]
WRITES = [operation for operation in OPERATIONS if operation.routes[0].startswith("POST")]
NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    -(2**70),
    1e308,
    "",
    " ",
    "\x00",
    "\x1b[31m",
    "a\nb",
    "'; DROP TABLE messages; --",
    "../../etc/passwd",
    "ﷺ" * 30,
    "🧨",
    "é",
    "\u202e",
    "x" * 70_000,
    [],
    [[]],
    {},
    {"a": 1},
    ["BlueLake", "BlueLake"],
    ["", None],
    [1, 2],
    [-1],
]
LITERALS = [b"NaN", b"Infinity", b"-Infinity", b"1" + b"0" * 400, b"1e999", b'"\\ud800"', b'"\xff\xfe"', b"'a'", b"01"]
values = st.sampled_from(NASTY) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
thorough = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def fields(operation: Operation) -> list[str]:
    return list(operation.request_type.model_fields)


async def everything(client: httpx.AsyncClient) -> list[Any]:
    """All that can be seen, to tell whether anything changed."""
    agents = await client.get("/api/agent/list", params={"project_slug": "shop", "include_retired": "true"})
    seen = [(await client.get("/api/project/list")).json()["projects"]]
    seen += [[{**agent, "last_active_at": None} for agent in agents.json()["agents"]]]
    seen += [(await client.get("/api/outbox", params={"project_slug": "shop", "agent_name": "BlueLake"})).json()]
    return seen


class Talk:
    """A furnished server, and a loop of its own to talk to it from plain tests."""

    def __init__(self, place: Place) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.server, self.client = self._runner.run(self._open(place))

    async def _open(self, place: Place) -> tuple[Fleet, httpx.AsyncClient]:
        server = await self._stack.enter_async_context(fleet(place))
        client = await self._stack.enter_async_context(client_of(server))
        await furnish(client, "BlueLake")
        mail = {"sender_name": "BlueLake", "recipient_names": ["BlueLake"], "subject": "s", "body_md": "b"}
        await post(client, "message/send", project_slug="shop", **mail)
        return server, client

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def run(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """The answers to requests, each checked; and that nothing changed, unless one was accepted."""
        return self._runner.run(self._run(requests))

    async def _run(self, requests: Iterable[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        before = await everything(self.client)
        answers = [await self.client.request(method, path, **sent) for method, path, sent in requests]
        for answer in answers:
            assert answer.status_code < 500, answer.text[:500]
            assert answer.headers["content-type"] == "application/json"
            if not answer.is_success:
                error_of(answer)
        if not any(answer.is_success for answer in answers):
            assert await everything(self.client) == before
        return answers

    def raw(self, scope: dict[str, Any]) -> tuple[int, Any]:
        """Status and body of the answer to an ASGI request that no client would send."""
        return self._runner.run(self._raw(scope))

    async def _raw(self, scope: dict[str, Any]) -> tuple[int, Any]:
        answers: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            answers.append(message)

        await self.server.asgi({"type": "http", "http_version": "1.1", **scope}, receive, send)
        return answers[0]["status"], json.loads(answers[1]["body"])


@pytest.fixture
def talk(place: Place) -> Iterator[Talk]:
    talking = Talk(place)
    yield talking
    talking.close()


def path_of(operation: Operation, value: str = "shop") -> tuple[str, str]:
    method, _, path = operation.routes[0].partition(" ")
    for name in Operation.path_fields(operation.routes[0]):
        path = path.replace(f"{{{name}}}", value)
    return method, path


@pytest.mark.parametrize("operation", WRITES, ids=lambda operation: operation.name)
@thorough
@given(data=st.data())
def test_a_body_of_any_values(talk: Talk, operation: Operation, data: st.DataObject) -> None:
    names = st.sampled_from(fields(operation)) | st.text(max_size=12)
    body = data.draw(st.dictionaries(names, values, max_size=6) | values)
    talk.run((*path_of(operation), {"json": body}))


@pytest.mark.parametrize("operation", READS, ids=lambda operation: operation.name)
@thorough
@given(data=st.data())
def test_a_query_of_any_texts(talk: Talk, operation: Operation, data: st.DataObject) -> None:
    names = st.sampled_from([*fields(operation), "x"])
    texts = st.sampled_from([str(value) for value in NASTY if len(str(value)) < 5000]) | st.text(max_size=30)
    pairs = data.draw(st.lists(st.tuples(names, texts), max_size=6))
    raw = data.draw(st.binary(max_size=12))
    query = "&".join(f"{name}={quote_from_bytes(text.encode('utf-8', 'replace'))}" for name, text in pairs)
    method, path = path_of(operation, quote_from_bytes(raw, safe="") or "shop")
    if operation.is_waiting:
        query += "&timeout_seconds=0"
    talk.run((method, f"{path}?{query}&{quote_from_bytes(raw)}", {}), (method, f"{path}?{query}", {}))


@thorough
@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_body_of_any_bytes(talk: Talk, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answers = talk.run(("POST", "/api/message/send", {"content": body, "headers": headers}))
    assert answers[0].status_code in (400, 422)


@pytest.mark.parametrize("literal", LITERALS)
def test_what_only_resembles_json(talk: Talk, literal: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    bodies = [b'{"human_key": %b}' % literal, b'{"human_key": "a", "description": %b}' % literal, literal]
    requests = [("POST", "/api/project/ensure", {"content": body, "headers": headers}) for body in bodies]
    assert all(answer.status_code in (400, 422) for answer in talk.run(*requests))


def test_deep_json_is_refused_at_any_depth(talk: Talk) -> None:
    headers = {"Content-Type": "application/json"}
    bodies = [b"[" * depth + b"]" * depth for depth in (65, 1000, 200_000)]
    bodies += [b'{"a":' * depth + b"1" + b"}" * depth for depth in (65, 1000, 100_000)]
    requests = [("POST", "/api/project/ensure", {"content": body, "headers": headers}) for body in bodies]
    for answer in talk.run(*requests):
        assert (answer.status_code, error_of(answer)["code"]) == (400, "malformed_request")


def test_a_megabyte_is_refused_quickly_and_small_errors_come_back(talk: Talk) -> None:
    for body in ({"human_key": "x" * 1_000_000}, {f"x{number}": number for number in range(60_000)}):
        assert len(json.dumps(body)) < 1024 * 1024
        answer = talk.run(("POST", "/api/project/ensure", {"json": body}))[0]
        assert answer.status_code == 422
        assert len(answer.content) < 8000


def test_a_query_of_thousands_of_fields_is_malformed(talk: Talk) -> None:
    answer = talk.run(("GET", "/api/inbox?" + "a=1&" * 5000, {}))[0]
    assert answer.status_code == 400
    many = talk.run(("GET", "/api/inbox?" + "&".join(f"a{n}=1" for n in range(1000)), {}))[0]
    assert many.status_code == 422
    assert len(many.content) < 8000


@pytest.mark.parametrize("query", [b"project_slug=%ff", b"project_slug=\xff", b"%ff=1", b"project_slug=%ED%A0%80"])
def test_a_query_that_is_not_utf_8_is_malformed(talk: Talk, query: bytes) -> None:
    headers = [(b"host", b"localhost")]
    status, body = talk.raw({"method": "GET", "path": "/api/inbox", "query_string": query, "headers": headers})
    assert (status, body["error"]["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    "path", ["/\udcff", "/api/message/\udcff", "/api/thread/\x00", "/" + "a" * 60_000, "", "//", "/api/../x"]
)
def test_a_path_of_any_kind_is_answered(talk: Talk, path: str) -> None:
    headers = [(b"host", b"localhost")]
    status, body = talk.raw({"method": "GET", "path": path, "query_string": b"", "headers": headers})
    assert status in (404, 422)
    assert body["error"]["code"]


@pytest.mark.parametrize("method", ["BREW", "get", "CONNECT", "\udcff", "X" * 5000])
def test_a_method_of_any_kind_is_answered(talk: Talk, method: str) -> None:
    headers = [(b"host", b"localhost")]
    status, body = talk.raw({"method": method, "path": "/api/inbox", "query_string": b"", "headers": headers})
    assert (status, body["error"]["code"]) == (405, "method_not_allowed")
