"""The runner: from empty to the newest schema, once, whoever starts it and however often."""

import asyncio
import stat
import subprocess
import sys
from typing import get_args

import pytest
from pydantic import SecretStr

from agent_mail_core.clock import SystemClock
from agent_mail_core.database_urls import Engine
from agent_mail_core.errors import DatabaseUnavailable, SchemaTooOld
from agent_mail_core.settings import Settings
from agent_mail_migrations.runner import LATEST, migrate, migrations
from agent_mail_store.opening import open_store
from agent_mail_store.schema import SCHEMA_VERSION
from tests.migrations.schemas import Schema

NAMES = [migration.name for migration in migrations("sqlite")]


def contents(schema: Schema) -> dict[str, list[str]]:
    """Every row of every table."""
    return {table: sorted(map(repr, schema.run(f"SELECT * FROM {table}"))) for table in schema.tables()}


def test_both_engines_have_the_same_migrations() -> None:
    by_engine = {engine: [(m.number, m.name) for m in migrations(engine)] for engine in get_args(Engine)}
    assert by_engine["sqlite"] == by_engine["postgres"]
    assert [number for number, _ in by_engine["sqlite"]] == list(range(1, LATEST + 1))


def test_the_stores_need_the_newest_schema() -> None:
    assert SCHEMA_VERSION == LATEST


async def test_an_empty_database_gets_all_of_them(empty: Schema) -> None:
    report = await migrate(empty.url)
    assert (report.engine, report.applied, report.version) == (empty.engine, NAMES, LATEST)
    assert [row[0] for row in empty.run("SELECT number FROM schema_migrations ORDER BY number")] == list(
        range(1, LATEST + 1)
    )
    store = await open_store(Settings(database_url=SecretStr(empty.url)), SystemClock(), single_server=True)
    try:
        await store.check()
    finally:
        await store.close()


async def test_a_second_time_changes_nothing(empty: Schema) -> None:
    await migrate(empty.url)
    before = contents(empty)
    report = await migrate(empty.url)
    assert (report.applied, report.version) == ([], LATEST)
    assert contents(empty) == before


async def test_of_many_at_once_in_one_process_one_does_the_work(empty: Schema) -> None:
    async with asyncio.timeout(60):
        reports = await asyncio.gather(*(migrate(empty.url) for _ in range(6)))
    assert sorted(report.applied for report in reports) == [[]] * 5 + [NAMES]
    assert len(empty.run("SELECT * FROM schema_migrations")) == LATEST


def test_of_many_processes_at_once_one_does_the_work(empty: Schema) -> None:
    program = (
        "import asyncio, sys; from agent_mail_migrations.runner import migrate;"
        "print(asyncio.run(migrate(sys.argv[1])).applied)"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}", empty.url]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate(timeout=60)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sorted(printed) == sorted(["[]", "[]", repr(NAMES)])


async def test_every_database_has_facts_of_its_own_for_life(empty: Schema, migrated: Schema) -> None:
    await migrate(empty.url)
    here = dict(empty.run("SELECT name, value FROM facts"))
    there = dict(migrated.run("SELECT name, value FROM facts"))
    assert set(here) == set(there) == {"epoch", "cursor_key", "oldest_code"}
    assert here["epoch"] != there["epoch"]
    assert here["cursor_key"] != there["cursor_key"]
    assert len(bytes.fromhex(here["cursor_key"])) >= 32
    assert int(here["oldest_code"]) <= LATEST


def test_there_is_one_team_and_the_next_one_gets_another_id(migrated: Schema) -> None:
    assert migrated.run("SELECT id, name FROM teams") == [(1, "default")]
    migrated.run(f"INSERT INTO teams (name, created_at) VALUES ('second', {migrated.now})")
    assert sorted(migrated.run("SELECT id, name FROM teams")) == [(1, "default"), (2, "second")]


async def test_a_newer_database_that_still_serves_this_code_is_left_as_it_is(migrated: Schema) -> None:
    newer(migrated, oldest_code=LATEST)
    before = contents(migrated)
    assert (await migrate(migrated.url)).applied == []
    assert contents(migrated) == before


async def test_a_newer_database_that_does_not_serve_this_code_is_refused(migrated: Schema) -> None:
    newer(migrated, oldest_code=LATEST + 1)
    before = contents(migrated)
    with pytest.raises(SchemaTooOld) as refused:
        await migrate(migrated.url)
    assert "newer version" in refused.value.message
    with pytest.raises(SchemaTooOld):
        await open_store(Settings(database_url=SecretStr(migrated.url)), SystemClock(), single_server=False)
    assert contents(migrated) == before


def newer(schema: Schema, oldest_code: int) -> None:
    """As a later release would leave the database."""
    schema.run(f"INSERT INTO schema_migrations (number, name, applied_at) VALUES ({LATEST + 1}, 'later', {schema.now})")
    schema.run(f"UPDATE facts SET value = '{oldest_code}' WHERE name = 'oldest_code'")


async def test_a_database_that_was_not_migrated_is_not_opened(empty: Schema) -> None:
    with pytest.raises((SchemaTooOld, DatabaseUnavailable)) as refused:
        await open_store(Settings(database_url=SecretStr(empty.url)), SystemClock(), single_server=False)
    assert "agent-mail migrate" in refused.value.message


async def test_what_is_no_database_is_refused_and_left_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("other") / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(DatabaseUnavailable):
        await migrate(f"sqlite:///{path}")
    assert path.read_text() == "Dear Sir or Madam, " * 100


async def test_a_server_that_is_not_there_is_unavailable(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    with pytest.raises(DatabaseUnavailable):
        await migrate(f"postgresql://postgres@/postgres?host={nowhere}&port=5432")


async def test_a_new_file_is_its_owners_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("private") / "mail.db"
    await migrate(f"sqlite:///{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
