"""Migrating a PostgreSQL database: each change in a transaction of its own, all of them under one advisory lock."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from agent_mail_core.errors import DatabaseUnavailable, SchemaTooOld
from agent_mail_migrations.migration import Migration

LOCK = 0x4147_4D41_494C_0002
"""Any number that other programs do not use: `AGMAIL` and 2. The server's own lock is another."""

CONNECT_TIMEOUT = 10.0
LOCK_TIMEOUT = "60s"
"""How long to wait for whoever else migrates, and for the tables; no statement has a time limit."""


@asynccontextmanager
async def alone(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that holds the lock of those who migrate; DatabaseUnavailable for whatever fails on it."""
    try:
        connection = await asyncpg.connect(
            database_url,
            timeout=CONNECT_TIMEOUT,
            server_settings={
                "application_name": "agent-mail migrate",
                "lock_timeout": LOCK_TIMEOUT,
                "statement_timeout": "0",
                "idle_in_transaction_session_timeout": "0",
                "client_min_messages": "warning",
            },
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(f"The database cannot be reached: {error}.") from error
    try:
        # Held by the session, so that it covers all the transactions; closing the connection lets go of it.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        yield connection
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(f"The database could not be migrated: {error}.") from error
    finally:
        await _close(connection)


async def apply(database_url: str, known: Sequence[Migration], code_version: str) -> list[str]:
    """Apply those of `known` that the database lacks, in order, and make its facts; the names of those applied.

    `code_version` is the number of the newest migration that the code knows, as the `oldest_code` fact counts it. When
    a migration fails, those before it stay applied.
    """
    async with alone(database_url) as connection:
        return await _apply_pending(connection, known, code_version)


async def _apply_pending(
    connection: "asyncpg.Connection[asyncpg.Record]", known: Sequence[Migration], code_version: str
) -> list[str]:
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migrations (
            number integer PRIMARY KEY,
            name text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """
    )
    done = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations")}
    newest = max(done, default=0)
    if newest > len(known):
        await _check_still_serves(connection, newest, code_version)
    pending = [migration for migration in known if migration.number not in done]
    for migration in pending:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name) VALUES ($1, $2)", migration.number, migration.name
            )
    facts = {"epoch": secrets.token_hex(8), "cursor_key": secrets.token_hex(32), "oldest_code": "1"}
    await connection.execute(
        """
        INSERT INTO facts (name, value) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT (name) DO NOTHING
        """,
        list(facts),
        list(facts.values()),
    )
    return [migration.name for migration in pending]


async def _check_still_serves(connection: "asyncpg.Connection[asyncpg.Record]", newest: int, code_version: str) -> None:
    oldest_code = await connection.fetchval("SELECT value FROM facts WHERE name = 'oldest_code'")
    if oldest_code is None or int(oldest_code) > int(code_version):
        raise SchemaTooOld(
            f"The database has schema {newest}, which no longer serves this version: run a newer version of Agent Mail."
        )


async def _close(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    try:
        await connection.close(timeout=CONNECT_TIMEOUT)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
