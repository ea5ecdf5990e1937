"""Migrating a SQLite file: from nothing, again, by several processes at once, and when it is newer than the code."""

import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import apsw
import pytest

from agent_mail_core.errors import DatabaseUnavailable, SchemaTooOld
from agent_mail_migrations import sqlite_runner
from agent_mail_migrations.migration import Migration
from agent_mail_migrations.runner import LATEST, migrate, migrations
from agent_mail_store.schema import SCHEMA_VERSION
from tests.contract.sqlite_mail import child, opened

MIGRATE = """
import asyncio, sys
from agent_mail_migrations.runner import migrate
print("ready", flush=True)
sys.stdin.readline()
print(len(asyncio.run(migrate(sys.argv[1])).applied), flush=True)
"""


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    try:
        return [tuple(row) for row in connection.execute(sql)]
    finally:
        connection.close()


async def test_a_file_is_made_for_its_owner_alone_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "mail.db"
    report = await migrate(f"sqlite:///{path}")
    assert report.engine == "sqlite"
    assert report.version == LATEST
    assert report.applied == [migration.name for migration in migrations("sqlite")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
    assert [entry.name for entry in path.parent.iterdir()] == ["mail.db"]
    async with opened(str(path)) as store:  # a bare path is a DATABASE_URL too
        await store.check()
        assert len(store.identity.cursor_key) == 32
        assert store.identity.epoch


async def test_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    await migrate(f"sqlite:///{path}")
    before = rows(path, "SELECT * FROM facts ORDER BY name"), rows(path, "SELECT * FROM schema_migrations")
    assert (await migrate(f"sqlite:///{path}")).applied == []
    assert (rows(path, "SELECT * FROM facts ORDER BY name"), rows(path, "SELECT * FROM schema_migrations")) == before


async def test_of_several_processes_that_start_together_one_migrates(tmp_path: Path) -> None:
    for attempt in range(2):
        path = tmp_path / f"{attempt}.db"
        with ExitStack() as stack:
            processes = [stack.enter_context(child(MIGRATE, f"sqlite:///{path}")) for _ in range(4)]
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            counts = [process.stdout.readline() for process in processes if process.stdout is not None]
        assert sorted(counts) == ["0\n", "0\n", "0\n", f"{LATEST}\n"]
        assert rows(path, "SELECT count(*) FROM facts") == [(3,)]


async def test_a_database_newer_than_the_code_is_refused_unless_it_says_that_it_serves_it(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    url = f"sqlite:///{path}"
    await migrate(url)
    rows(path, f"INSERT INTO schema_migrations VALUES ({LATEST + 1}, 'later', 0)")
    assert (await migrate(url)).applied == []
    async with opened(url) as store:
        await store.check()
        rows(path, f"UPDATE facts SET value = '{LATEST + 1}' WHERE name = 'oldest_code'")
        with pytest.raises(SchemaTooOld, match="newer version"):
            await store.check()
    with pytest.raises(SchemaTooOld, match="newer version"):
        await migrate(url)
    with pytest.raises(SchemaTooOld, match="newer version"):
        async with opened(url):
            pass


async def test_a_database_older_than_the_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    await migrate(f"sqlite:///{path}")
    rows(path, "DELETE FROM schema_migrations WHERE number > 1")
    with pytest.raises(SchemaTooOld, match="migrate"):
        async with opened(f"sqlite:///{path}"):
            pass


async def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mail.db"
    wrong: Sequence[Migration] = [
        *migrations("sqlite"),
        Migration(LATEST + 1, "wrong", "CREATE TABLE oops (a); nonsense"),
    ]
    with pytest.raises(DatabaseUnavailable):
        await sqlite_runner.apply(url, wrong, str(LATEST + 1))
    assert rows(tmp_path / "mail.db", "SELECT name FROM sqlite_schema") == []
    assert len((await migrate(url)).applied) == LATEST


async def test_a_lock_held_by_a_writer_is_waited_for_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_runner, "LOCK_TIMEOUT", 0.2)
    url = f"sqlite:///{tmp_path}/mail.db"
    await migrate(url)
    connection = apsw.Connection(str(tmp_path / "mail.db"))
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable):
        await migrate(url)
    connection.close()
    await migrate(url)


def test_the_stores_need_the_newest_migration() -> None:
    assert SCHEMA_VERSION == LATEST
