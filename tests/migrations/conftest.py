"""Databases that nothing was migrated in yet, and migrated ones, on both engines."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import leftover_connections
from tests.migrations.schemas import PostgresSchema, Schema, SqliteSchema, a_row_of_each, insert
from tests.servers import query, with_database

ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[str]:
    """The URL of a PostgreSQL database with nothing in it."""
    name = f"agent_mail_empty_{secrets.token_hex(6)}"
    query(postgres_url, f'CREATE DATABASE "{name}"')
    try:
        yield with_database(postgres_url, name)
        assert leftover_connections(postgres_url, name) == [], "the test left connections open"
    finally:
        query(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=ENGINES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Schema:
    """A place for a database: for SQLite a file that does not exist, in a directory that does not either."""
    if request.param == "sqlite":
        return SqliteSchema(f"sqlite:///{tmp_path / 'not yet' / 'mail.db'}")
    return PostgresSchema(request.getfixturevalue("empty_postgres"))


@pytest.fixture(params=ENGINES)
def migrated(request: pytest.FixtureRequest) -> Schema:
    """A migrated database without rows of its own."""
    if request.param == "sqlite":
        return SqliteSchema(request.getfixturevalue("fresh_sqlite"))
    return PostgresSchema(request.getfixturevalue("fresh_postgres"))


@pytest.fixture
def filled(migrated: Schema) -> Schema:
    """A migrated database with one row in every table."""
    for table, row in a_row_of_each(migrated).items():
        insert(migrated, table, row)
    return migrated
