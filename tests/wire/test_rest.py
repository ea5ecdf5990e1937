"""REST as SPEC §5 says it: paths, statuses, where arguments stand, keys, and the one error body."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agent_mail_core import deciding
from agent_mail_core.errors import AgentMailError, DatabaseUnavailable
from agent_mail_server.operations import BY_NAME, OPERATIONS
from tests.wire.server import Fleet, Place, client_of, error_of, fleet, furnish, post, served, until

LAKE = {"project_slug": "shop", "agent_name": "BlueLake"}
HILL = {"project_slug": "shop", "agent_name": "GreenHill"}
MAIL = {"project_slug": "shop", "sender_name": "BlueLake", "subject": "Cart", "body_md": "Hold **it**."}


@pytest.fixture
async def server(place: Place) -> AsyncIterator[Fleet]:
    async with fleet(place) as running:
        yield running


@pytest.fixture
async def client(server: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as talking:
        yield talking


async def test_two_agents_exchange_mail(client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake", "GreenHill")
    sent = await client.post("/api/message/send", json={**MAIL, "recipient_names": ["greenhill"], "ack_required": True})
    assert sent.status_code == 201
    assert sent.json()["deliveries"] == [{"name": "GreenHill", "kind": "to"}]
    inbox = (await client.get("/api/inbox", params={**HILL, "include_bodies": "true"})).json()
    assert [mail["body_md"] for mail in inbox["messages"]] == ["Hold **it**."]
    message_id = inbox["messages"][0]["message_id"]
    reply = {"project_slug": "shop", "sender_name": "GreenHill", "message_id": message_id, "body_md": "Fine."}
    assert (await client.post("/api/message/reply", json=reply)).status_code == 201
    await post(client, "message/acknowledge", **HILL, message_id=message_id)
    thread = (await client.get(f"/api/thread/{sent.json()['thread_id']}", params={"project_slug": "shop"})).json()
    assert [mail["subject"] for mail in thread["messages"]] == ["Cart", "Re: Cart"]
    found = (await client.get("/api/message/search", params={"project_slug": "shop", "query": "hold"})).json()
    assert [hit["message_id"] for hit in found["hits"]] == [message_id]


async def test_a_drawn_thread_id_that_is_taken_is_drawn_again(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnish(client, "BlueLake", "GreenHill")
    drawn = iter(["T-first", "T-first", "T-second"])
    monkeypatch.setattr(deciding, "new_thread_key", lambda: next(drawn))
    sent = [await post(client, "message/send", **MAIL, recipient_names=["GreenHill"]) for _ in range(2)]
    assert [mail["thread_id"] for mail in sent] == ["T-first", "T-second"]
    listed = (await client.get("/api/thread/list", params={"project_slug": "shop"})).json()["threads"]
    assert [(thread["thread_id"], thread["message_count"]) for thread in listed] == [("T-second", 1), ("T-first", 1)]
    assert [thread["last_message_id"] for thread in listed] == [mail["message_id"] for mail in reversed(sent)]


async def test_each_request_goes_to_the_next_worker(server: Fleet, client: httpx.AsyncClient, place: Place) -> None:
    for _ in range(4):
        await client.get("/api/project/list")
    counted = [row.calls for each in server.servers for row in each.metrics.snapshot().tools]
    assert counted == {1: [4], 2: [2, 2]}[place.workers]


def test_every_operation_has_a_route_and_no_route_has_two() -> None:
    routes = [route for operation in OPERATIONS for route in operation.routes]
    assert len(routes) == len(set(routes))
    assert all(operation.routes for operation in OPERATIONS)


async def test_a_waiting_call_is_answered_when_mail_arrives(server: Fleet, client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake", "GreenHill")
    waiting = asyncio.create_task(client.get("/api/inbox/wait", params={**HILL, "timeout_seconds": 20}))
    await until(lambda: server.waiting == 1)
    await post(client, "message/send", **MAIL, recipient_names=["GreenHill"])
    answer = (await asyncio.wait_for(waiting, 5)).json()
    assert answer["timed_out"] is False
    assert [mail["subject"] for mail in answer["messages"]] == ["Cart"]


async def test_a_waiting_call_ends_when_its_client_leaves(server: Fleet, client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake")
    answers: list[Any] = []
    messages = [{"type": "http.disconnect"}]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        await until(lambda: server.waiting == 1)
        return messages.pop()

    async def send(message: Any) -> None:
        answers.append(message)

    query = b"project_slug=shop&agent_name=BlueLake&timeout_seconds=40"
    scope = {"type": "http", "method": "GET", "path": "/api/inbox/wait", "query_string": query, "http_version": "1.1"}
    await asyncio.wait_for(server.asgi({**scope, "headers": [(b"host", b"localhost")]}, receive, send), 5)
    assert answers == []
    assert server.waiting == 0


async def test_draining_ends_waits_and_says_not_ready(server: Fleet, client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake")
    assert (await client.get("/ready")).json()["status"] == "ready"
    waiting = asyncio.create_task(client.get("/api/inbox/wait", params={**LAKE, "timeout_seconds": 40}))
    await until(lambda: server.waiting == 1)
    await asyncio.wait_for(server.drain(5), 2)
    answer = await waiting
    assert answer.json()["timed_out"] is True
    assert answer.headers["connection"] == "close"
    unready = await client.get("/ready")
    assert (unready.status_code, unready.json()["status"]) == (503, "not_ready")
    assert (await client.get("/health")).status_code == 200


# --- where arguments stand --------------------------------------------------------------------------------------------


async def test_a_slug_in_the_path_comes_after_fixed_paths(client: httpx.AsyncClient) -> None:
    await furnish(client)
    assert (await client.get("/api/project/shop")).json()["slug"] == "shop"
    assert "projects" in (await client.get("/api/project/list")).json()


async def test_an_argument_is_given_once(client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake")
    for path in (
        "/api/inbox?project_slug=shop&project_slug=shop&agent_name=BlueLake",
        "/api/project/shop?project_slug=shop",
    ):
        response = await client.get(path)
        assert response.status_code == 422
        assert error_of(response)["data"]["errors"][0]["type"] == "twice"


async def test_a_write_takes_no_query(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/project/ensure?human_key=a", json={"human_key": "a"})
    assert response.status_code == 422
    assert "body" in error_of(response)["message"]


async def test_unknown_arguments_are_refused_with_the_near_name(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/inbox", params={"project_slug": "shop", "agent_nam": "BlueLake"})
    assert response.status_code == 422
    assert error_of(response)["data"]["errors"] == [
        {
            "pointer": "/agent_nam",
            "message": "unknown argument; did you mean agent_name?",
            "type": "unknown_argument",
            "suggestion": "agent_name",
        }
    ]


async def test_names_of_the_rust_port_are_read(client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake")
    ported = {"project_key": "/code/shop", "agent_name": "GreenHill", "program": "p", "model": "m"}
    assert (await client.post("/api/agent/register", json=ported)).json()["agent"]["name"] == "GreenHill"
    mail = {"project_key": "shop", "sender_name": "BlueLake", "subject": "s", "body_md": "b", "importance": "high"}
    sent = await client.post("/api/message/send", json={**mail, "to": "GreenHill, BlueLake"})
    assert sent.status_code == 201, sent.text
    assert [delivery["name"] for delivery in sent.json()["deliveries"]] == ["GreenHill", "BlueLake"]


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    got, headed = await client.get("/openapi.json"), await client.head("/openapi.json")
    assert headed.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-length"] == str(len(got.content))


# --- idempotency keys -------------------------------------------------------------------------------------------------


async def test_the_header_is_the_argument(client: httpx.AsyncClient) -> None:
    await furnish(client, "BlueLake", "GreenHill")
    mail = {**MAIL, "recipient_names": ["GreenHill"]}
    first = await client.post("/api/message/send", json=mail, headers={"Idempotency-Key": "k1"})
    again = await client.post("/api/message/send", json={**mail, "idempotency_key": "k1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == {**first.json(), "replayed": True}
    both = await client.post(
        "/api/message/send", json={**mail, "idempotency_key": "k1"}, headers={"Idempotency-Key": "k1"}
    )
    assert both.json()["replayed"] is True


async def test_two_different_keys_are_refused(client: httpx.AsyncClient) -> None:
    mail = {**MAIL, "recipient_names": ["GreenHill"], "idempotency_key": "k1"}
    response = await client.post("/api/message/send", json=mail, headers={"Idempotency-Key": "k2"})
    assert response.status_code == 422
    assert error_of(response)["data"]["errors"][0]["pointer"] == "/idempotency_key"


@pytest.mark.parametrize("call", [("POST", "/api/project/ensure"), ("GET", "/api/project/list")])
async def test_a_key_that_would_have_no_effect_is_refused(client: httpx.AsyncClient, call: tuple[str, str]) -> None:
    body = {"human_key": "a"} if call[0] == "POST" else None
    response = await client.request(*call, json=body, headers={"Idempotency-Key": "k"})
    assert response.status_code == 422
    assert (await client.get("/api/project/list")).json()["projects"] == []


# --- errors -----------------------------------------------------------------------------------------------------------

GOLDEN: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/api/inbo", None, 404, "unknown_operation"),
    ("GET", "/", None, 404, "unknown_operation"),
    ("GET", "/api/inbox/", None, 404, "unknown_operation"),
    ("GET", "/api/message/send", None, 405, "method_not_allowed"),
    ("DELETE", "/api/inbox", None, 405, "method_not_allowed"),
    ("PUT", "/api/thread/FEAT-1", None, 405, "method_not_allowed"),
    ("OPTIONS", "/api/inbox", None, 405, "method_not_allowed"),
    ("GET", "/api/inbox", None, 422, "invalid_arguments"),
    ("GET", "/api/inbox?project_slug=none&agent_name=x", None, 404, "project_not_found"),
    ("GET", "/api/inbox?project_slug=shop&agent_name=x", None, 404, "agent_not_found"),
    ("GET", "/api/inbox?project_slug=shop&agent_name=BlueLake&cursor=abc", None, 422, "invalid_cursor"),
    ("GET", "/api/message/search?query=%20", None, 422, "empty_query"),
    ("GET", "/api/message/search?query=x&mode=semantic", None, 422, "mode_unavailable"),
    ("GET", "/api/message/999999999", None, 404, "message_not_found"),
    ("GET", "/api/message/abc", None, 422, "invalid_arguments"),
    ("GET", "/api/message/99999999999999999999999999", None, 422, "invalid_arguments"),
    ("GET", "/api/thread/NONE-1?project_slug=shop", None, 404, "thread_not_found"),
    ("POST", "/api/project/ensure", {"human_key": "other", "slug": "shop"}, 409, "slug_taken"),
    ("POST", "/api/project/ensure", ["human_key"], 422, "invalid_arguments"),
    ("POST", "/api/project/ensure", None, 422, "invalid_arguments"),
    ("POST", "/api/message/send", {**MAIL, "recipient_names": ["Nobody"]}, 404, "recipients_unknown"),
    ("POST", "/api/message/send", {**MAIL, "recipient_names": []}, 422, "invalid_arguments"),
    ("POST", "/api/message/send", {**MAIL, "recipient_names": ["bluelake", "BlueLake"]}, 422, "duplicate_recipient"),
]


@pytest.mark.parametrize("method, path, body, status, code", GOLDEN)
async def test_a_refused_request_says_why(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    await furnish(client, "BlueLake")
    response = await client.request(method, path, json=body)
    assert (response.status_code, error_of(response)["code"]) == (status, code)
    if status == 405:
        assert response.headers["allow"]


async def test_an_error_in_full(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/project/shopp", headers={"X-Request-Id": "req-1.a_B"})
    assert response.json() == {
        "error": {
            "code": "project_not_found",
            "message": "There is no project 'shopp'.",
            "data": {"project_slug": "shopp", "suggestion": "ensure_project"},
            "request_id": "req-1.a_B",
        }
    }


async def test_an_unknown_path_names_those_that_resemble_it(client: httpx.AsyncClient) -> None:
    assert "/api/inbox" in error_of(await client.get("/api/inbo"))["data"]["near"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "tab\there", "ä".encode().decode("latin-1")])
async def test_a_request_id_that_is_not_plain_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    response = await client.get("/health", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert response.headers["x-request-id"] != given
    assert response.headers["x-request-id"].isalnum()


@pytest.mark.parametrize(
    "media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
async def test_a_body_that_is_not_said_to_be_json_is_malformed(
    client: httpx.AsyncClient, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    response = await client.post("/api/project/ensure", content=b'{"human_key": "a"}', headers=headers)
    assert (response.status_code, error_of(response)["code"]) == (400, "malformed_request")
    assert (await client.get("/api/project/list")).json()["projects"] == []


async def test_json_may_say_its_charset(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=UTF-8"}
    response = await client.post("/api/project/ensure", content='{"human_key": "ä"}'.encode(), headers=headers)
    assert response.status_code == 200


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_the_limit_is_too_large(place: Place, is_chunked: bool) -> None:
    async with fleet(place, max_body_bytes=4096) as server, client_of(server) as client:
        body = chunks(5, 1000) if is_chunked else b'{"human_key": "' + b"x" * 5000 + b'"}'
        headers = {"Content-Type": "application/json"}
        response = await client.post("/api/project/ensure", content=body, headers=headers)
        assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
        assert error_of(response)["data"] == {"max_body_bytes": 4096, "suggestion": "send less at once"}


async def test_a_body_of_the_limit_is_read(place: Place) -> None:
    async with fleet(place, max_body_bytes=4096) as server, client_of(server) as client:
        body = json.dumps({"human_key": "a"}).ljust(4096).encode()
        headers = {"Content-Type": "application/json"}
        assert (await client.post("/api/project/ensure", content=body, headers=headers)).status_code == 200


async def test_a_body_that_never_ends_is_given_up(place: Place) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(3600)

    async with fleet(place, request_timeout_seconds=0.05) as server, client_of(server) as client:
        response = await client.post(
            "/api/project/ensure", content=slow(), headers={"Content-Type": "application/json"}
        )
        assert (response.status_code, error_of(response)["code"]) == (400, "malformed_request")


async def test_too_many_at_once_are_turned_away_before_any_work(one_process: str) -> None:
    async with served(one_process, max_in_flight=2) as server, client_of(server) as client:
        await furnish(client, "BlueLake")
        server.metrics.in_flight += 2
        response = await client.get("/api/inbox", params=LAKE)
        assert (response.status_code, error_of(response)["code"]) == (503, "overloaded")
        assert response.headers["retry-after"] == "1"
        for probe in ("/health", "/ready", "/metrics"):
            assert (await client.get(probe)).status_code == 200
        server.metrics.in_flight -= 2
        assert (await client.get("/api/inbox", params=LAKE)).status_code == 200


async def test_waiting_calls_take_no_place_of_those_at_work(place: Place) -> None:
    async with fleet(place, max_in_flight=1) as server, client_of(server) as client:
        await furnish(client, "BlueLake")
        waits: list[asyncio.Task[httpx.Response]] = []
        for number in range(6):
            await until(lambda: server.waiting == number)  # noqa: B023 - awaited in the same turn
            waits.append(asyncio.create_task(client.get("/api/inbox/wait", params={**LAKE, "timeout_seconds": 30})))
        await until(lambda: server.waiting == 6)
        assert (await client.get("/api/inbox", params=LAKE)).status_code == 200
        await server.drain(5)
        assert [answer.status_code for answer in await asyncio.gather(*waits)] == [200] * 6


async def test_a_database_that_is_away_is_a_503(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await refuse(monkeypatch, DatabaseUnavailable())
    response = await client.get("/api/project/list")
    assert (response.status_code, error_of(response)["code"]) == (503, "unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_a_fault_of_ours_shows_nothing_of_its_cause(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refuse(monkeypatch, RuntimeError("secret detail"))
    response = await client.get("/api/project/list")
    assert (response.status_code, error_of(response)["code"]) == (500, "internal")
    assert "secret detail" not in response.text


async def refuse(monkeypatch: pytest.MonkeyPatch, error: AgentMailError | Exception) -> None:
    """Make list_projects fail."""

    async def failing(app: Any, caller: Any, request: Any) -> Any:
        raise error

    operation = BY_NAME["list_projects"]
    assert operation.name == "list_projects"
    assert operation.request_type, "computed before the use case is replaced"
    monkeypatch.setitem(operation.__dict__, "use_case", failing)
