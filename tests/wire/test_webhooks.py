"""Webhooks over REST, delivered by the server's own jobs or by a worker's, to a receiver that checks the signatures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from agent_mail_core.ports import Role
from agent_mail_server.operations import BY_NAME
from agent_mail_worker.metrics import JobMetrics
from agent_mail_worker.working import working
from tests.contract.stand_in import http
from tests.contract.webhook_receiver import Receiver, call_id, receiver, verified
from tests.wire.server import Place, client_of, error_of, fleet, furnish, post, until

OPERATIONS = (
    *("add_webhook", "remove_webhook", "list_webhooks", "list_webhook_deliveries", "test_webhook"),
    "redeliver_webhook",
)
SHOP = {"project_slug": "shop"}
MAIL = {**SHOP, "sender_name": "BlueLake", "recipient_names": ["GreenHill"], "subject": "Cart", "body_md": "Swordfish"}


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as there:
        yield there


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """Of servers with two agents; in a cluster with a job worker."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(fleet(place, webhook_allowed_networks="127.0.0.0/8"))
        if place.redis_url is not None:
            server = servers.servers[0]
            await stack.enter_async_context(working(server.app, server.cluster.hear_jobs, JobMetrics(), 1.0))
        client = await stack.enter_async_context(client_of(servers))
        await furnish(client, "BlueLake", "GreenHill")
        yield client


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    response = await client.get(f"/api/webhook/{path}", params=query)
    assert response.is_success, response.text
    return response.json()


async def test_a_send_is_told_within_moments(client: httpx.AsyncClient, there: Receiver) -> None:
    added = await post(client, "webhook/add", url=there.url, events=["message.sent"], **SHOP)
    webhook_id, secret = added["webhook"]["webhook_id"], added["secret"]
    sent = await post(client, "message/send", **MAIL)
    await until(lambda: len(there.received) == 1)
    payload = verified(there.received[0], secret)
    assert (payload["type"], payload["data"]["message_id"]) == ("message.sent", sent["message_id"])
    assert b"Swordfish" not in there.received[0].body
    deliveries: list[Any] = []
    while not deliveries:  # it is noted after the answer; pytest's own time limit ends it
        deliveries = (await get(client, "deliveries", webhook_id=webhook_id))["deliveries"]
    (delivery,) = deliveries
    assert (delivery["state"], delivery["status_code"], delivery["attempts"]) == ("delivered", 204, 1)
    again = await post(client, "webhook/redeliver", webhook_id=webhook_id, delivery_id=delivery["delivery_id"])
    assert again["delivery"]["attempts"] == 2
    assert call_id(there.received[1]) == call_id(there.received[0])


async def test_what_is_given_is_listed_and_removed(client: httpx.AsyncClient, there: Receiver) -> None:
    given = "whsec_" + "QUJD" * 10
    response = await client.post("/api/webhook/add", json={"url": there.url, "events": [], "secret": given})
    assert response.status_code == 201
    added = response.json()
    assert added["secret"] == given
    assert added["webhook"]["url"] == there.url
    webhook = added["webhook"]
    assert "project_slug" not in webhook
    assert await get(client, "list") == {"webhooks": [webhook]}
    tried = await post(client, "webhook/test", webhook_id=webhook["webhook_id"])
    assert tried == {"is_delivered": True, "status_code": 204}
    there.answers(http(b"", "500 Oops"))
    tried = await post(client, "webhook/test", webhook_id=webhook["webhook_id"])
    assert tried == {"is_delivered": False, "status_code": 500, "error": "status 500"}
    assert await post(client, "webhook/remove", webhook_id=webhook["webhook_id"]) == {"webhook_id": 1}
    assert await get(client, "list") == {"webhooks": []}


@pytest.mark.parametrize(
    "path, arguments, status, code",
    [
        ("add", {"url": "https://10.0.0.1/"}, 422, "invalid_arguments"),
        ("add", {"url": "ftp://hooks.example/"}, 422, "invalid_arguments"),
        ("add", {"url": "https://hooks.example/", "events": ["mail.sent"]}, 422, "invalid_arguments"),
        ("add", {"url": "https://hooks.example/", "secret": "whsec_c2hvcnQ="}, 422, "invalid_arguments"),
        ("add", {"url": "https://hooks.example/", "project_slug": "none"}, 404, "project_not_found"),
        ("add", {}, 422, "invalid_arguments"),
        ("remove", {"webhook_id": 9}, 404, "webhook_not_found"),
        ("test", {"webhook_id": 9}, 404, "webhook_not_found"),
        ("redeliver", {"webhook_id": 9}, 404, "webhook_not_found"),
        ("redeliver", {"webhook_id": 9, "delivery_id": 1}, 404, "webhook_not_found"),
    ],
)
async def test_a_refusal_has_its_code(
    client: httpx.AsyncClient, path: str, arguments: dict[str, Any], status: int, code: str
) -> None:
    response = await client.post(f"/api/webhook/{path}", json=arguments)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (status, code)
    assert "c2hvcnQ=" not in response.text, "a secret is not repeated"


async def test_a_refused_url_is_pointed_at(client: httpx.AsyncClient) -> None:
    error = error_of(await client.post("/api/webhook/add", json={"url": "https://user:secret@hooks.example/"}))
    (problem,) = error["data"]["errors"]
    assert problem["pointer"] == "/url"
    assert "user:secret" not in str(error)


def test_they_are_for_administrators_and_no_tools() -> None:
    for name in OPERATIONS:
        assert (BY_NAME[name].role, BY_NAME[name].is_tool) == (Role.admin, False)
