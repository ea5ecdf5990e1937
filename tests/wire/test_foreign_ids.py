"""Another team's or project's names and ids answer exactly as what does not exist, on every operation (SPEC §6).

A stranger of another team makes every call of the examples, and reads every resource, on a server where the first team
has done all the examples, and on one where nothing has happened: it must not be able to tell the two apart. Another
project's names and ids are given to every operation that takes one, beside ones that there are nowhere.
"""

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
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
from tests.contract.databases import Database, PostgresDatabase, SqliteDatabase
from tests.twins.databases import Pairs
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
    Example("list_webhooks"),
    Example("retry_job", {"kind": "outbox"}),
    Example("drop_job", {"kind": "outbox"}),
]
"""Calls that look everywhere."""

UNDONE = {"retire_agent", "delete_project", "remove_webhook", "drop_job", "retry_job"}
"""They would remove what was made."""

IMPOSSIBLE = {"archive_log", "archive_show", "test_webhook", "redeliver_webhook"}
"""These servers keep no archive, whose own test has the ids of strangers, and call nobody."""

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


@dataclass(frozen=True)
class Place:
    """A server with a database of its own, and a client of it."""

    client: Client
    database: Database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def places(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> AsyncIterator[list[Place]]:
    """Two of them, on each engine."""
    async with AsyncExitStack() as stack:
        found = []
        if request.param == "postgres":
            names = (request.getfixturevalue(name) for name in ("postgres_url", "postgres_template"))
            pairs = Pairs(tmp_path, sqlite_template, *names)
            databases: list[Database] = [PostgresDatabase(stack.enter_context(pairs.fresh())[1]) for _ in range(2)]
        else:
            paths = [tmp_path / name for name in ("one.db", "other.db")]
            for path in paths:
                shutil.copyfile(sqlite_template, path)
            databases = [SqliteDatabase(f"sqlite:///{path}") for path in paths]
        for database in databases:
            await database.add_team("strangers")
            settings = Settings.model_validate({"database_url": database.url})
            store = await open_store(settings, SystemClock(), single_server=False)
            stack.push_async_callback(store.close)
            endpoint = make_endpoint(make_app(settings, store), EVERY_OPERATION, alternates=False)
            stack.push_async_callback(endpoint.close)
            found.append(Place(await Client(endpoint).speak(MODERN), database))
        yield found


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
        is_undoing = example.operation in UNDONE or example.arguments.get("on_hold") is False
        if example.operation not in IMPOSSIBLE and not is_undoing:
            told[example.operation] = await answered(client, example.operation, example.arguments)
            assert "error" not in told[example.operation], example
    return filled


async def test_a_stranger_cannot_tell_another_teams_server_from_an_empty_one(places: list[Place]) -> None:
    examples = [*await done(places[0].client), *WITHOUT_PROJECT]
    await places[0].database.execute("UPDATE jobs SET state = 'dead', leased_until = NULL")
    strangers = [Client(place.client._app, STRANGER) for place in places]
    for stranger in strangers:
        await stranger.speak(MODERN)
    codes = set()
    for example in examples:
        if example.operation not in OWN_WORLD:
            answers = [masked(await answered(each, example.operation, example.arguments)) for each in strangers]
            assert answers[0] == answers[1], example
            codes.add(answers[0].get("error", {}).get("code"))
    assert codes >= {"project_not_found", "product_not_found", "message_not_found", "attachment_not_found"}
    assert "webhook_not_found" in codes
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


# --- another project's ------------------------------------------------------------------------------------------------

FOREIGN: dict[str, tuple[Any, Any]] = {
    **dict.fromkeys(("message_id", "parent_id"), (1, 987_654)),
    **dict.fromkeys(("review_id", "reservation_id"), (1, 987_654)),
    **dict.fromkeys(("message_ids", "ids"), ([1], [987_654])),
    "thread_id": ("FEAT-123", "FEAT-987"),
    "thread_ids": (["FEAT-123"], ["FEAT-987"]),
    **dict.fromkeys(
        ("agent_name", "sender_name", "from_agent", "to_agent", "requester_name", "contact_name", "inbox_of"),
        ("BlueLake", "GrayLime"),
    ),
    **dict.fromkeys(("recipient_names", "cc_names", "bcc_names", "reviewer_names"), (["BlueLake"], ["GrayLime"])),
    "slot_name": ("frontend", "backdoor"),
}
"""For every argument that names something within a project: what the shop has, and what there is nowhere."""

OF_THE_TEAM = {
    "project_slug": "is the place itself",
    "human_key": "likewise",
    "product_name": "belongs to the team",
    "webhook_id": "likewise",
    "delivery_id": "likewise",
    "subject_id": "likewise, as jobs do",
    "attachment_id": "is readable by whom the team lets read it",
    "attachment_ids": "are the uploader's: tests/contract/test_message_attachments.py",
    "commit": "needs an archive: tests/contract/test_archive_reading.py",
    "principal": "is nobody's",
    "name": "is a new one",
    "cursor": "is refused as altered: tests of each list",
    "before": "likewise",
}
"""Arguments that name something else."""

NUMBERED = {"message_id", "last_message_id", "parent_id", "fence", "id", "review_id", "contact_id"}
"""Fields of results whose next value is another."""


def names_something(argument: str) -> bool:
    """As far as its name tells."""
    endings = ("_id", "_ids", "_name", "_names", "_agent", "_of", "_slug", "_key")
    return argument.endswith(endings) or argument in {"ids", "name", "cursor", "before", "commit", "principal"}


def test_every_argument_that_names_something_has_its_place() -> None:
    arguments = {name for operation in OPERATIONS for name in operation.request_type.model_fields}
    named = {name for name in arguments if names_something(name)}
    assert named - {"idempotency_key", "file_name"} == FOREIGN.keys() | OF_THE_TEAM.keys()


MAKING = {"send_message", "acquire_build_slot"}
"""Operations that make what they name and is not there: after them both names are known."""


def foreign_calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each operation once for each such argument: both names, and the other arguments as the depot's Dot gives them."""
    moved = {"shop": "depot", "BlueLake": "DotDepot", "GreenHill": "EveDepot", "RedPine": "EveDepot"}
    for operation in sorted(OPERATIONS, key=lambda each: each.name in MAKING):
        fields = operation.request_type.model_fields
        if "project_slug" not in fields:
            continue
        example = next(example for example in EXAMPLES if example.operation == operation.name)
        text = json.dumps({**example.arguments, "project_slug": "depot"})
        for one, other in moved.items():
            text = text.replace(f'"{one}"', f'"{other}"')
        arguments = {name: value for name, value in json.loads(text).items() if name != "idempotency_key"}
        for name in fields.keys() & FOREIGN.keys():
            yield operation.name, name, arguments


def without_numbers(value: Any) -> Any:
    """The value without what is numbered through."""
    match value:
        case dict():
            return {name: "…" if name in NUMBERED else without_numbers(item) for name, item in value.items()}
        case list():
            return [without_numbers(item) for item in value]
        case _:
            return value


def anonymous(answer: Any, value: Any) -> str:
    """An answer without the name that was asked for."""
    name = value[0] if isinstance(value, list) else value
    return json.dumps(without_numbers(masked(answer))).replace(str(name), "…")


async def test_another_projects_names_and_ids_are_unknown_ones(places: list[Place]) -> None:
    client = places[0].client
    await done(client)
    await answered(client, "ensure_project", {"human_key": "/code/depot", "slug": "depot"})
    for name in ("DotDepot", "EveDepot"):
        profile = {"program": "p", "model": "m", "name": name}
        await answered(client, "register_agent", {"project_slug": "depot", **profile})
    codes = set()
    for operation, name, arguments in foreign_calls():
        answers = []
        for value in FOREIGN[name]:
            answer = await answered(client, operation, {**arguments, name: value})
            answers.append(anonymous(answer, value))
            codes.add(answer.get("error", {}).get("code"))
        assert answers[0] == answers[1], (operation, name)
    assert codes >= {"agent_not_found", "message_not_found", "thread_not_found", "review_not_found", "slot_not_found"}
    assert codes >= {"reservation_not_found", "recipients_unknown"}
    assert "internal" not in codes


def test_every_operation_of_a_project_that_takes_a_name_is_asked() -> None:
    asked = {(operation, name) for operation, name, _ in foreign_calls()}
    assert asked == {
        (operation.name, name)
        for operation in OPERATIONS
        for name in operation.request_type.model_fields
        if name in FOREIGN and "project_slug" in operation.request_type.model_fields
    }
    assert {operation for operation, _ in asked} <= BY_NAME.keys()
