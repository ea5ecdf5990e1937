"""Sessions, hand-offs, broadcasts and the Overseer over the wire: the same on REST and on MCP where both have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.wire.server import Place, client_of, error_of, fleet, furnish
from tests.wire.test_reviews import Call, call_rest
from tests.wire.tools import call_tool, tool_names

SHOP = {"project_slug": "shop"}
STARTS = {"human_key": "/code/shop", "program": "pytest", "model": "none"}


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """The agents Ann, Bob and Cid in `shop`."""
    async with fleet(place) as server, client_of(server) as talking:
        await furnish(talking, "Ann", "Bob", "Cid")
        yield talking


@pytest.fixture(params=[call_rest, call_tool], ids=["rest", "mcp"])
def call(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> Call:
    async def asking(operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await request.param(client, operation, arguments)
        return answer

    return asking


async def test_a_session_starts_and_hands_its_work_over(call: Call) -> None:
    begun = await call(
        "start_session", **STARTS, agent_name="Eve", task_description="The cart", reserve_paths=["src"], inbox_limit=5
    )
    assert (begun["project"]["human_key"], begun["agent"]["name"], begun["created"]) == ("/code/shop", "Eve", True)
    assert begun["agent"]["task_description"] == "The cart"
    [granted] = begun["reservations"]["granted"]
    assert (begun["inbox"]["messages"], begun["inbox"]["unread_count"]) == ([], 0)
    there = {"project_slug": begun["project"]["slug"]}
    await call("register_agent", **there, program="pytest", model="none", name="Fay")
    over = {**there, "from_agent": "Eve", "to_agent": "Fay", "task": "Finish it", "idempotency_key": "k"}
    moved = await call("hand_off", **over, paths=["src"], notes="Almost done")
    [held] = moved["reservations"]
    assert (held["holder"], held["pattern"], held["expires_at"]) == ("Fay", "src", granted["expires_at"])
    assert held["fence"] > granted["fence"]
    assert await call("hand_off", **over, paths=["src"], notes="Almost done") == {**moved, "replayed": True}
    refused = await call("hand_off", **{**over, "idempotency_key": "l"}, paths=["src"])
    assert (refused["error"]["code"], refused["error"]["data"]["paths"]) == ("reservation_not_held", ["src"])
    [message] = (await call("check_inbox", **there, agent_name="Fay", include_bodies=True))["messages"]
    assert message["message_id"] == moved["message_id"]
    assert "Almost done" in message["body_md"]


async def test_what_would_be_split_is_refused_and_says_what_to_hand_over_too(call: Call) -> None:
    await call("reserve_file", **SHOP, agent_name="Ann", paths=["src", "src/a.py"])
    refused = await call("hand_off", **SHOP, from_agent="Ann", to_agent="Bob", task="x", paths=["src/a.py"])
    assert (refused["error"]["code"], refused["error"]["data"]["kept"]) == ("reservations_split", ["src"])
    assert "hand_off" in refused["error"]["data"]["suggestion"]
    moved = await call("hand_off", **SHOP, from_agent="Ann", to_agent="Bob", task="x", paths=["src/a.py", "src"])
    assert {one["holder"] for one in moved["reservations"]} == {"Bob"}


async def test_the_old_name_of_the_tool_starts_a_session_too(client: httpx.AsyncClient) -> None:
    begun = await call_tool(client, "macro_start_session", {**STARTS, "agent_name": "Ann", "idempotency_key": "k"})
    assert begun["agent"]["name"] == "Ann"
    assert "macro_start_session" not in await tool_names(client)


async def test_a_broadcast_reaches_all_and_shows_nobody_the_others(call: Call) -> None:
    wanted = {**SHOP, "sender_name": "Ann", "subject": "Noon", "body_md": "We release.", "idempotency_key": "k"}
    sent = await call("broadcast_message", **wanted, active_within_seconds=600, priority="high")
    assert (sent["delivered"], sent["skipped"], sent["replayed"]) == (["Bob", "Cid"], [], False)
    again = await call("broadcast_message", **wanted, active_within_seconds=600, priority="high")
    assert again == {**sent, "replayed": True}
    seen = await call("get_message", message_id=sent["message_id"], **SHOP, agent_name="Bob")
    assert [one["name"] for one in seen["recipients"]] == ["Bob"]
    assert seen["priority"] == "high"


async def test_the_overseer_writes_by_rest_alone_and_its_inbox_is_read(client: httpx.AsyncClient) -> None:
    wanted = {**SHOP, "recipient_names": ["Ann"], "subject": "Stop", "body_md": "Now.", "idempotency_key": "k"}
    sent = await client.post("/api/overseer/send", json=wanted)
    assert (sent.status_code, sent.json()["deliveries"]) == (201, [{"name": "Ann", "kind": "to"}])
    [message] = (await client.get("/api/inbox", params={**SHOP, "agent_name": "Ann"})).json()["messages"]
    assert (message["sender_name"], message["priority"]) == ("Overseer", "urgent")
    reply = {**SHOP, "sender_name": "Ann", "message_id": message["message_id"], "body_md": "Stopped."}
    assert (await client.post("/api/message/reply", json=reply)).status_code == 201
    inbox = (await client.get("/api/inbox", params={**SHOP, "agent_name": "Overseer"})).json()
    assert [one["subject"] for one in inbox["messages"]] == ["Re: Stop"]
    assert "send_overseer_message" not in await tool_names(client)


async def test_an_agent_is_transferred_by_rest_alone(client: httpx.AsyncClient) -> None:
    wanted = {**SHOP, "agent_name": "Ann", "principal": "token:7"}
    answer = await client.post("/api/agent/transfer", json=wanted)
    assert (answer.status_code, answer.json()["name"]) == (200, "Ann")
    refused = await client.post("/api/agent/transfer", json={**wanted, "principal": "root"})
    assert (refused.status_code, error_of(refused)["code"]) == (422, "invalid_arguments")
    assert "transfer_agent" not in await tool_names(client)


@pytest.mark.parametrize(
    "path, arguments, status, code",
    [
        ("session/start", {"program": "x", "model": "y"}, 422, "invalid_arguments"),
        ("session/start", {**STARTS, "agent_name": "Overseer"}, 422, "invalid_arguments"),
        ("session/start", {**STARTS, "reserve_paths": ["../x"]}, 422, "invalid_path"),
        (
            "session/hand-off",
            {**SHOP, "from_agent": "Ann", "to_agent": "System", "task": "x"},
            403,
            "recipients_refused",
        ),
        ("session/hand-off", {**SHOP, "from_agent": "Ann", "to_agent": "Ann", "task": "x"}, 422, "invalid_arguments"),
        ("message/broadcast", {**SHOP, "sender_name": "Ann", "subject": " ", "body_md": "x"}, 422, "invalid_arguments"),
        (
            "message/broadcast",
            {**SHOP, "sender_name": "Ann", "subject": "s", "body_md": "x", "active_within_seconds": 59},
            422,
            "invalid_arguments",
        ),
        (
            "message/broadcast",
            {**SHOP, "sender_name": "System", "subject": "s", "body_md": "x"},
            403,
            "agent_not_yours",
        ),
        (
            "overseer/send",
            {**SHOP, "recipient_names": ["Zed"], "subject": "s", "body_md": "x"},
            404,
            "recipients_unknown",
        ),
    ],
)
async def test_refusals_have_their_status_and_code(
    client: httpx.AsyncClient, path: str, arguments: dict[str, Any], status: int, code: str
) -> None:
    response = await client.post(f"/api/{path}", json=arguments)
    assert (response.status_code, error_of(response)["code"]) == (status, code)
