"""Summaries over REST and MCP: the same bodies and the same answers, made by the server's own jobs or by a worker's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.wire.asgi_client import BOTH, MODERN
from tests.wire.server import Place, client_of, error_of, fleet_with_worker, furnish, post

SHOP = {"project_slug": "shop"}
ASKED = {**SHOP, "thread_ids": ["FEAT-1", "FEAT-2"], "wait_seconds": 20}
PREPARED = {**SHOP, "agent_name": "BlueLake", "thread_id": "FEAT-1"}

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]

REPLY = "I'll fix the cart. Which total is right?"
PATHS = {"summarize_thread": "thread/summarize", "prepare_thread": "session/prepare-thread"}


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """With two agents, and a thread of two messages; in a cluster with a job worker."""
    async with fleet_with_worker(place) as servers, client_of(servers) as client:
        await furnish(client, "BlueLake", "GreenHill")
        mail = {**SHOP, "sender_name": "BlueLake", "recipient_names": ["GreenHill"], "subject": "Cart"}
        sent = await post(client, "message/send", **mail, thread_id="FEAT-1", body_md="We decided on net amounts.")
        reply = {**SHOP, "sender_name": "GreenHill", "message_id": sent["message_id"], "body_md": REPLY}
        await post(client, "message/reply", **reply)
        yield client


@pytest.fixture(params=["rest", "mcp"])
def ask(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> Ask:
    async def over_rest(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = (await client.post(f"/api/{PATHS[operation]}", json=arguments)).json()
        return answer

    async def over_mcp(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": operation, "arguments": arguments, "_meta": meta}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": operation, "accept": BOTH}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        response = await client.post("/mcp", json=message, headers=headers)
        # A call that waits becomes a stream.
        text = next((line[6:] for line in response.text.splitlines() if line.startswith("data: {")), response.text)
        answer: dict[str, Any] = json.loads(json.loads(text)["result"]["content"][0]["text"])
        return answer

    return over_rest if request.param == "rest" else over_mcp


async def test_threads_are_summarized(ask: Ask) -> None:
    answer = await ask("summarize_thread", ASKED)
    (summary,) = answer["summaries"]
    made_at, text = summary.pop("made_at"), summary.pop("text")
    key_messages = summary.pop("key_messages")
    first, second = (message["message_id"] for message in key_messages)
    assert summary == {
        "thread_id": "FEAT-1",
        "status": "ready",
        "engine": "extractive",
        "up_to_message_id": second,
        "message_count": 2,
        "messages_read": 2,
        "cut_bodies": 0,
        "participants": ["BlueLake", "GreenHill"],
        "decisions": [{"text": "We decided on net amounts.", "message_id": first, "sender_name": "BlueLake"}],
        "open_questions": [{"text": "Which total is right?", "message_id": second, "sender_name": "GreenHill"}],
        "action_items": [
            {
                "text": "I'll fix the cart.",
                "message_id": second,
                "sender_name": "GreenHill",
                "owner": "GreenHill",
                "done": False,
            }
        ],
    }
    assert "Decided: We decided on net amounts." in text.splitlines()
    (refusal,) = answer["errors"]
    assert (refusal["thread_id"], refusal["code"], refusal["near"]) == ("FEAT-2", "thread_not_found", ["FEAT-1"])
    again = await ask("summarize_thread", {**ASKED, "thread_ids": ["FEAT-1"]})
    assert again["summaries"][0]["made_at"] == made_at
    anew = await ask("summarize_thread", {**ASKED, "thread_ids": ["FEAT-1"], "refresh": True})
    assert anew["summaries"][0]["made_at"] > made_at


async def test_a_thread_is_prepared(ask: Ask) -> None:
    await ask("summarize_thread", ASKED)
    answer = await ask("prepare_thread", PREPARED)
    assert answer["summary"]["status"] == "ready"
    assert [message["body_md"] for message in answer["last_messages"]][1] == REPLY
    assert [message["is_cut"] for message in answer["last_messages"]] == [False, False]
    assert [unread["sender_name"] for unread in answer["unread"]] == ["GreenHill"]
    assert answer["more_unread"] is False


@pytest.mark.parametrize(
    "path, arguments, status, code",
    [
        ("thread/summarize", {**SHOP, "thread_ids": []}, 422, "invalid_arguments"),
        ("thread/summarize", {**SHOP, "thread_ids": ["a"] * 21}, 422, "invalid_arguments"),
        ("thread/summarize", {**ASKED, "wait_seconds": 51}, 422, "invalid_arguments"),
        ("thread/summarize", {**ASKED, "project_slug": "none"}, 404, "project_not_found"),
        ("session/prepare-thread", {**PREPARED, "thread_id": "FEAT-2"}, 404, "thread_not_found"),
        ("session/prepare-thread", {**PREPARED, "agent_name": "Zoe"}, 404, "agent_not_found"),
        ("session/prepare-thread", SHOP, 422, "invalid_arguments"),
    ],
)
async def test_a_refusal_has_its_code(
    client: httpx.AsyncClient, path: str, arguments: dict[str, Any], status: int, code: str
) -> None:
    response = await client.post(f"/api/{path}", json=arguments)
    assert (response.status_code, error_of(response)["code"]) == (status, code)
