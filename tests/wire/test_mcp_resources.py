"""Resources: templates, reading each as its operation answers, what names nothing, and changes of what is no inbox."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from agent_mail_core.clock import SystemClock
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Role
from agent_mail_core.settings import Settings
from agent_mail_server.mcp_streams import Pace
from agent_mail_server.mcp_subscriptions import MAX_READ
from agent_mail_server.mcp_uris import RESOURCES
from agent_mail_server.operations import BY_NAME
from agent_mail_store.opening import open_store
from tests.wire.asgi_client import HANDSHAKES, MODERN, Answer, Client, until
from tests.wire.mcp_wire import Alternating, alternating_workers, make_app, make_endpoint
from tests.wire.server import Place

LEGACY = HANDSHAKES[-1]
UPDATED = "notifications/resources/updated"
OFTEN = Pace(tick=0.05, comment_ticks=1)
"""Looks for changes that nobody is woken for twenty times a second."""

SHOP = {"project_slug": "shop"}
ANN = {**SHOP, "agent_name": "Ann"}
BASE = "agentmail://project/shop"

READ: list[tuple[str, str, dict[str, Any]]] = [
    (f"{BASE}/inbox/Bob", "check_inbox", {**SHOP, "agent_name": "Bob"}),
    (f"{BASE}/outbox/Ann", "list_outbox", ANN),
    (f"{BASE}/outbox/%41nn", "list_outbox", ANN),
    (f"{BASE}/thread/FEAT-1", "get_thread", {**SHOP, "thread_id": "FEAT-1"}),
    (f"{BASE}/agents", "list_agents", {**SHOP, "limit": 100}),
    ("agentmail://project/%2Fcode%2Fshop/agents", "list_agents", {**SHOP, "limit": 100}),
    (f"{BASE}/reservations", "list_reservations", {**SHOP, "limit": 100}),
    (f"{BASE}/slots", "list_slots", {**SHOP, "limit": 100}),
    ("agentmail://message/1", "get_message", {"message_id": 1}),
    ("agentmail://product/Caf%C3%A9%20%2F%20shop", "product_inbox", {"product_name": "Café / shop"}),
]

UNKNOWN = [
    f"{BASE}/outbox/Eve",
    f"{BASE}/thread/FEAT-9",
    "agentmail://project/nope/agents",
    "agentmail://project/nope/reservations",
    "agentmail://project/nope/slots",
    "agentmail://message/99",
    "agentmail://product/nope",
]
"""As a template says, but there is no such thing."""

MALFORMED = [
    "agentmail://",
    "agentmail://project/shop",
    f"{BASE}/",
    f"{BASE}/agents/",
    f"{BASE}/agents?limit=1",
    f"{BASE}/agents#x",
    f"{BASE}//agents",
    f"{BASE}/outbox/",
    f"{BASE}/outbox/Ann/more",
    f"{BASE}/outbox/%4",
    f"{BASE}/outbox/%zz",
    f"{BASE}/outbox/%ff",
    f"{BASE}/outbox/%00",
    f"{BASE}/outbox/A nn",
    f"{BASE}/Outbox/Ann",
    "AGENTMAIL://project/shop/agents",
    "agentmail://message/01",
    "agentmail://message/+1",
    "agentmail://message/0",
    "agentmail://message/9999999999999999999",
    "agentmail://message/99999999999999999999",
    "agentmail://message/one",
    "agentmail://message/1/2",
    "agentmail://product/a/b",
    "file:///etc/passwd",
    f"agentmail://product/{'x' * 4000}",
]


@dataclass
class Shop:
    """A project with two agents, a thread, a product, behind the endpoints of all workers."""

    endpoint: Alternating
    client: Client

    async def call(self, tool: str, **arguments: Any) -> Any:
        result = (await self.client.tool(tool, arguments).complete()).json["result"]
        assert not result["isError"], result
        return result["structuredContent"]

    async def send(self, thread_id: str = "FEAT-1") -> None:
        message = {"recipient_names": ["Bob"], "subject": "Hello", "body_md": "Hi", "thread_id": thread_id}
        await self.call("send_message", **SHOP, sender_name="Ann", **message)

    async def session(self, version: str) -> Client:
        return await Client(self.endpoint, self.client.caller).speak(version)


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    settings = Settings.model_validate({"database_url": place.database_url})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(alternating_workers(place.redis_url))
        stores = [await open_store(settings, SystemClock(), single_server=False) for _ in range(place.workers)]
        for store in stores:
            stack.push_async_callback(store.close)
        endpoint = make_endpoint(make_app(settings, stores[0]), pace=OFTEN, stores=stores[1:])
        here = Shop(endpoint, await Client(endpoint).speak(MODERN))
        await here.call("ensure_project", human_key="/code/shop", slug="shop")
        for name in ("Ann", "Bob"):
            await here.call("register_agent", **SHOP, program="pytest", model="none", name=name)
        await here.call("ensure_product", name="Café / shop")
        await here.call("link_project", product_name="Café / shop", **SHOP)
        await here.send()
        yield here
        await endpoint.close()


async def read(client: Client, uri: str) -> Answer:
    message = client.message("resources/read", {"uri": uri})
    headers = client.headers(message)
    if client.version == MODERN:
        headers.append(("mcp-name", uri))
    return await client.open("POST", json.dumps(message).encode(), headers).complete()


async def subscribe(client: Client, uri: str) -> Any:
    return (await client.call("resources/subscribe", {"uri": uri})).json


def listening(client: Client, *uris: str) -> dict[str, Any]:
    return client.message("subscriptions/listen", {"notifications": {"resourceSubscriptions": list(uris)}}, "listen")


def updates(answer: Answer) -> list[str]:
    return [message["params"]["uri"] for message in answer.messages if message.get("method") == UPDATED]


# --- templates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*HANDSHAKES, MODERN])
async def test_all_resources_are_named_by_templates(version: str) -> None:
    client = await Client(make_endpoint(make_app())).speak(version)
    result = (await client.call("resources/templates/list")).json["result"]
    assert [template["uriTemplate"] for template in result["resourceTemplates"]] == [
        "agentmail://project/{project_slug}/inbox/{agent_name}",
        "agentmail://project/{project_slug}/outbox/{agent_name}",
        "agentmail://project/{project_slug}/thread/{thread_id}",
        "agentmail://project/{project_slug}/agents",
        "agentmail://project/{project_slug}/reservations",
        "agentmail://project/{project_slug}/slots",
        "agentmail://message/{message_id}",
        "agentmail://product/{product_name}",
    ]
    assert all(template["mimeType"] == "application/json" for template in result["resourceTemplates"])
    resources = (await client.call("resources/list")).json["result"]
    assert resources["resources"] == []
    if version == MODERN:
        for each in (result, resources):
            assert (each["ttlMs"], each["cacheScope"]) == (300_000, "private")


def test_every_variable_and_fixed_argument_is_one_of_the_operation() -> None:
    for resource in RESOURCES:
        fields = BY_NAME[resource.operation].request_type.model_fields
        assert {*resource.variables, *resource.more} <= fields.keys(), resource.name
        required = {name for name, field in fields.items() if field.is_required()}
        assert required <= set(resource.variables), resource.name


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_resource_is_what_its_operation_answers(shop: Shop, version: str) -> None:
    await shop.call("reserve_file", **ANN, paths=["src/**"])
    await shop.call("acquire_build_slot", **ANN, slot_name="frontend")
    client = await shop.session(version)
    for uri, operation, arguments in READ:
        answer = await read(client, uri)
        assert answer.status == 200
        result = answer.json["result"]
        assert [(each["uri"], each["mimeType"]) for each in result["contents"]] == [(uri, "application/json")]
        assert json.loads(result["contents"][0]["text"]) == await shop.call(operation, **arguments), uri
        if version == MODERN:
            assert (result["ttlMs"], result["cacheScope"]) == (0, "private")
    assert {resource.operation for resource in RESOURCES} == {operation for _, operation, _ in READ}


async def test_what_is_not_there_is_not_found(shop: Shop) -> None:
    modern, legacy = await shop.session(MODERN), await shop.session(LEGACY)
    for uri in UNKNOWN + MALFORMED:
        error = (await read(legacy, uri)).json["error"]
        assert (error["code"], error["data"]["uri"]) == (-32002, uri)
        if uri.isascii() and " " not in uri:  # it stands in a header too
            assert (await read(modern, uri)).json["error"]["code"] == -32602, uri


async def test_what_names_nothing_is_told_where_the_names_are_and_repeated_in_part(shop: Shop) -> None:
    legacy = await shop.session(LEGACY)
    for uri in ("agentmail://projects", "x" * 100_000):
        error = (await read(legacy, uri)).json["error"]
        assert error["data"]["data"]["suggestion"] == "resources/templates/list"
        assert len(json.dumps(error)) < 6000


async def test_another_teams_resources_answer_as_unknown_ones(shop: Shop) -> None:
    stranger = await Client(shop.endpoint, shop.client.as_caller(team_id=TeamId(2)).caller).speak(LEGACY)
    for uri, _, _ in READ:
        error = (await read(stranger, uri)).json["error"]
        assert (error["code"], error["data"]["code"].endswith("not_found")) == (-32002, True), uri
        error = (await subscribe(stranger, uri))["error"]
        assert error["code"] == -32002, uri


async def test_only_who_may_act_as_an_agent_reads_its_outbox(shop: Shop) -> None:
    changes = {"principal": Principal("token:9"), "role": Role.writer}
    stranger = await Client(shop.endpoint, shop.client.as_caller(**changes).caller).speak(LEGACY)
    error = (await read(stranger, f"{BASE}/outbox/Ann")).json["error"]
    assert (error["code"], error["data"]["code"]) == (-32002, "agent_not_yours")


# --- subscriptions ----------------------------------------------------------------------------------------------------

WATCHED = [f"{BASE}/thread/FEAT-1", f"{BASE}/reservations", f"{BASE}/slots"]


async def change(shop: Shop, uri: str, number: int) -> None:
    """Change one of the watched resources, each time otherwise, and what is none of it."""
    await shop.send("OTHER")
    if "thread" in uri:
        await shop.send()
    elif "reservations" in uri:
        await shop.call("reserve_file" if number % 2 else "release_file", **ANN, paths=["src/**"])
    else:
        await shop.call("acquire_build_slot" if number % 2 else "release_build_slot", **ANN, slot_name="frontend")


@pytest.mark.parametrize("uri", WATCHED)
async def test_a_session_hears_of_changes(shop: Shop, uri: str) -> None:
    client = await shop.session(LEGACY)
    assert (await subscribe(client, uri))["result"] == {}
    held = client.open("GET", headers=client.headers(accept="text/event-stream"))
    await held.begun()
    for number in range(1, 5):
        await change(shop, uri, number)
        await until(lambda: len(updates(held)) >= number)  # noqa: B023 - awaited in the same turn
        assert updates(held) == [uri] * number
    event_id = held.last_event_id
    held.leave()
    await held.complete()
    await change(shop, uri, 5)
    headers = [*client.headers(accept="text/event-stream"), ("last-event-id", event_id)]
    again = client.open("GET", headers=headers)
    await again.begun()
    await until(lambda: updates(again) == [uri])
    again.leave()
    await again.complete()


async def test_a_change_back_to_what_was_subscribed_to_is_told_on_return(shop: Shop) -> None:
    client = await shop.session(LEGACY)
    uri = f"{BASE}/slots"
    await subscribe(client, uri)
    held = client.open("GET", headers=client.headers(accept="text/event-stream"))
    await held.begun()
    await shop.call("acquire_build_slot", **ANN, slot_name="frontend")
    await until(lambda: updates(held) == [uri])
    held.leave()
    await held.complete()
    await shop.call("release_build_slot", **ANN, slot_name="frontend")
    headers = [*client.headers(accept="text/event-stream"), ("last-event-id", held.last_event_id)]
    again = client.open("GET", headers=headers)
    await again.begun()
    await until(lambda: updates(again) == [uri])
    again.leave()
    await again.complete()


@pytest.mark.parametrize("uri", WATCHED)
async def test_who_listens_hears_of_changes(shop: Shop, uri: str) -> None:
    client = await shop.session(MODERN)
    answer = client.post(listening(client, uri))
    await answer.until(b"acknowledged")
    for number in range(1, 3):
        await change(shop, uri, number)
        await until(lambda: len(updates(answer)) >= number)  # noqa: B023 - awaited in the same turn
        assert updates(answer) == [uri] * number
    answer.leave()
    await answer.complete()


@pytest.mark.parametrize(
    "uri", [f"{BASE}/outbox/Ann", f"{BASE}/agents", "agentmail://message/1", "agentmail://product/x"]
)
async def test_what_cannot_be_watched_is_refused_in_words(shop: Shop, uri: str) -> None:
    modern, legacy = await shop.session(MODERN), await shop.session(LEGACY)
    refusals = [(await subscribe(legacy, uri))["error"], (await modern.post(listening(modern, uri)).complete()).json]
    for error in (refusals[0], refusals[1]["error"]):
        assert "these can: inbox, thread, reservations, slots" in error["message"]


async def test_a_client_watches_a_bounded_number_of_what_is_read_anew(shop: Shop) -> None:
    client = await shop.session(LEGACY)
    # One thread under many spellings of its project.
    spellings = [f"agentmail://project/{quote('/code/shop' + '/' * n, safe='')}/slots" for n in range(MAX_READ + 1)]
    for uri in spellings[:MAX_READ]:
        assert (await subscribe(client, uri))["result"] == {}
    assert (await subscribe(client, spellings[-1]))["error"]["data"]["limit"] == MAX_READ
    assert (await subscribe(client, f"{BASE}/inbox/Bob"))["result"] == {}
    modern = await shop.session(MODERN)
    refused = await modern.post(listening(modern, *spellings)).complete()
    assert refused.json["error"]["data"]["limit"] == MAX_READ
