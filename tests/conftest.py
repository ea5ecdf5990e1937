"""Fixtures that every kind of test shares: the servers, and a migrated database of one's own.

They take TEST_POSTGRES_URL and TEST_REDIS_URL, else start a server of their own (tests/servers.py). A missing server is
a failure, never a skip. All of them are plain functions: they also work inside async fixtures, by `getfixturevalue`.
"""

import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from tests.servers import in_new_loop, query, running_postgres, running_valkey, with_database

hypothesis.settings.register_profile("agent-mail", deadline=None, print_blob=True)
hypothesis.settings.load_profile("agent-mail")


def pytest_configure() -> None:
    """Ending the run politely (as a time limit does) stops the servers too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the users of a server. A parameter that chooses a backend by name carries its mark itself."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        for server in ("postgres", "valkey"):
            if any(server in name for name in names):
                item.add_marker(server)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests and fixtures run on asyncio's own loop; the end-to-end tests run the server on uvloop."""
    return "asyncio"


def leftover_connections(url: str, database: str, patience: float = 5.0) -> list[str]:
    """Who is still connected to a database; PostgreSQL notices a closed connection a moment later, so ask again."""
    deadline = time.monotonic() + patience
    while True:
        rows = query(
            url,
            "SELECT concat_ws(' | ', pid, application_name, state, left(query, 200)) FROM pg_stat_activity"
            " WHERE datname = $1 AND backend_type = 'client backend'",
            database,
        )
        if not rows or time.monotonic() > deadline:
            return [row[0] for row in rows]
        time.sleep(0.02)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: the URL of an administrator who may create databases there."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        query(given, "SELECT 1")
        yield given
        return
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of a database that has been migrated and takes no connections; it is there to be cloned."""
    from agent_mail_migrations.runner import migrate

    name = f"agent_mail_template_{secrets.token_hex(6)}"
    query(postgres_url, f'CREATE DATABASE "{name}"')
    try:
        in_new_loop(migrate(with_database(postgres_url, name)))
        assert leftover_connections(postgres_url, name) == [], "migrate() left connections open"
        query(postgres_url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        yield name
    finally:
        query(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def fresh_postgres(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """The URL of a migrated, empty PostgreSQL database of one's own; its connections must be closed by the end."""
    name = f"agent_mail_test_{secrets.token_hex(6)}"
    query(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')
    try:
        yield with_database(postgres_url, name)
        assert leftover_connections(postgres_url, name) == [], "the test left connections open"
    finally:
        query(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file; it is there to be copied."""
    from agent_mail_migrations.runner import migrate

    path = tmp_path_factory.mktemp("sqlite-template") / "mail.db"
    in_new_loop(migrate(f"sqlite:///{path}"))
    assert path.exists(), "migrate() made no file where the URL says"
    assert not list(path.parent.glob("*-wal")), "migrate() left its connection open"
    return path


@pytest.fixture
def fresh_sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated, empty SQLite file of one's own; it must be closed by the end."""
    path = tmp_path / "mail.db"
    shutil.copyfile(sqlite_template, path)
    yield f"sqlite:///{path}"
    assert open_files(tmp_path) == [], "the test left the database open"


def open_files(folder: Path) -> list[str]:
    """The files below a folder that this process holds open; none where the system does not tell (no /proc)."""
    listed = Path("/proc/self/fd")
    links = [os.readlink(entry) for entry in listed.iterdir() if entry.is_symlink()] if listed.exists() else []
    return [link for link in links if link.startswith(f"{folder}{os.sep}")]


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey or Redis server; the database of the URL is empty at first and may be flushed."""
    given = os.environ.get("TEST_REDIS_URL")
    if not given:
        with running_valkey() as url:
            yield url
        return
    with redis.Redis.from_url(given) as client:
        assert client.dbsize() == 0, (
            "TEST_REDIS_URL names a database that holds keys; tests flush it, so it must be empty"
        )
    yield given
