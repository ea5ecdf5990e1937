"""Completion: names of what the caller may see that begin with what was written, at most 100."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agent_mail_core.clock import SystemClock
from agent_mail_core.ids import TeamId
from agent_mail_core.settings import Settings
from agent_mail_server.mcp_uris import RESOURCES
from agent_mail_server.prompts import PROMPTS
from agent_mail_store.opening import open_store
from tests.wire.asgi_client import HANDSHAKES, MODERN, Client
from tests.wire.mcp_wire import make_app, make_endpoint

LEGACY = HANDSHAKES[-1]
PROJECT = "agentmail://project/{project_slug}"
INBOX = f"{PROJECT}/inbox/{{agent_name}}"
THREAD = f"{PROJECT}/thread/{{thread_id}}"
PRODUCT = "agentmail://product/{product_name}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A client of a team with the projects shop, shop-2 and store; in shop are agents, threads, a product."""
    settings = Settings.model_validate({"database_url": request.getfixturevalue(f"fresh_{request.param}")})
    async with AsyncExitStack() as stack:
        store = await open_store(settings, SystemClock(), single_server=False)
        stack.push_async_callback(store.close)
        endpoint = make_endpoint(make_app(settings, store))
        here = await Client(endpoint).speak(MODERN)
        for slug in ("shop", "shop-2", "store"):
            await call(here, "ensure_project", human_key=f"/code/{slug}", slug=slug)
        for name in ("Ann", "anna", "Bob", "An-na", "An_na", "AnZ"):
            await register(here, name)
        await register(here, "Eve", project_slug="shop-2")
        for thread in ("FEAT-1", "feat-2", "BUG-1", "FEAT.3"):
            await send(here, thread)
        for name in ("Café", "Cafeteria", "cafe", "Cafd", "Caf\uffff", "Shop"):
            await call(here, "ensure_product", name=name)
        yield here
        await endpoint.close()


async def call(client: Client, tool: str, **arguments: Any) -> None:
    result = (await client.tool(tool, arguments).complete()).json["result"]
    assert not result["isError"], result


async def register(client: Client, name: str, project_slug: str = "shop") -> None:
    await call(client, "register_agent", project_slug=project_slug, program="pytest", model="none", name=name)


async def send(client: Client, thread_id: str) -> None:
    message = {"recipient_names": ["Bob"], "subject": "A FEAT of strength", "body_md": "Hi", "thread_id": thread_id}
    await call(client, "send_message", project_slug="shop", sender_name="Ann", **message)


async def complete(client: Client, ref: str, argument: str, value: str, **context: str) -> dict[str, Any]:
    """The whole answer to a question about a template, or about a prompt."""
    where = {"type": "ref/resource", "uri": ref} if ":" in ref else {"type": "ref/prompt", "name": ref}
    params: dict[str, Any] = {"ref": where, "argument": {"name": argument, "value": value}}
    if context:
        params["context"] = {"arguments": context}
    answer: dict[str, Any] = (await client.call("completion/complete", params)).json
    return answer


async def values(client: Client, ref: str, argument: str, value: str, **context: str) -> list[str]:
    completion = (await complete(client, ref, argument, value, **context))["result"]["completion"]
    assert completion["hasMore"] is False
    assert completion["total"] == len(completion["values"])
    found: list[str] = completion["values"]
    return found


async def test_names_are_completed_by_what_they_begin_with(client: Client) -> None:
    shop = {"project_slug": "shop"}
    assert await values(client, INBOX, "project_slug", "") == ["shop", "shop-2", "store"]
    assert await values(client, INBOX, "project_slug", "SHOP") == ["shop", "shop-2"]
    assert await values(client, INBOX, "project_slug", "hop") == []
    assert await values(client, INBOX, "agent_name", "an", **shop) == ["An-na", "An_na", "Ann", "anna", "AnZ"]
    assert await values(client, INBOX, "agent_name", "ANNA", **shop) == ["anna"]
    assert await values(client, THREAD, "thread_id", "feat-", **shop) == ["feat-2", "FEAT-1"]
    assert await values(client, THREAD, "thread_id", "", **shop) == ["FEAT.3", "BUG-1", "feat-2", "FEAT-1"]
    assert await values(client, PRODUCT, "product_name", "Cafe") == ["Cafeteria"]
    assert await values(client, PRODUCT, "product_name", "Caf") == ["Cafd", "Cafeteria", "Café", "Caf\uffff"]
    assert await values(client, PRODUCT, "product_name", "Caf\uffff") == ["Caf\uffff"]


async def test_prompts_are_completed_alike(client: Client) -> None:
    assert await values(client, "coordinate_edit", "project_slug", "st") == ["store"]
    assert await values(client, "hand_off_task", "to_agent", "b", project_slug="shop") == ["Bob"]
    assert await values(client, "review_thread", "thread_id", "bug", project_slug="shop") == ["BUG-1"]
    assert await values(client, "hand_off_task", "task", "Fin") == []
    assert await values(client, "join_project", "agent_name", "b", human_key="/code/shop/") == ["Bob"]
    assert await values(client, "join_project", "agent_name", "b", human_key="/code/nope") == []


async def test_names_of_a_project_need_the_project(client: Client) -> None:
    assert await values(client, INBOX, "agent_name", "A") == []
    assert await values(client, INBOX, "agent_name", "E", project_slug="shop") == []
    assert await values(client, INBOX, "agent_name", "E", project_slug="shop-2") == ["Eve"]
    for unknown in ("nope", "", "a\nb", "x" * 2000):
        assert await values(client, INBOX, "agent_name", "E", project_slug=unknown) == []


@pytest.mark.parametrize("value", ["%", "_", "\n", "\ue000", "x" * 5000, "'; DROP TABLE agents; --"])
async def test_hostile_values_complete_to_nothing(client: Client, value: str) -> None:
    for ref, argument in ((INBOX, "project_slug"), (INBOX, "agent_name"), (THREAD, "thread_id")):
        assert await values(client, ref, argument, value, project_slug="shop") == []
    assert await values(client, PRODUCT, "product_name", value) == []


async def test_another_team_sees_none_of_it(client: Client) -> None:
    stranger = client.as_caller(team_id=TeamId(2))
    shop = {"project_slug": "shop"}
    for resource in RESOURCES:
        for variable in resource.variables:
            assert await values(stranger, resource.template, variable, "", **shop) == []
    for prompt in PROMPTS:
        for argument in prompt.request_type.model_fields:
            assert await values(stranger, prompt.name, argument, "", **shop) == []


async def test_at_most_a_hundred_are_told(client: Client) -> None:
    for number in range(98):
        await register(client, f"Many{number:03}")
    shop = {"project_slug": "shop"}
    completion = (await complete(client, INBOX, "agent_name", "", **shop))["result"]["completion"]
    assert (len(completion["values"]), completion["hasMore"], "total" in completion) == (100, True, False)
    assert len(await values(client, INBOX, "agent_name", "many", **shop)) == 98


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_what_there_is_not_cannot_be_completed(client: Client, version: str) -> None:
    here = await Client(client._app, client.caller).speak(version)
    for ref, argument in (
        ("agentmail://project/shop/inbox/{agent_name}", "agent_name"),
        ("nope", "project_slug"),
        (INBOX, "thread_id"),
        ("review_thread", "paths"),
    ):
        assert (await complete(here, ref, argument, ""))["error"]["code"] == -32602
    assert await values(here, "agentmail://message/{message_id}", "message_id", "1") == []
