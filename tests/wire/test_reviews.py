"""Reviews over the wire: the same arguments and the same answers on REST and on MCP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from agent_mail_server.examples import Example
from tests.wire.server import Place, client_of, error_of, fleet, furnish
from tests.wire.tools import call_tool, tool_names

Call = Callable[..., Awaitable[dict[str, Any]]]
"""Operation and arguments → its answer; an error as `{"error": …}`."""

SHOP = {"project_slug": "shop"}
ANN, BOB = {**SHOP, "agent_name": "Ann"}, {**SHOP, "agent_name": "Bob"}


async def call_rest(client: httpx.AsyncClient, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the operation answers over REST; an error as `{"error": …}`."""
    method, path, body = Example(operation, arguments).request()
    answer: dict[str, Any] = (await client.request(method, path, json=body)).json()
    return answer


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """The agents Ann, Bob and Cid in `shop`, and the thread FEAT-1 of a message of Ann's."""
    async with fleet(place) as server, client_of(server) as talking:
        await furnish(talking, "Ann", "Bob", "Cid")
        message = {"recipient_names": ["Cid"], "subject": "The cart", "body_md": "Done", "thread_id": "FEAT-1"}
        sent = await talking.post("/api/message/send", json={**SHOP, "sender_name": "Ann", **message})
        assert sent.status_code == 201
        yield talking


@pytest.fixture(params=[call_rest, call_tool], ids=["rest", "mcp"])
def call(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> Call:
    async def asking(operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await request.param(client, operation, arguments)
        return answer

    return asking


def steady(review: dict[str, Any]) -> dict[str, Any]:
    """A review's fields that do not depend on when it was made."""
    return {name: value for name, value in review.items() if not name.endswith("_at") and name != "fence"}


async def test_a_review_goes_from_step_to_step(call: Call) -> None:
    asked = await call(
        "request_review",
        **SHOP,
        requester_name="Ann",
        thread_id="FEAT-1",
        reviewer_names=["Bob", "Cid"],
        paths=["src/cart.py"],
        note="Right?",
        idempotency_key="k",
    )
    expected = {
        "review_id": asked["review_id"],
        "thread_id": "FEAT-1",
        "requester_name": "Ann",
        "reviewer_names": ["Bob", "Cid"],
        "paths": ["src/cart.py"],
        "note": "Right?",
        "state": "requested",
    }
    assert steady(asked) == {**expected, "replayed": False}
    review = {**SHOP, "review_id": asked["review_id"]}
    claimed = await call("claim_review", **review, agent_name="Bob", ttl_seconds=600)
    assert (claimed["claimed"], claimed["renewed"]) == (True, False)
    assert steady(claimed["review"]) == {**expected, "state": "claimed", "claimer_name": "Bob"}
    lost = await call("claim_review", **review, agent_name="Cid")
    assert lost == {"claimed": False, "renewed": False, "review": claimed["review"]}
    refused = await call("complete_review", **review, agent_name="Cid", verdict="approve", body_md="Yes")
    assert refused["error"]["code"] == "review_not_claimed"
    done = await call("complete_review", **review, agent_name="Bob", verdict="request_changes", body_md="No")
    assert steady(done) == {**expected, "state": "done", "claimer_name": "Bob", "verdict": "request_changes"}
    assert await call("get_review", **review) == done
    assert (await call("list_reviews", **BOB, state="done"))["reviews"] == [done]
    assert (await call("list_reviews", **ANN, state="claimed"))["reviews"] == []
    assert (await call("cancel_review", **review))["error"]["code"] == "review_ended"
    message = (await call("check_inbox", **ANN, include_bodies=True))["messages"][0]
    subject = f"Review {asked['review_id']} changes requested: The cart"
    assert (message["subject"], message["body_md"], message["thread_id"]) == (subject, "No", "FEAT-1")


async def test_a_review_is_cancelled(call: Call) -> None:
    asked = await call("request_review", **SHOP, requester_name="Ann", message_id=1)
    review = {**SHOP, "review_id": asked["review_id"]}
    cancelled = await call("cancel_review", **review)
    assert (cancelled["state"], cancelled["message_id"]) == ("cancelled", 1)
    assert await call("cancel_review", **review) == cancelled
    assert (await call("claim_review", **BOB, review_id=asked["review_id"]))["claimed"] is False


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("review/request", {"requester_name": "Ann", "reviewer_names": ["Bob"]}, 422, "invalid_arguments"),
    ("review/request", {"requester_name": "Ann", "thread_id": "FEAT-1", "message_id": 1}, 422, "invalid_arguments"),
    ("review/request", {"requester_name": "Ann", "thread_id": "FEAT-9"}, 404, "thread_not_found"),
    ("review/request", {"requester_name": "Ann", "message_id": 99}, 404, "message_not_found"),
    ("review/request", {"requester_name": "Ann", "message_id": 1, "reviewer_names": ["Ann"]}, 403, "not_a_reviewer"),
    ("review/claim", {"agent_name": "Bob", "review_id": 99}, 404, "review_not_found"),
    ("review/claim", {"agent_name": "Bob", "review_id": 1, "ttl_seconds": 59}, 422, "invalid_arguments"),
    ("review/cancel", {"review_id": 99}, 404, "review_not_found"),
]


@pytest.mark.parametrize("path, arguments, status, code", REFUSED)
async def test_refusals_have_their_status_and_code(
    client: httpx.AsyncClient, path: str, arguments: dict[str, Any], status: int, code: str
) -> None:
    response = await client.post(f"/api/{path}", json={**SHOP, **arguments})
    assert (response.status_code, error_of(response)["code"]) == (status, code)


async def test_a_header_may_carry_the_key(client: httpx.AsyncClient) -> None:
    wanted = {**SHOP, "requester_name": "Ann", "thread_id": "FEAT-1", "reviewer_names": ["Bob"]}
    first, again = [
        await client.post("/api/review/request", json=wanted, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == {**first.json(), "replayed": True}
    other = await client.post("/api/review/request", json={**wanted, "note": "?"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, error_of(other)["code"]) == (409, "idempotency_conflict")


async def test_all_steps_are_tools(client: httpx.AsyncClient) -> None:
    steps = {"request_review", "claim_review", "complete_review", "cancel_review", "get_review", "list_reviews"}
    assert steps <= await tool_names(client)
