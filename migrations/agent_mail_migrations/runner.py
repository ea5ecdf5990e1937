"""Applying migrations: which there are, which a database lacks, and one call that brings it up to date.

Migrations are the files `NNNN_name.sql` of an engine's folder; they only go forward, and each engine has every number.
The engine's own runner applies what is missing in one transaction under a lock, so that of two that start at once one
works and the other finds nothing left to do.

Code is as old as its newest migration: a database's `oldest_code` fact is the number of the newest migration that code
must know to serve it. A migration that older code cannot live with raises it.
"""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from agent_mail_core import database_urls
from agent_mail_core.database_urls import Engine
from agent_mail_migrations.migration import Migration

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What `migrate` did."""

    engine: Engine
    applied: list[str]
    """Names of the migrations that this call applied, in order; empty when the database was up to date."""
    version: int
    """The number of the newest migration of this code. The database may be newer, if it still serves this code."""


def migrations(engine: Engine) -> list[Migration]:
    """All migrations of an engine, in order, numbered from 1 without a gap."""
    found = []
    for entry in resources.files("agent_mail_migrations").joinpath(engine).iterdir():
        if named := _FILE.fullmatch(entry.name):
            name = entry.name.removesuffix(".sql")
            found.append(Migration(int(named[1]), name, entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    assert [migration.number for migration in found] == list(range(1, len(found) + 1)), (
        f"numbers of {engine} have a gap"
    )
    return found


LATEST = len(migrations("sqlite"))
"""The number of the newest migration that this code knows."""


async def migrate(database_url: str) -> MigrationReport:
    """Bring a database to this code's schema, making the SQLite file if need be. Race-safe and idempotent.

    Raises SchemaTooOld when the database is newer than this code and no longer serves it, DatabaseUnavailable when it
    cannot be reached, locked or written. Either way nothing was changed.
    """
    engine = database_urls.engine(database_url)
    known: Sequence[Migration] = migrations(engine)
    # The driver of the other engine is not loaded.
    if engine == "sqlite":
        from agent_mail_migrations import sqlite_runner

        applied = await sqlite_runner.apply(database_url, known, str(LATEST))
    else:
        from agent_mail_migrations import postgres_runner

        applied = await postgres_runner.apply(database_url, known, str(LATEST))
    return MigrationReport(engine, applied, LATEST)


async def begin_epoch(database_url: str) -> None:
    """Let a migrated database know that it was restored from a backup, or promoted: cursors from before expire, and
    the fences of leases go on at the microseconds since 1970, higher than any that were given.

    On PostgreSQL its events are numbered anew if they must be, in their order, so that followers find what comes from
    now on behind them. No server may run meanwhile. Raises DatabaseUnavailable.
    """
    epoch, fence = secrets.token_hex(8), time.time_ns() // 1000
    if database_urls.engine(database_url) == "sqlite":
        from agent_mail_migrations import sqlite_runner

        await sqlite_runner.begin_epoch(database_url, epoch, fence)
    else:
        from agent_mail_migrations import postgres_epoch

        await postgres_epoch.begin_epoch(database_url, epoch, fence)
