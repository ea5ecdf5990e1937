"""Another team's names and ids answer exactly as what does not exist, on every operation and resource (SPEC §6).

A stranger makes every call of the examples, and reads every resource, on a server where another team has done all the
examples, and on one where nothing has happened. It must not be able to tell the two apart.
"""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_mail_core.clock import SystemClock
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Role
from agent_mail_core.settings import Settings
from agent_mail_server.examples import EXAMPLES, Example
from agent_mail_server.operations import BY_NAME, OPERATIONS
from agent_mail_store.opening import open_store
from tests.wire.asgi_client import ANN, MODERN, Client
from tests.wire.mcp_wire import make_app, make_endpoint
from tests.wire.test_examples import masked

STRANGER = replace(ANN, team_id=TeamId(2), principal=Principal("token:9"), role=Role.admin)

OWN_WORLD = {"health", "ready", "metrics", "ensure_project", "start_session", "ensure_product"}
"""Operations that name nothing of anybody's, or make it."""

WITHOUT_PROJECT = [
    Example("get_message", {"message_id": 1}),
    Example("search_messages", {"query": "checkout"}),
    Example("list_activity"),
    Example("list_projects"),
    Example("list_products"),
]
"""Calls that look everywhere."""

UNDONE = {"retire_agent", "archive_log", "archive_show"}
"""It would remove what was made; these servers keep no archive, whose own test has the ids of strangers."""

EVERY_OPERATION = tuple(replace(operation, is_tool=True) for operation in OPERATIONS)
URIS = [
    "agentmail://project/shop/inbox/BlueLake",
    "agentmail://project/shop/outbox/BlueLake",
    "agentmail://project/shop/thread/FEAT-123",
    "agentmail://project/shop/agents",
    "agentmail://project/shop/reservations",
    "agentmail://project/shop/slots",
    "agentmail://message/1",
    "agentmail://product/Store%20front",
]


@pytest.fixture
async def clients(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[tuple[Client, Client]]:
    """Clients of two servers with a database each."""
    async with AsyncExitStack() as stack:
        found = []
        for name in ("full", "empty"):
            path = shutil.copyfile(sqlite_template, tmp_path / f"{name}.db")
            settings = Settings.model_validate({"database_url": f"sqlite:///{path}"})
            store = await open_store(settings, SystemClock(), single_server=False)
            stack.push_async_callback(store.close)
            endpoint = make_endpoint(make_app(settings, store), EVERY_OPERATION, alternates=False)
            stack.push_async_callback(endpoint.close)
            found.append(await Client(endpoint).speak(MODERN))
        yield found[0], found[1]


async def answered(client: Client, operation: str, arguments: Any) -> Any:
    """The body that a tool answers."""
    answer = await client.tool(operation, dict(arguments)).complete()
    message = answer.messages[-1] if answer.is_stream else answer.json
    return json.loads(message["result"]["content"][0]["text"])


async def done(client: Client) -> list[Example]:
    """Do the examples, but those that remove what they have made; with the ids that the answers told."""
    told: dict[str, Any] = {}
    filled = []
    for example in EXAMPLES:
        if example.taken_from is not None:
            example = example.after(told[example.taken_from])
        filled.append(example)
        if example.operation not in UNDONE and BY_NAME[example.operation].role is not Role.admin:
            told[example.operation] = await answered(client, example.operation, example.arguments)
            assert "error" not in told[example.operation], example
    return filled


async def test_a_stranger_cannot_tell_another_teams_server_from_an_empty_one(clients: tuple[Client, Client]) -> None:
    examples = [*await done(clients[0]), *WITHOUT_PROJECT]
    strangers = [Client(client._app, STRANGER) for client in clients]
    for stranger in strangers:
        await stranger.speak(MODERN)
    codes = set()
    for example in examples:
        if example.operation not in OWN_WORLD:
            answers = [masked(await answered(each, example.operation, example.arguments)) for each in strangers]
            assert answers[0] == answers[1], example
            codes.add(answers[0].get("error", {}).get("code"))
    assert codes >= {"project_not_found", "product_not_found", "message_not_found", "attachment_not_found"}
    assert "internal" not in codes
    for uri in URIS:
        errors = []
        for stranger in strangers:
            message = stranger.message("resources/read", {"uri": uri})
            headers = [*stranger.headers(message), ("mcp-name", uri)]
            answer = await stranger.open("POST", json.dumps(message).encode(), headers).complete()
            errors.append(masked(answer.json["error"]))
        assert errors[0] == errors[1], uri
        assert errors[0]["data"]["code"].endswith("_not_found")
