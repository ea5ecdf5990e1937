"""Contacts over the wire: the same arguments and the same answers on REST and on MCP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from agent_mail_server.examples import Example
from tests.wire.asgi_client import BOTH, MODERN
from tests.wire.server import Place, client_of, fleet, furnish

Call = Callable[..., Awaitable[dict[str, Any]]]
"""Operation and arguments → its result, or its error as `{"error": …}`."""

ANN = {"project_slug": "shop", "agent_name": "Ann"}
BOB = {"project_slug": "shop", "agent_name": "Bob"}


async def over_rest(client: httpx.AsyncClient, operation: str, **arguments: Any) -> dict[str, Any]:
    method, path, body = Example(operation, arguments).request()
    answer: dict[str, Any] = (await client.request(method, path, json=body)).json()
    return answer


async def over_mcp(client: httpx.AsyncClient, operation: str, **arguments: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": operation, "arguments": arguments, "_meta": meta}
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": operation, "accept": BOTH}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    result = (await client.post("/mcp", json=message, headers=headers)).json()["result"]
    answer: dict[str, Any] = json.loads(result["content"][0]["text"])
    assert result["isError"] is ("error" in answer)
    return answer


@pytest.fixture(params=[over_rest, over_mcp], ids=["rest", "mcp"])
async def call(request: pytest.FixtureRequest, place: Place) -> AsyncIterator[Call]:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann", "Bob", "Cid")

        async def asking(operation: str, **arguments: Any) -> dict[str, Any]:
            answer: dict[str, Any] = await request.param(client, operation, **arguments)
            return answer

        yield asking


def without_times(contact: dict[str, Any]) -> dict[str, Any]:
    """A contact's fields that do not depend on when or in which order it was made."""
    return {name: value for name, value in contact.items() if not name.endswith("_at") and name != "contact_id"}


async def test_a_contact_is_asked_for_given_and_ended(call: Call) -> None:
    assert (await call("set_contact_policy", **BOB, policy="contacts_only"))["contact_policy"] == "contacts_only"
    asked = await call("add_contact", **ANN, contact_name="Bob", reason="One file", ttl_seconds=3600)
    assert without_times(asked) == {
        "contact_name": "Bob",
        "direction": "outgoing",
        "status": "pending",
        "reason": "One file",
    }
    (incoming,) = (await call("list_contacts", **BOB, status="pending"))["contacts"]
    assert incoming == {**asked, "contact_name": "Ann", "direction": "incoming"}
    accepted = await call("respond_contact", **BOB, contact_name="Ann", accept=True)
    assert (accepted["status"], accepted["contact_id"]) == ("accepted", asked["contact_id"])
    assert accepted["expires_at"] > accepted["decided_at"]
    blocked = await call("block_contact", **BOB, contact_name="Ann")
    assert without_times(blocked) == {"contact_name": "Ann", "direction": "blocked", "status": "blocked"}
    assert await call("unblock_contact", **BOB, contact_name="Ann") == accepted
    ended = await call("respond_contact", **BOB, contact_name="Ann", accept=False)
    assert (ended["status"], ended["contact_id"]) == ("rejected", asked["contact_id"])


async def test_a_list_has_pages(call: Call) -> None:
    for name in ("Bob", "Cid"):
        await call("add_contact", **ANN, contact_name=name)
    first = await call("list_contacts", **ANN, limit=1)
    second = await call("list_contacts", **ANN, limit=1, cursor=first["next_cursor"])
    names = [contact["contact_name"] for page in (first, second) for contact in page["contacts"]]
    assert (names, "next_cursor" in second) == (["Bob", "Cid"], False)


@pytest.mark.parametrize(
    "operation, arguments, code",
    [
        ("add_contact", {**ANN, "contact_name": "Ann"}, "invalid_contact"),
        ("add_contact", {**ANN, "contact_name": "Overseer"}, "invalid_contact"),
        ("add_contact", {**ANN, "contact_name": "Zoe"}, "agent_not_found"),
        ("add_contact", {**ANN, "contact_name": "Zoe@nowhere"}, "agent_not_found"),
        ("add_contact", {**ANN, "contact_name": "Bob", "ttl_seconds": 59}, "invalid_arguments"),
        ("add_contact", {**ANN, "contact_name": "Bob", "reason": "x" * 501}, "invalid_arguments"),
        ("add_contact", {**ANN, "contact_name": "Bob\n"}, "invalid_arguments"),
        ("respond_contact", {**ANN, "contact_name": "Bob", "accept": True}, "contact_not_found"),
        ("respond_contact", {**ANN, "contact_name": "Bob"}, "invalid_arguments"),
        ("list_contacts", {**ANN, "status": "expired"}, "invalid_arguments"),
        ("list_contacts", {**ANN, "cursor": "x"}, "invalid_cursor"),
        ("set_contact_policy", {**ANN, "policy": "none"}, "invalid_arguments"),
    ],
)
async def test_a_refusal_has_its_code(call: Call, operation: str, arguments: dict[str, Any], code: str) -> None:
    assert (await call(operation, **arguments))["error"]["code"] == code


async def test_a_block_and_block_all_refuse_alike(call: Call) -> None:
    await call("set_contact_policy", **BOB, policy="block_all")
    await call("block_contact", project_slug="shop", agent_name="Cid", contact_name="Ann")
    refusals = [(await call("add_contact", **ANN, contact_name=name))["error"] for name in ("Bob", "Cid")]
    assert [refusal["code"] for refusal in refusals] == ["contact_refused"] * 2
    assert refusals[0]["message"] == refusals[1]["message"]
