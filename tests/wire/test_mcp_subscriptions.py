"""Inboxes as resources: read, and heard of by both eras' subscriptions after a send on any worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.server.subscriptions import ResourceUpdated

from agent_mail_core.agent_changes import TransferAgent, transfer_agent
from agent_mail_core.clock import SystemClock
from agent_mail_core.event_feed import events_topic
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import App, Role
from agent_mail_core.project_watch import ProjectWatch
from agent_mail_core.settings import Settings
from agent_mail_server.mcp_held import MAX_STREAMS_A_PRINCIPAL
from agent_mail_server.mcp_streams import Pace
from agent_mail_store.opening import open_store
from tests.wire.asgi_client import HANDSHAKES, MODERN, Answer, Client, until
from tests.wire.mcp_serving import serving, with_caller
from tests.wire.mcp_wire import Alternating, alternating_workers, make_app, make_endpoint
from tests.wire.server import Place

LEGACY = HANDSHAKES[-1]
UPDATED = "notifications/resources/updated"
PATIENT = Pace(tick=60)
"""Nothing is looked for without a wake-up."""


@dataclass
class Shop:
    """A project with the agents Ann and Bob, behind the endpoints of all workers."""

    app: App
    endpoint: Alternating
    client: Client

    async def call(self, tool: str, **arguments: Any) -> Any:
        result = (await self.client.tool(tool, arguments).complete()).json["result"]
        assert not result["isError"], result
        return result["structuredContent"]

    async def send(self, recipient: str = "Bob") -> None:
        await self.call(
            "send_message",
            project_slug="shop",
            sender_name="Ann",
            recipient_names=[recipient],
            subject="Hello",
            body_md="Hi",
        )

    async def session(self, version: str = LEGACY) -> Client:
        return await Client(self.endpoint, self.client.caller).speak(version)


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    settings = Settings.model_validate({"database_url": place.database_url})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(alternating_workers(place.redis_url))
        stores = [await open_store(settings, SystemClock(), single_server=False) for _ in range(place.workers)]
        for store in stores:
            stack.push_async_callback(store.close)
        app = make_app(settings, stores[0])
        endpoint = make_endpoint(app, pace=PATIENT, stores=stores[1:])
        here = Shop(app, endpoint, await Client(endpoint).speak(MODERN))
        await here.call("ensure_project", human_key="/code/shop", slug="shop")
        for name in ("Ann", "Bob", "Cid"):
            await here.call("register_agent", project_slug="shop", program="pytest", model="none", name=name)
        yield here
        await endpoint.close()


def inbox(agent: str = "Bob", project: str = "shop") -> str:
    return f"agentmail://project/{project}/inbox/{agent}"


def open_stream(client: Client, event_id: str | None = None) -> Answer:
    headers = client.headers(accept="text/event-stream")
    return client.open("GET", headers=[*headers, ("last-event-id", event_id)] if event_id else headers)


async def subscribe(client: Client, uri: str) -> Any:
    return (await client.call("resources/subscribe", {"uri": uri})).json


def updates(answer: Answer) -> list[str]:
    return [message["params"]["uri"] for message in answer.messages if message.get("method") == UPDATED]


async def updated(answer: Answer, *uris: str) -> None:
    """Return when the stream has told of exactly these."""
    await answer.begun()
    await until(lambda: len(updates(answer)) >= len(uris))
    await asyncio.sleep(0.02)
    assert sorted(updates(answer)) == sorted(uris)


async def leave(answer: Answer) -> str:
    """Close a stream; the place to come back to."""
    event_id = answer.last_event_id
    answer.leave()
    await answer.complete()
    return event_id


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*HANDSHAKES, MODERN])
async def test_an_inbox_is_read_as_check_inbox_answers_it(shop: Shop, version: str) -> None:
    await shop.send()
    client = await shop.session(version)
    result = (await read(client, inbox())).json["result"]
    assert result["contents"][0]["mimeType"] == "application/json"
    checked = await shop.call("check_inbox", project_slug="shop", agent_name="Bob")
    assert json.loads(result["contents"][0]["text"]) == checked
    if version == MODERN:
        assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


async def read(client: Client, uri: str) -> Answer:
    message = client.message("resources/read", {"uri": uri})
    headers = [*client.headers(message), ("mcp-name", uri)] if client.version == MODERN else client.headers(message)
    return await client.open("POST", json.dumps(message).encode(), headers).complete()


UNKNOWN = [
    inbox("Eve"),
    inbox(project="nope"),
    "agentmail://project/shop/nope/Bob",
    "http://x/",
    inbox("%0a"),
    inbox("x" * 99),
]


@pytest.mark.parametrize("uri", UNKNOWN)
async def test_what_is_no_inbox_is_not_found(shop: Shop, uri: str) -> None:
    client = await shop.session(MODERN)
    error = (await read(client, uri)).json["error"]
    assert (error["code"], error["data"]["uri"]) == (-32602, uri)
    listened = await client.post(listening(client, uri)).complete()
    assert listened.json["error"]["code"] == -32602
    older = await shop.session()
    assert (await read(older, uri)).json["error"]["code"] == -32002
    assert (await subscribe(older, uri))["error"]["code"] == -32002


async def test_only_who_may_act_as_an_agent_sees_its_inbox(shop: Shop) -> None:
    for changes in ({"principal": Principal("token:9"), "role": Role.writer}, {"team_id": TeamId(2)}):
        stranger = await Client(shop.endpoint, shop.client.as_caller(**changes).caller).speak(LEGACY)
        assert (await read(stranger, inbox())).json["error"]["code"] == -32002
        assert (await subscribe(stranger, inbox()))["error"]["code"] == -32002


# --- a session's subscriptions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", HANDSHAKES)
async def test_a_session_hears_of_mail_to_what_it_subscribed_to(shop: Shop, version: str) -> None:
    client = await shop.session(version)
    assert await subscribe(client, inbox("Bob")) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    await subscribe(client, inbox("Bob"))
    held = open_stream(client)
    await held.begun()
    for number in range(1, 5):  # sends on both workers
        await shop.send()
        await shop.send("Cid")
        await updated(held, *[inbox("Bob")] * number)
        if number % 2:
            await client.call("ping")
    held.leave()
    await held.complete()


async def test_a_stream_that_is_open_follows_what_is_subscribed_to_later(shop: Shop) -> None:
    client = await shop.session()
    held = open_stream(client)
    await held.begun()
    await subscribe(client, inbox("Bob"))
    await shop.send("Bob")
    await updated(held, inbox("Bob"))
    await subscribe(client, inbox("Cid"))
    await shop.send("Cid")
    await updated(held, inbox("Bob"), inbox("Cid"))
    assert (await client.call("resources/unsubscribe", {"uri": inbox("Bob")})).json["result"] == {}
    assert (await client.call("resources/unsubscribe", {"uri": inbox("Bob")})).json["result"] == {}
    await asyncio.sleep(0.1)
    await shop.send("Bob")
    await shop.send("Cid")
    await updated(held, inbox("Bob"), inbox("Cid"), inbox("Cid"))
    await leave(held)


async def test_mail_that_comes_while_the_client_is_away_is_told_when_it_returns(shop: Shop) -> None:
    client = await shop.session()
    for agent in ("Bob", "Cid"):
        await subscribe(client, inbox(agent))
    event_id = await leave_after_begin(client)
    for _ in range(3):  # on both workers
        await shop.send("Bob")
        held = open_stream(client, event_id)
        await updated(held, inbox("Bob"))
        event_id = await leave(held)
        quiet = open_stream(client, event_id)
        await quiet.begun()
        await asyncio.sleep(0.05)
        assert updates(quiet) == []
        event_id = await leave(quiet)
    for agent in ("Bob", "Cid"):
        await shop.send(agent)
    held = open_stream(client, event_id)
    await updated(held, inbox("Bob"), inbox("Cid"))
    first = next(event.id for event in held.events if event.message is not None)
    assert first is not None
    await leave(held)
    again = open_stream(client, first)  # the second of the two was lost on the way
    await again.begun()
    await until(lambda: inbox("Cid") in updates(again))
    await leave(again)


async def leave_after_begin(client: Client) -> str:
    held = open_stream(client)
    await held.until(b"id: ")
    await until(lambda: held.events)
    return await leave(held)


async def test_mail_between_subscribing_and_opening_the_stream_is_told(shop: Shop) -> None:
    client = await shop.session()
    await shop.send()
    await subscribe(client, inbox())
    quiet = open_stream(client)
    await quiet.begun()
    await asyncio.sleep(0.05)
    assert updates(quiet) == []
    await leave(quiet)
    await shop.send()
    held = open_stream(client)
    await updated(held, inbox())
    await leave(held)


# --- listening --------------------------------------------------------------------------------------------------------


def listening(client: Client, *uris: str, message_id: Any = "listen-1", **wanted: Any) -> dict[str, Any]:
    return client.message(
        "subscriptions/listen", {"notifications": {"resourceSubscriptions": list(uris), **wanted}}, message_id
    )


async def test_listening_tells_of_mail_until_the_server_ends(shop: Shop) -> None:
    client = await shop.session(MODERN)
    answer = client.post(listening(client, inbox("Bob"), inbox("Cid"), toolsListChanged=True))
    await answer.until(b"acknowledged")
    acknowledged = answer.messages[0]
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert acknowledged["params"]["notifications"] == {"resourceSubscriptions": [inbox("Bob"), inbox("Cid")]}
    for number in range(1, 5):
        await shop.send()
        await shop.send("Ann")
        await updated(answer, *[inbox("Bob")] * number)
        if number % 2:
            await shop.call("health")
    tag = "io.modelcontextprotocol/subscriptionId"
    assert {message["params"]["_meta"][tag] for message in answer.messages} == {"listen-1"}
    assert {event.id for event in answer.events} == {None}
    await shop.endpoint.close()
    await answer.complete()
    assert answer.messages[-1]["id"] == "listen-1"
    assert answer.messages[-1]["result"]["_meta"][tag] == "listen-1"
    assert answer.body.endswith(b"retry: 1000\r\n\r\n")


async def test_changes_that_wake_nobody_are_told_when_projects_are_looked_at(shop: Shop) -> None:
    """As a running server does every second."""
    async with shop.app.store.read() as db:
        project = await db.projects.find(TeamId(1), "shop")
    assert project is not None
    watch = ProjectWatch(shop.app.store)

    async def look() -> None:
        await shop.app.wakeups.publish(await watch.grown([events_topic(project.id)]))

    client = await shop.session(MODERN)
    thread, reservations, slots = (
        f"agentmail://project/shop/{name}" for name in ("thread/T-1", "reservations", "slots")
    )
    bob = {"project_slug": "shop", "agent_name": "Bob"}
    message = {"recipient_names": ["Cid"], "subject": "Hello", "body_md": "Hi", "thread_id": "T-1"}
    sent = await shop.call("send_message", project_slug="shop", sender_name="Bob", **message)
    answer = client.post(listening(client, thread, reservations, slots))
    await answer.until(b"acknowledged")
    await look()
    await shop.call("reserve_file", **bob, paths=["src"])
    await shop.call("acquire_build_slot", **bob, slot_name="frontend")
    await shop.call("mark_read", project_slug="shop", agent_name="Cid", message_ids=[sent["message_id"]])
    assert updates(answer) == []
    await look()
    await updated(answer, reservations, slots, thread)
    await shop.call("send_message", project_slug="shop", sender_name="Bob", **{**message, "thread_id": "T-2"})
    await shop.call("send_message", project_slug="shop", sender_name="Bob", **message)
    await look()
    await updated(answer, reservations, slots, thread, thread)
    await leave_listening(answer)


async def test_what_only_a_bcc_recipient_does_is_told_nobody_else(shop: Shop) -> None:
    async with shop.app.store.read() as db:
        project = await db.projects.find(TeamId(1), "shop")
    assert project is not None
    client = await shop.session(MODERN)
    thread = "agentmail://project/shop/thread/T-1"
    sent = await shop.call(
        "send_message",
        project_slug="shop",
        sender_name="Ann",
        recipient_names=["Bob"],
        bcc_names=["Cid"],
        subject="Hello",
        body_md="Hi",
        thread_id="T-1",
        ack_required=True,
    )
    answer = client.post(listening(client, thread))
    await answer.until(b"acknowledged")
    for name in ("Cid", "Bob"):
        await shop.call("acknowledge_message", project_slug="shop", agent_name=name, message_id=sent["message_id"])
        await shop.app.wakeups.publish([events_topic(project.id)])
        if name == "Bob":
            await updated(answer, thread)
    await leave_listening(answer)


async def leave_listening(answer: Answer) -> None:
    answer.leave()
    await answer.complete()


async def test_who_lost_an_agent_hears_of_its_mail_no_more(shop: Shop) -> None:
    former = shop.client.as_caller(principal=Principal("token:9"), role=Role.writer)
    for name in ("Dan", "Eli"):
        profile = {"project_slug": "shop", "program": "pytest", "model": "none", "name": name}
        await former.tool("register_agent", profile).complete()
    answer = former.post(listening(former, inbox("Dan"), inbox("Eli")))
    await answer.until(b"acknowledged")
    await shop.send("Dan")
    await updated(answer, inbox("Dan"))
    given = TransferAgent(project_slug="shop", agent_name="Dan", principal="local")
    await transfer_agent(shop.app, shop.client.caller, given)
    await shop.send("Dan")
    await shop.send("Eli")
    await updated(answer, inbox("Dan"), inbox("Eli"))
    await leave_listening(answer)


async def test_who_listens_takes_streams_and_a_bounded_number_of_them(shop: Shop) -> None:
    endpoint = make_endpoint(shop.app, alternates=False)
    client = await Client(endpoint, shop.client.caller).speak(MODERN)
    assert (await client.post(listening(client), accept="application/json").complete()).status == 406
    answers = [client.post(listening(client, inbox())) for _ in range(MAX_STREAMS_A_PRINCIPAL)]
    for answer in answers:
        await answer.until(b"acknowledged")
    refused = await client.post(listening(client, inbox())).complete()
    assert (refused.status, refused.json["id"]) == (429, "listen-1")
    for answer in answers:
        answer.leave()
        await answer.complete()
    assert endpoint.held == 0


async def test_the_official_client_listens(shop: Shop) -> None:
    async with (
        serving(with_caller(shop.endpoint)) as url,
        McpClient(streamable_http_client(url)) as client,
        client.listen(resource_subscriptions=[inbox()]) as subscription,
    ):
        await shop.send()
        async with asyncio.timeout(5):
            assert await anext(aiter(subscription)) == ResourceUpdated(inbox())
        await shop.endpoint.close()
