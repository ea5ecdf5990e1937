"""A database that was restored: clients learn of it, and in another PostgreSQL its events go on in their order."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import CursorExpired, RestoreUnfinished
from agent_mail_core.events import FIRST_POSITION, EventEntry, EventFilter, NewEvent
from agent_mail_core.ports import Store
from agent_mail_core.settings import Settings
from agent_mail_store.opening import open_store
from tests.contract.archives import archived
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.leasing import reserve
from tests.contract.office import Office, subjects
from tests.servers import PostgresServer, postgres_server, query, with_database


async def run(*command: str, **environment: str) -> None:
    """A program, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    process._transport.close()  # type: ignore[attr-defined] # or it is closed later, with a warning
    assert process.returncode == 0, said.decode()


async def migrate_restored(url: str) -> None:
    """`agent-mail migrate --restored`."""
    main = "from agent_mail_cli.main import main; main()"
    await run(sys.executable, "-c", main, "migrate", "--restored", DATABASE_URL=url)


async def events_of(store: Store) -> list[EventEntry]:
    """All of them, as a follower gets them."""
    async with store.read() as db:
        return (await db.events.after(FIRST_POSITION, EventFilter(), 10_000)).entries


async def test_a_restored_database_begins_an_epoch(office: Office, database: Database, family: StoreFamily) -> None:
    await office.send("Ann", ["Bob"], subject="S0")
    cursor = (await office.inbox("Bob")).cursor
    before = await events_of(office.app.store)
    await family.close()
    await migrate_restored(database.url)
    restored = office.at(replace(office.app, store=await family.open()))
    assert restored.app.store.identity.epoch != office.app.store.identity.epoch
    with pytest.raises(CursorExpired):
        await restored.inbox("Bob", cursor=cursor)
    assert await events_of(restored.app.store) == before
    await restored.send("Ann", ["Bob"], subject="S1")
    assert subjects((await restored.inbox("Bob")).messages) == ["S1", "S0"]


async def test_fences_are_higher_than_all_that_the_lost_part_may_have_given(
    office: Office, database: Database, family: StoreFamily
) -> None:
    """Whoever has a fence from after the backup, and what it guards, never meets the same number again."""
    [before] = (await reserve(office, "Ann", "src")).granted
    await office.ensure("/code/shop", slug="shop")
    shop = Office(office.app, office.caller, "shop")
    await shop.register("Ann")
    given = before.fence
    for path in ("lib", "docs"):  # once more, for what was restored was lost too
        await family.close()
        await migrate_restored(database.url)
        app = replace(office.app, store=await family.open())
        granted = [one for place in (office, shop) for one in (await reserve(place.at(app), "Ann", path)).granted]
        assert min(one.fence for one in granted) > given + 1000
        given = max(one.fence for one in granted)
        await database.execute("UPDATE lease_counters SET fence = 5")  # as the same backup has them


# --- into another PostgreSQL ------------------------------------------------------------------------------------------


@pytest.fixture
def other_postgres() -> Iterator[PostgresServer]:
    """One that has given out hardly any transaction ids."""
    with postgres_server() as server:
        yield server


def use_up_ids(url: str, count: int) -> None:
    """Let a PostgreSQL be as old as ours in production are."""
    query(url, f"DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")


async def dump_and_restore(source: str, target: PostgresServer) -> str:
    """The same database in another server, by PostgreSQL's own programs as docs/deploying.md has it; its URL there."""
    programs = Path(target.command[0]).parent
    dump = str(target.home / "mail.dump")
    await run(str(programs / "pg_dump"), "--format=custom", f"--file={dump}", f"--dbname={source}")
    options = ["--create", "--clean", "--if-exists", "--exit-on-error"]
    await run(str(programs / "pg_restore"), *options, f"--dbname={target.url}", dump)
    return with_database(target.url, urlsplit(source).path.removeprefix("/"))


async def add_crosswise(office: Office) -> None:
    """Events whose ids are in another order than that of their transactions."""
    async with office.app.store.read() as db:
        project = await db.projects.find(office.caller.team_id, office.slug)
    assert project is not None
    event = NewEvent("agent.updated", office.caller.team_id, project.id)
    for _ in range(20):
        async with office.app.store.write() as early:
            await early.events.add(event)
            await asyncio.create_task(_add(office.app.store, event))
            await early.events.add(event)


async def _add(store: Store, event: NewEvent) -> None:
    async with store.write() as db:
        await db.events.add(event)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    settings = Settings(database_url=SecretStr(url))
    store = await open_store(settings, SystemClock(), single_server=False)
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
async def test_its_events_go_on_in_another_postgres(
    database: Database, office: Office, other_postgres: PostgresServer, tmp_path: Path
) -> None:
    use_up_ids(database.url, 5000)
    async with archived(office, tmp_path / "archive") as mail:
        await office.send("Ann", ["Bob"], subject="S0")
        await add_crosswise(office)
        await mail.archive()
        await office.send("Ann", ["Bob"], subject="S1")
        await add_crosswise(office)
        before = await events_of(office.app.store)
        assert [entry.position.event_id for entry in before] != sorted(entry.position.event_id for entry in before)
        cursor = (await office.inbox("Bob")).cursor

        url = await dump_and_restore(database.url, other_postgres)
        with pytest.raises(RestoreUnfinished, match="migrate --restored"):
            async with opened(url):
                pass
        await migrate_restored(url)
        async with opened(url) as store:
            restored = replace(mail, office=office.at(replace(mail.app, store=store)))
            after = await events_of(store)
            assert [(entry.position.event_id, entry.kind) for entry in after] == [
                (entry.position.event_id, entry.kind) for entry in before
            ]
            await restored.office.send("Ann", ["Bob"], subject="S2")
            assert (await events_of(store))[-1].kind == "message.sent"
            with pytest.raises(CursorExpired):
                await restored.office.inbox("Bob", cursor=cursor)
            await restored.archive()
            assert (await restored.verified()).not_yet == 0
