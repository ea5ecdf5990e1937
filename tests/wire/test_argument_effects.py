"""Every declared argument changes something (SPEC §3.1).

Each call is made on a copy of one world, and once more on another copy with another value of one argument: the answer
or a row of the database must differ, in a place where two calls that are the same do not, or show the value there. An
answer that only repeats the argument is none.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_mail_server.examples import Example
from agent_mail_server.operations import OPERATIONS
from tests.servers import in_new_loop
from tests.wire.argument_effects import EFFECTS, Beside, Meanwhile, Refused, Told
from tests.wire.argument_world import NOW, HandClock, World, inhabited, make_world
from tests.wire.server import until

BEHIND = {"jobs", "outbox", "archives", "idempotency_keys", "webhook_deliveries", "summaries"}
"""Tables that background jobs write beside the call, and the one that only remembers what was called."""

Places = dict[tuple[Any, ...], Any]
"""Each value of an outcome by where it stands in it."""


@pytest.fixture(scope="module")
def world(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Made once; calls are made on copies."""
    return in_new_loop(make_world(sqlite_template, tmp_path_factory.mktemp("world") / "made"))


def test_every_argument_has_an_effect_to_show() -> None:
    declared = {
        operation.name: set(operation.request_type.model_fields)
        for operation in OPERATIONS
        if operation.request_type.model_fields
    }
    assert {name: set(effects.changed) for name, effects in EFFECTS.items()} == declared


@pytest.mark.parametrize("operation", EFFECTS)
async def test_every_argument_changes_something(world: World, tmp_path: Path, operation: str) -> None:
    caller = Trial(world, tmp_path, operation)
    for argument, change in EFFECTS[operation].changed.items():
        base, value, code, meanwhile = dict(EFFECTS[operation].base), change, None, None
        if isinstance(value, Beside):
            base, value = base | dict(value.others), value.value
        if isinstance(value, Refused):
            value, code = value.value, value.code
        if isinstance(value, Meanwhile):
            value, meanwhile = value.value, value
        twice = argument == "idempotency_key"
        same = await caller.outcomes(base, meanwhile, twice)
        if isinstance(value, Told):
            value = same[0]["answer", value.name]
        other = await caller.outcome({**base, argument: value}, meanwhile, twice)
        assert other.get(("answer", "error", "code")) == code, (argument, other)
        noise = differing(*same) | {("answer", argument)}
        told = {place for place in noise - {("answer", argument)} if str(value) in str(other.get(place))}
        assert (differing(same[0], other) - noise) | told, argument


def differing(one: Places, other: Places) -> set[tuple[Any, ...]]:
    """Where the two are not the same."""
    return {place for place in one.keys() | other.keys() if one.get(place) != other.get(place)}


class Trial:
    """Calls of one operation, each on a copy of the world of its own."""

    def __init__(self, world: World, folder: Path, operation: str) -> None:
        self._world, self._folder, self._operation = world, folder, operation
        self._numbers = count()
        self._known: dict[str, tuple[Places, Places]] = {}

    async def outcomes(
        self, arguments: Mapping[str, Any], meanwhile: Meanwhile | None, twice: bool
    ) -> tuple[Places, Places]:
        """Two outcomes of the same call."""
        key = json.dumps([arguments, meanwhile is not None, twice])
        if key not in self._known:
            one, other = [await self.outcome(arguments, meanwhile, twice) for _ in range(2)]
            self._known[key] = one, other
        return self._known[key]

    async def outcome(self, arguments: Mapping[str, Any], meanwhile: Meanwhile | None, twice: bool) -> Places:
        """What the call answers and leaves in the database."""
        example = Example(self._operation, {name: self._filled(value) for name, value in arguments.items()})
        copy = self._world.copy(self._folder / str(next(self._numbers)))
        async with inhabited(copy, HandClock(NOW)) as (server, client):
            for _ in range(1 + twice):
                called = asyncio.create_task(_call(client, example))
                if meanwhile is not None:
                    await until(lambda: called.done() or server.metrics.waiting == 1)  # noqa: B023
                    response = await client.post(f"/api/{meanwhile.path}", json=meanwhile.body)
                    assert response.is_success, response.text
                answer = await called
        return dict(_places(("answer",), answer)) | dict(_rows(copy.database))

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        return self._world.ids.get(value, value) if isinstance(value, str) else value


async def _call(client: httpx.AsyncClient, example: Example) -> Any:
    arguments = {name: value for name, value in example.arguments.items() if value is not None}
    method, path, body = Example(example.operation, arguments).request()
    response = await client.request(method, path, json=body)
    kind = response.headers["content-type"].partition(";")[0]
    return response.json() if kind == "application/json" else response.text


def _places(at: tuple[Any, ...], value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    match value:
        case dict():
            for name, item in value.items():
                yield from _places((*at, name), item)
        case list():
            yield (*at, "length"), len(value)
            for number, item in enumerate(value):
                yield from _places((*at, number), item)
        case _:
            yield at, value


def _rows(database: Path) -> Iterator[tuple[tuple[Any, ...], Any]]:
    with closing(sqlite3.connect(database)) as opened:
        listed = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
        for (table,) in opened.execute(listed).fetchall():
            if table not in BEHIND and not table.startswith("sqlite_"):
                found = opened.execute(f"SELECT * FROM {table}")
                names = [column[0] for column in found.description]
                yield from _places((table,), [dict(zip(names, row, strict=True)) for row in found])
