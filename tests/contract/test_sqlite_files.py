"""SQLite's file in trouble: gone, replaced, damaged, locked, full, read-only. It answers `unavailable`, and soon."""

import asyncio
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, SchemaTooOld
from agent_mail_core.message_search import SearchFilter
from agent_mail_core.search_query import parse
from agent_mail_store.sqlite.errors import translate
from agent_mail_store.sqlite.transaction import SqliteTransaction
from tests.contract.sqlite_mail import TEAM, child, furnish, inbox, opened, outgoing, sound

HOLD_WRITE_LOCK = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("freed", flush=True)
sys.stdin.readline()
"""
LONG = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT max(i) FROM n"


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def without_secrets(error: BaseException, url: str) -> bool:
    return isinstance(error, AgentMailError) and str(path_of(url).parent) not in error.message


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_a_file_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable) as found:
        async with opened(f"sqlite:///{tmp_path}/none.db"):
            pass
    assert without_secrets(found.value, f"sqlite:///{tmp_path}/none.db")
    assert os.listdir(tmp_path) == []


async def test_an_empty_file_is_not_migrated(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(SchemaTooOld):
        async with opened(f"sqlite:///{tmp_path}/empty.db"):
            pass


@pytest.mark.parametrize("content", [b"not a database at all " * 500, b"SQLite format 3\0" + bytes(8000)])
async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path, content: bytes) -> None:
    url = f"sqlite:///{tmp_path}/wrong.db"
    path_of(url).write_bytes(content)
    with pytest.raises(DatabaseUnavailable) as found:
        async with opened(url):
            pass
    assert without_secrets(found.value, url)


def damage(path: Path, page_size: int = 4096) -> None:
    """Overwrite all pages but the first two, which hold the schema's beginning."""
    content = path.read_bytes()
    path.write_bytes(content[: 2 * page_size] + b"\xff" * (len(content) - 2 * page_size))


async def test_a_damaged_page_is_unavailable_to_those_who_need_it(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        await furnish(store)
    damage(path_of(fresh_sqlite))
    with pytest.raises(DatabaseUnavailable):
        async with opened(fresh_sqlite) as store:
            await store.deliver(outgoing("Ann", ("Bob",)))


async def test_a_removed_file_is_unavailable_and_one_moved_back_is_as_before(fresh_sqlite: str) -> None:
    path = path_of(fresh_sqlite)
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        path.rename(path.with_suffix(".away"))
        for use in (store.deliver(outgoing("Ann", ("Bob",))), store.check(), inbox(store, agents["Bob"])):
            with pytest.raises(DatabaseUnavailable) as found:
                await use
            assert without_secrets(found.value, fresh_sqlite)
        with pytest.raises(DatabaseUnavailable):
            async with store.write():
                pass
        path.with_suffix(".away").rename(path)
        await store.check()
        await store.deliver(outgoing("Ann", ("Bob",)))
        assert await inbox(store, agents["Bob"]) == ["Hello"]


async def test_a_replaced_file_is_unavailable(fresh_sqlite: str) -> None:
    path = path_of(fresh_sqlite)
    async with opened(fresh_sqlite) as store:
        await furnish(store)
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
        with pytest.raises(DatabaseUnavailable, match="replaced"):
            await store.deliver(outgoing("Ann", ("Bob",)))
        with pytest.raises(DatabaseUnavailable, match="replaced"):
            await store.check()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, which heed no mode."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def read_only_copy(database: Path) -> Iterator[str]:
    """The URL of a copy in a place that another user may pass."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "mail.db"
        path.write_bytes(database.read_bytes())
        path.chmod(0o444)
        path.parent.chmod(0o555)
        yield f"sqlite:///{path}"
        path.parent.chmod(0o755)


async def test_a_read_only_directory_is_unavailable(sqlite_template: Path) -> None:
    with read_only_copy(sqlite_template) as url, as_nobody(), pytest.raises(DatabaseUnavailable) as found:
        async with opened(url) as store:
            await store.deliver(outgoing("Ann", ("Bob",)))
    assert without_secrets(found.value, url)


# --- the disk ---------------------------------------------------------------------------------------------------------


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What a full disk is to SQLite: writes fail. Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_unavailable_and_mail_flows_again_when_there_is_room(fresh_sqlite: str) -> None:
    path = path_of(fresh_sqlite)
    log = path.with_name(f"{path.name}-wal")
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        stored: list[str] = []
        for round_number in range(3):
            with no_file_larger_than(max(path.stat().st_size, log.stat().st_size) + 100_000):
                sends = [
                    store.deliver(outgoing("Ann", ("Bob",), f"{round_number}-{n}", body_md=f"{n} " * 3000))
                    for n in range(150)
                ]
                outcomes = await asyncio.gather(*sends, return_exceptions=True)
            refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            assert {type(error) for error in refused} == {DatabaseUnavailable}
            assert all(without_secrets(error, fresh_sqlite) for error in refused)
            stored += [f"{round_number}-{n}" for n, o in enumerate(outcomes) if not isinstance(o, Exception)]
            assert await inbox(store, agents["Bob"]) == stored
            await store.deliver(outgoing("Ann", ("Bob",), "room"))
            stored.append("room")
            assert await inbox(store, agents["Bob"]) == stored
    sound(fresh_sqlite)


# --- locks ------------------------------------------------------------------------------------------------------------


async def test_a_lock_that_another_process_holds_delays_writers_until_their_deadline_and_readers_never(
    fresh_sqlite: str,
) -> None:
    async with opened(fresh_sqlite, database_lock_timeout=0.3) as store:
        agents = await furnish(store)
        with child(HOLD_WRITE_LOCK, str(path_of(fresh_sqlite))) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            started = time.monotonic()
            waiting = [asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), f"m{n}"))) for n in range(5)]
            await asyncio.sleep(0.05)
            assert await inbox(store, agents["Bob"]) == []
            await store.check()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 5
            assert 0.25 < time.monotonic() - started < 1.5
            patient = asyncio.create_task(store.deliver(outgoing("Ann", ("Bob",), "patient")))
            await asyncio.sleep(0.05)
            process.stdin.write("\n")
            process.stdin.flush()
            await patient
        assert await inbox(store, agents["Bob"]) == ["patient"]


async def test_two_stores_on_one_file_take_turns(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as one, opened(fresh_sqlite) as other:
        agents = await furnish(one)
        sends = [store.deliver(outgoing("Ann", ("Bob",))) for _ in range(100) for store in (one, other)]
        await asyncio.gather(*sends)
        assert len(await inbox(other, agents["Bob"])) == 200


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_a_read_that_takes_too_long_is_ended(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite, database_statement_timeout=0.1) as store, store.read() as db:
        assert isinstance(db, SqliteTransaction)
        with pytest.raises(DatabaseUnavailable, match="too long"):
            db._statements.rows(LONG)
        with pytest.raises(DatabaseUnavailable, match="too long"):
            await db._statements.apart(lambda statements: statements.rows(LONG))
        await store.check()


async def test_a_cancelled_read_gives_its_thread_back(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite, database_statement_timeout=60) as store:
        await furnish(store)
        async with store.read() as db:
            assert isinstance(db, SqliteTransaction)
            reads = [
                asyncio.create_task(db._statements.apart(lambda statements: statements.rows(LONG))) for _ in range(20)
            ]
            await asyncio.sleep(0.05)
            for read in reads:
                read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
            async with asyncio.timeout(5):
                wanted = SearchFilter(TEAM, None, None, False, None)
                assert await db.message_search.find(parse("hello"), wanted, 0, 10) == []


async def test_a_read_cannot_change_anything(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        await furnish(store)
        async with store.read() as db:
            assert isinstance(db, SqliteTransaction)
            with pytest.raises(RuntimeError):
                await db.agents.touch({})
            with pytest.raises(DatabaseUnavailable):
                db._statements.rows("DELETE FROM agents")


# --- errors -----------------------------------------------------------------------------------------------------------


def test_every_error_of_the_world_has_a_translation() -> None:
    ours = (
        apsw.ConstraintError,  # faults in this code, which must not look like an outage
        apsw.MismatchError,
        apsw.MisuseError,
        apsw.RangeError,
        apsw.BindingsError,
        apsw.SQLError,
        apsw.TooBigError,
    )
    world = (apsw.BusyError, apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.CorruptError)
    assert all(translate(kind("x")) is None for kind in ours)
    assert all(isinstance(translate(kind("x")), DatabaseUnavailable) for kind in world)
    assert isinstance(translate(apsw.SQLError("no such table: messages")), SchemaTooOld)
