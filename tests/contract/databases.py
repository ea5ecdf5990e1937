"""The databases under the stores, seen behind their backs: what is really in them, and rows that no operation makes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import apsw
import asyncpg

from agent_mail_core.ids import TeamId

Tables = dict[str, list[str]]


@dataclass(frozen=True)
class EventRow:
    """An event and how many outbox rows point at it."""

    kind: str
    team_id: int
    project_id: int
    agent_id: int | None
    message_id: int | None
    data: dict[str, Any]
    outbox_topics: list[str]


class Database(Protocol):
    """A migrated database of the test's own."""

    @property
    def url(self) -> str:
        """What a store is opened with."""
        ...

    async def dump(self) -> Tables:
        """Every row of every table, as text, in a fixed order."""
        ...

    async def add_team(self, name: str) -> TeamId:
        """A second tenant: no operation of this stage makes one."""
        ...

    async def age(self, table: str, by: timedelta, *columns: str) -> None:
        """Make all rows of a table as much older, by `created_at` or by these columns."""
        ...

    async def set_fact(self, name: str, value: str) -> None:
        """Change a fact that the database carries for its whole life."""
        ...

    async def events(self) -> list[EventRow]:
        """All events, in the order of their ids."""
        ...

    async def execute(self, *statements: str) -> None:
        """Change rows in SQL that every engine understands, as no operation of this stage does."""
        ...

    async def count(self, query: str) -> int:
        """How many rows a query in SQL that every engine understands has."""
        ...


_EVENTS = """
    SELECT e.kind, e.team_id, e.project_id, e.agent_id, e.message_id, e.data, o.topic
    FROM events e LEFT JOIN outbox o ON o.event_id = e.id ORDER BY e.id, o.id
"""
_EVENT_IDS = "SELECT e.id FROM events e LEFT JOIN outbox o ON o.event_id = e.id ORDER BY e.id, o.id"


def _event_rows(ids: list[int], rows: list[tuple[Any, ...]]) -> list[EventRow]:
    events: dict[int, EventRow] = {}
    for event_id, (kind, team_id, project_id, agent_id, message_id, data, topic) in zip(ids, rows, strict=True):
        event = events.setdefault(
            event_id, EventRow(kind, team_id, project_id, agent_id, message_id, json.loads(data), [])
        )
        if topic is not None:
            event.outbox_topics.append(topic)
    return list(events.values())


class SqliteDatabase(Database):
    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    def _run(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(self._url.removeprefix("sqlite:///"))
        try:
            connection.set_busy_timeout(5000)
            return [tuple(row) for row in connection.execute(statement, arguments)]
        finally:
            connection.close()

    async def dump(self) -> Tables:
        found = self._run(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
        )
        return {name: sorted(repr(row) for row in self._run(f'SELECT * FROM "{name}"')) for (name,) in found}

    async def add_team(self, name: str) -> TeamId:
        rows = self._run("INSERT INTO teams (name, created_at) VALUES (?, 0) RETURNING id", name)
        return TeamId(rows[0][0])

    async def age(self, table: str, by: timedelta, *columns: str) -> None:
        for column in columns or ("created_at",):
            self._run(f"UPDATE {table} SET {column} = {column} - ?", by // timedelta(microseconds=1))

    async def set_fact(self, name: str, value: str) -> None:
        self._run("UPDATE facts SET value = ? WHERE name = ?", value, name)

    async def events(self) -> list[EventRow]:
        return _event_rows([row[0] for row in self._run(_EVENT_IDS)], self._run(_EVENTS))

    async def execute(self, *statements: str) -> None:
        for statement in statements:
            self._run(statement)

    async def count(self, query: str) -> int:
        return len(self._run(query))


class PostgresDatabase(Database):
    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self._url)
        try:
            yield connection
        finally:
            await connection.close()

    async def dump(self) -> Tables:
        async with self._connection() as connection:
            found = await connection.fetch(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
            )
            return {
                row[0]: [text[0] for text in await connection.fetch(f'SELECT t::text FROM "{row[0]}" t ORDER BY 1')]
                for row in found
            }

    async def add_team(self, name: str) -> TeamId:
        async with self._connection() as connection:
            return TeamId(await connection.fetchval("INSERT INTO teams (name) VALUES ($1) RETURNING id", name))

    async def age(self, table: str, by: timedelta, *columns: str) -> None:
        async with self._connection() as connection:
            for column in columns or ("created_at",):
                await connection.execute(f"UPDATE {table} SET {column} = {column} - $1::interval", by)

    async def set_fact(self, name: str, value: str) -> None:
        async with self._connection() as connection:
            await connection.execute("UPDATE facts SET value = $1 WHERE name = $2", value, name)

    async def events(self) -> list[EventRow]:
        async with self._connection() as connection:
            ids = [row[0] for row in await connection.fetch(_EVENT_IDS)]
            return _event_rows(ids, [tuple(row) for row in await connection.fetch(_EVENTS)])

    async def execute(self, *statements: str) -> None:
        async with self._connection() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def count(self, query: str) -> int:
        async with self._connection() as connection:
            return len(await connection.fetch(query))
