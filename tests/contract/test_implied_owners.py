"""Columns that repeat what a row's parent says, and that no foreign key holds: they always say the same."""

from __future__ import annotations

import pytest

from agent_mail_core.ports import Role
from tests.contract.databases import Database
from tests.contract.office import Office
from tests.migrations.schemas import PostgresSchema, Schema, SqliteSchema

DIFFERENT = {
    "threads": "SELECT t.team_id <> p.team_id FROM threads t JOIN projects p ON p.id = t.project_id",
    "messages": """
        SELECT m.team_id <> t.team_id OR m.project_id <> t.project_id
        FROM messages m JOIN threads t ON t.id = m.thread_id
    """,
    "deliveries": """
        SELECT d.project_id <> m.project_id OR d.sender_id <> m.sender_id OR d.thread_id <> m.thread_id
        FROM deliveries d JOIN messages m ON m.id = d.message_id
    """,
    "events": "SELECT e.team_id <> p.team_id FROM events e JOIN projects p ON p.id = e.project_id",
}
"""For each row, whether anything differs."""


def seen(database: Database) -> Schema:
    """The database, for statements of our own."""
    return SqliteSchema(database.url) if database.url.startswith("sqlite") else PostgresSchema(database.url)


@pytest.fixture
async def mail(office: Office, database: Database) -> Office:
    """Two teams with projects, agents and threads of their own, none of which have the ids of the others."""
    await office.ensure("another")  # so that ids of teams and projects differ
    rivals = await database.add_team("rivals")
    theirs = office.of("rival", Role.admin, rivals)
    for slug in ("x", "y"):
        await theirs.ensure(slug)
        there = Office(office.app, theirs.caller, slug)
        for name in ("Una", "Vic"):
            await there.register(name)
        first = await there.send("Una", ["Vic"], thread_id="T-1")
        await there.reply("Vic", first.message_id)
    sent = await office.send("Ann", ["Bob", "Cid"], thread_id="T-1")
    await office.reply("Bob", sent.message_id)
    await office.send("Cid", ["Ann"])
    return office


@pytest.mark.parametrize("table", DIFFERENT)
async def test_every_row_says_of_its_owners_what_its_parent_says(mail: Office, database: Database, table: str) -> None:
    rows = seen(database).run(DIFFERENT[table])
    assert len(rows) >= 4
    assert not any(different for (different,) in rows)


@pytest.mark.parametrize(
    "table, column",
    [
        ("threads", "team_id"),
        ("messages", "team_id"),
        ("messages", "project_id"),
        ("deliveries", "project_id"),
        ("deliveries", "sender_id"),
        ("deliveries", "thread_id"),
        ("events", "team_id"),
    ],
)
async def test_it_would_be_noticed(mail: Office, database: Database, table: str, column: str) -> None:
    await database.execute(f"UPDATE {table} SET {column} = {column} + 1")
    assert all(different for (different,) in seen(database).run(DIFFERENT[table]))
