"""Migrating a SQLite file: made with mode 0600 and in WAL mode, changed in one transaction under the write lock."""

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import apsw

from agent_mail_core.database_urls import sqlite_path
from agent_mail_core.errors import DatabaseUnavailable, SchemaTooOld
from agent_mail_migrations.migration import Migration

LOCK_TIMEOUT = 30.0
"""Seconds to wait for whoever else migrates or writes."""

_RAISE_FENCES = """
    INSERT INTO lease_counters (project_id, fence) SELECT id, ?1 FROM projects WHERE true
    ON CONFLICT (project_id) DO UPDATE SET fence = max(fence, ?1)
"""


async def apply(database_url: str, pending_for: Sequence[Migration], code_version: str) -> list[str]:
    """Apply those of `pending_for` that the file lacks, all or none, and make its facts; the names of those applied.

    `code_version` is the number of the newest migration that the code knows, as the `oldest_code` fact counts it.
    """
    return await asyncio.to_thread(_apply, sqlite_path(database_url), pending_for, code_version)


async def begin_epoch(database_url: str, epoch: str, fence: int) -> None:
    """Make that the file's epoch, and let the fences of each project go on from there."""

    def change() -> None:
        try:
            connection = apsw.Connection(str(sqlite_path(database_url)), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.set_busy_timeout(round(LOCK_TIMEOUT * 1000))
                connection.execute("PRAGMA synchronous = FULL")
                with connection:
                    connection.execute("UPDATE facts SET value = ? WHERE name = 'epoch'", (epoch,))
                    connection.execute(_RAISE_FENCES, (fence,))
            finally:
                connection.close()
        except apsw.Error as error:
            raise DatabaseUnavailable(f"The database could not be migrated: {error}.") from error

    await asyncio.to_thread(change)


def _apply(path: Path, pending_for: Sequence[Migration], code_version: str) -> list[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except (OSError, apsw.Error) as error:
        raise DatabaseUnavailable(f"The database file {path.name!r} cannot be made or opened: {error}.") from error
    try:
        connection.set_busy_timeout(round(LOCK_TIMEOUT * 1000))
        connection.execute("PRAGMA synchronous = FULL")
        _use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        names = _apply_pending(connection, pending_for, code_version)
        connection.execute("COMMIT")
    except apsw.Error as error:
        raise DatabaseUnavailable(f"The database could not be migrated: {error}.") from error
    finally:
        connection.close()  # rolls back what was not committed
    return names


def _use_wal(connection: apsw.Connection) -> None:
    """Turn on write-ahead logging, which stays on. It needs the file to itself, and may fail at once: try again."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0]
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise DatabaseUnavailable("The file system of the database does not allow SQLite's write-ahead log.")
        return


def _apply_pending(connection: apsw.Connection, known: Sequence[Migration], code_version: str) -> list[str]:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT"
    )
    done = {row[0] for row in connection.execute("SELECT number FROM schema_migrations")}
    newest = max(done, default=0)
    if newest > len(known):
        _check_still_serves(connection, newest, code_version)
    pending = [migration for migration in known if migration.number not in done]
    for migration in pending:
        connection.execute(migration.sql).fetchall()  # a statement that gives rows would else stop there
        connection.execute(
            "INSERT INTO schema_migrations (number, name, applied_at) VALUES (?, ?, ?)",
            (migration.number, migration.name, time.time_ns() // 1000),
        )
    facts = {"epoch": secrets.token_hex(8), "cursor_key": secrets.token_hex(32), "oldest_code": "1"}
    connection.executemany(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", list(facts.items())
    )
    return [migration.name for migration in pending]


def _check_still_serves(connection: apsw.Connection, newest: int, code_version: str) -> None:
    row = connection.execute("SELECT value FROM facts WHERE name = 'oldest_code'").fetchall()
    if not row or int(str(row[0][0])) > int(code_version):
        raise SchemaTooOld(
            f"The database has schema {newest}, which no longer serves this version: run a newer version of Agent Mail."
        )
