"""Agents of one project exchange mail through real clients, on both databases: the main job, from end to end."""

import asyncio
from typing import Any

import pytest
from mcp import Client

from tests.e2e.agents import Call, Connect, Refused, legacy, modern, over_rest
from tests.e2e.serving import Serving, serving

CLIENTS = [
    pytest.param(modern, id="mcp-auto"),
    pytest.param(legacy, id="mcp-legacy"),
    pytest.param(over_rest, id="rest"),
]
KEY = "/code/shop"
PROFILE = {"program": "pytest", "model": "none"}


@pytest.mark.parametrize("connect", CLIENTS)
async def test_agents_exchange_mail(server: Serving, connect: Connect) -> None:
    async with connect(server.url) as ada, connect(server.url) as bob:
        project = await joined(ada, bob)
        sent = await ada_writes(ada, project)
        await bob_finds_it(bob, project, sent)
        await bob_waits_and_is_woken(ada, bob, project)
        await bob_replies(ada, bob, project, sent)
        await it_is_found_and_acknowledged(ada, bob, project, sent)


async def joined(ada: Call, bob: Call) -> str:
    made = await ada("ensure_project", human_key=KEY)
    again = await bob("ensure_project", human_key=KEY + "/")
    assert (made["created"], again["created"]) == (True, False)
    slug: str = made["project"]["slug"]
    assert again["project"]["slug"] == slug
    for call, name in ((ada, "Ada"), (bob, "Bob"), (bob, "Cleo"), (bob, "Dora")):
        registered = await call("register_agent", project_slug=slug, name=name, **PROFILE)
        assert (registered["created"], registered["agent"]["name"]) == (True, name)
    assert not (await ada("register_agent", project_slug=KEY, name="ADA", **PROFILE))["created"]
    return slug


async def ada_writes(ada: Call, project: str) -> dict[str, Any]:
    message = {
        "project_slug": project,
        "sender_name": "Ada",
        "recipient_names": ["Bob"],
        "cc_names": ["Cleo"],
        "bcc_names": ["Dora"],
        "subject": "The checkout flow",
        "body_md": "Please look at `src/checkout.py` — the *total* is wrong. Größe: 3 €",
        "thread_id": "SHOP-7",
        "ack_required": True,
        "idempotency_key": "first",
    }
    sent = await ada("send_message", **message)
    assert sent["thread_id"] == "SHOP-7"
    assert sent["replayed"] is False
    assert [(d["name"], d["kind"]) for d in sent["deliveries"]] == [("Bob", "to"), ("Cleo", "cc"), ("Dora", "bcc")]
    again = await ada("send_message", **message)
    assert again == {**sent, "replayed": True}
    with pytest.raises(Refused) as refused:
        await ada("send_message", **{**message, "subject": "Another"})
    assert refused.value.code == "idempotency_conflict"
    return sent


async def bob_finds_it(bob: Call, project: str, sent: dict[str, Any]) -> None:
    for name, kind in (("Bob", "to"), ("Cleo", "cc"), ("Dora", "bcc")):
        inbox = await bob("check_inbox", project_slug=project, agent_name=name, include_bodies=True)
        assert inbox["unread_count"] == 1
        (message,) = inbox["messages"]
        assert (message["message_id"], message["kind"]) == (sent["message_id"], kind)
        assert message["body_md"].endswith("Größe: 3 €")
        assert "read_at" not in message
    for name, visible in (
        ("Bob", ["Bob", "Cleo"]),
        ("Dora", ["Bob", "Cleo", "Dora"]),
        ("Ada", ["Bob", "Cleo", "Dora"]),
    ):
        details = await bob("get_message", message_id=sent["message_id"], project_slug=project, agent_name=name)
        assert [recipient["name"] for recipient in details["recipients"]] == visible


async def bob_waits_and_is_woken(ada: Call, bob: Call, project: str) -> None:
    inbox = await bob("check_inbox", project_slug=project, agent_name="Bob")
    wait = asyncio.create_task(
        bob("wait_for_messages", project_slug=project, agent_name="Bob", cursor=inbox["cursor"], timeout_seconds=20)
    )
    done, _ = await asyncio.wait([wait], timeout=0.5)
    assert not done, "there is nothing new, so the call waits"
    sent = await ada(
        "send_message", project_slug=project, sender_name="Ada", recipient_names=["Bob"], subject="Second", body_md="2"
    )
    woken = await asyncio.wait_for(wait, 2)
    assert woken["timed_out"] is False
    assert [message["message_id"] for message in woken["messages"]] == [sent["message_id"]]
    empty = await bob(
        "wait_for_messages", project_slug=project, agent_name="Bob", cursor=woken["cursor"], timeout_seconds=0.2
    )
    assert (empty["timed_out"], empty["messages"]) == (True, [])


async def bob_replies(ada: Call, bob: Call, project: str, sent: dict[str, Any]) -> None:
    reply = await bob(
        "reply_message",
        project_slug=project,
        sender_name="Bob",
        message_id=sent["message_id"],
        body_md="The rounding was wrong.",
        reply_all=True,
    )
    assert [(d["name"], d["kind"]) for d in reply["deliveries"]] == [("Ada", "to"), ("Cleo", "cc")]
    assert reply["thread_id"] == "SHOP-7"
    with pytest.raises(Refused) as refused:
        await bob(
            "reply_message",
            project_slug=project,
            sender_name="Dora",
            message_id=sent["message_id"],
            body_md="Me too",
            reply_all=True,
        )
    assert refused.value.code == "bcc_reply_all"
    thread = await ada("get_thread", project_slug=project, thread_id="shop-7")
    assert [message["subject"] for message in thread["messages"]] == ["The checkout flow", "Re: The checkout flow"]
    assert thread["thread"]["participants"] == ["Ada", "Bob", "Cleo"]
    assert "Dora" not in str(thread)


async def it_is_found_and_acknowledged(ada: Call, bob: Call, project: str, sent: dict[str, Any]) -> None:
    found = await bob("search_messages", project_slug=project, query='"checkout flow" from:Ada')
    assert [hit["message_id"] for hit in found["hits"]] == [sent["message_id"]]
    assert "**" in (await bob("search_messages", project_slug=project, query="rounding"))["hits"][0]["snippet"]
    mark = {"project_slug": project, "agent_name": "Bob", "message_id": sent["message_id"]}
    first = await bob("acknowledge_message", **mark)
    assert await bob("acknowledge_message", **mark) == first
    details = await ada("get_message", message_id=sent["message_id"], project_slug=project, agent_name="Ada")
    acknowledged = {recipient["name"]: recipient.get("acknowledged_at") for recipient in details["recipients"]}
    assert acknowledged == {"Bob": first["acknowledged_at"], "Cleo": None, "Dora": None}
    assert (await bob("check_inbox", project_slug=project, agent_name="Bob", unread_only=True))["unread_count"] == 1


@pytest.mark.parametrize("mode, revision", [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_the_official_client_agrees_on_a_revision_and_lists_the_tools(
    fresh_sqlite: str, mode: str, revision: str
) -> None:
    with serving(fresh_sqlite) as server:
        async with Client(f"{server.url}/mcp", mode=mode) as client:
            assert client.session.protocol_version == revision
            tools = (await client.list_tools()).tools
            again = (await client.list_tools()).tools
    names = [tool.name for tool in tools]
    assert names == [tool.name for tool in again]
    assert {"ensure_project", "register_agent", "send_message", "check_inbox", "wait_for_messages"} <= set(names)
    assert all(tool.description and tool.title and tool.input_schema and tool.annotations for tool in tools)


@pytest.mark.parametrize("connect", CLIENTS)
async def test_a_refused_call_says_what_to_do(fresh_sqlite: str, connect: Connect) -> None:
    with serving(fresh_sqlite) as server:
        async with connect(server.url) as ada:
            await ada("ensure_project", human_key=KEY, slug="shop")
            await ada("register_agent", project_slug="shop", name="Ada", **PROFILE)
            letter = {"project_slug": "shop", "sender_name": "Ada", "subject": "s", "body_md": "b"}
            for arguments, code in (
                ({**letter, "recipient_names": ["Nobody"]}, "recipients_unknown"),
                ({**letter, "recipient_names": []}, "invalid_arguments"),
                ({**letter, "recipient_names": ["Ada"], "subjekt": "x"}, "invalid_arguments"),
                ({**letter, "recipient_names": ["Ada", "ADA"]}, "duplicate_recipient"),
                ({**letter, "recipient_names": ["Ada"], "project_slug": "shopp"}, "project_not_found"),
            ):
                with pytest.raises(Refused) as refused:
                    await ada("send_message", **arguments)
                assert refused.value.code == code
            assert (await ada("check_inbox", project_slug="shop", agent_name="Ada"))["messages"] == []
