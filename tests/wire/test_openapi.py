"""The OpenAPI description: valid, complete, and true to the operations table."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from agent_mail_client.client import ApiError, MailClient, NoSuchOperation, Unreachable
from agent_mail_server.openapi import DESCRIBED, openapi
from agent_mail_server.operations import OPERATIONS, Operation
from tests.wire.server import URL, Fleet, Place, client_of, fleet


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(json.dumps(openapi("1.2.3", needs_credential=True)))
    return described


@pytest.fixture
async def server(place: Place) -> AsyncIterator[Fleet]:
    async with fleet(place) as running:
        yield running


def operations_in(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_it_is_valid(description: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(description).validate()


def test_it_has_every_operation_once_under_its_name(description: dict[str, Any]) -> None:
    described = {operation["operationId"]: f"{method} {path}" for method, path, operation in operations_in(description)}
    assert described == {operation.name: operation.routes[0] for operation in DESCRIBED}
    assert set(OPERATIONS) < set(DESCRIBED)


@pytest.mark.parametrize("operation", DESCRIBED, ids=lambda operation: operation.name)
def test_it_shows_every_argument_and_no_other(description: dict[str, Any], operation: Operation) -> None:
    method, path = operation.routes[0].split(" ")
    described = description["paths"][path][method.lower()]
    shown = {item["name"] for item in described.get("parameters", ()) if item["in"] in ("path", "query")}
    if "requestBody" in described:
        body = described["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        shown |= set(description["components"]["schemas"][body]["properties"])
    assert shown == set(operation.request_type.model_fields)
    assert str(operation.status) in described["responses"]


def test_the_event_stream_is_told_as_one(description: dict[str, Any]) -> None:
    described = description["paths"]["/api/events/stream"]["get"]
    assert list(described["responses"]["200"]["content"]) == ["text/event-stream"]
    assert [item["name"] for item in described["parameters"] if item["in"] == "header"] == ["Last-Event-ID"]


def test_models_of_one_name_are_one(description: dict[str, Any]) -> None:
    names = {model.__name__ for operation in OPERATIONS for model in (operation.request_type, operation.result_type)}
    assert names <= set(description["components"]["schemas"])


async def test_the_server_gives_it_and_errors_have_its_shape(server: Fleet, description: dict[str, Any]) -> None:
    async with client_of(server) as client:
        given = (await client.get("/openapi.json")).json()
        assert given["paths"].keys() == description["paths"].keys()
        assert given["security"] == []
        error = (await client.get("/api/inbox")).json()
    jsonschema.validate(error, given["components"]["schemas"]["Error"])


async def test_the_client_learns_all_operations_from_it(server: Fleet) -> None:
    async with MailClient(URL, transport=httpx.ASGITransport(server.asgi)) as client:
        assert set(await client.operations()) == {operation.name for operation in OPERATIONS}  # streams are none
        made = await client.call("ensure_project", human_key="/code/shop", slug="shop")
        assert made["created"] is True
        assert (await client.call("get_project", project_slug="shop"))["slug"] == "shop"
        await client.call("register_agent", project_slug="shop", program="p", model="m", name="BlueLake")
        agents = await client.call("list_agents", project_slug="shop", include_retired=True, cursor=None)
        assert [agent["name"] for agent in agents["agents"]] == ["BlueLake"]
        with pytest.raises(ApiError) as refused:
            await client.call("whois", project_slug="shop", agent_name="x")
        assert (refused.value.status, refused.value.code) == (404, "agent_not_found")
        assert refused.value.request_id
        with pytest.raises(NoSuchOperation):
            await client.call("make_coffee")


async def test_the_client_retries_a_write_under_one_key(server: Fleet) -> None:
    keys: list[str] = []
    inner = httpx.ASGITransport(server.asgi)

    class Flaky(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await inner.handle_async_request(request)
            if request.url.path.endswith("/send"):
                keys.append(json.loads(request.content)["idempotency_key"])
                if len(keys) == 1:
                    await response.aread()
                    raise httpx.ReadError("connection lost after the commit")
            return response

    async with MailClient(URL, transport=Flaky(), retries=2) as client:
        await client.call("ensure_project", human_key="shop")
        await client.call("register_agent", project_slug="shop", program="p", model="m", name="BlueLake")
        mail = {"project_slug": "shop", "sender_name": "BlueLake", "subject": "s", "body_md": "b"}
        sent = await client.call("send_message", **mail, recipient_names=["BlueLake"])
        assert sent["replayed"] is True
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert (await client.call("check_inbox", project_slug="shop", agent_name="BlueLake"))["unread_count"] == 1


async def test_a_server_that_is_away_is_said_so() -> None:
    async with MailClient("http://127.0.0.1:1", timeout=1) as client:
        with pytest.raises(Unreachable):
            await client.call("health")
