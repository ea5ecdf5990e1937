"""TLS to PostgreSQL and to Redis: a server is believed when our authority signed for the name that we asked for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from agent_mail_cluster.redis.connection import connect
from agent_mail_core.errors import DatabaseUnavailable, Unavailable
from agent_mail_migrations.runner import migrate
from tests.deploy.certificates import Authority
from tests.deploy.databases import ADDRESS, Database, database_with_roles, platform_postgres, server_folder
from tests.deploy.tls_front import LOOPBACK, Front, tls_front
from tests.e2e.serving import serving
from tests.servers import in_new_loop

ELSEWHERE = "127.9.9.9"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where certificates lie."""
    with server_folder() as made:
        yield made


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """The one that clients are told to trust."""
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    """Another."""
    return Authority(folder, "stranger")


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A database with the two roles, without TLS."""
    with server_folder() as folder, platform_postgres(folder) as url, database_with_roles(url) as made:
        yield made


@contextmanager
def postgres_front(files: tuple[Path, Path]) -> Iterator[Front]:
    """TLS before the database."""
    with tls_front(lambda: asyncio.open_connection(ADDRESS, 5432), *files, asks_first=True) as front:
        yield front


def with_tls(url: str, front: Front, trusted: Path, mode: str = "verify-full") -> str:
    """A DATABASE_URL that goes through the front and says whom to trust."""
    url = url.replace(ADDRESS, f"{LOOPBACK}:{front.port}")
    return url.replace("sslmode=disable", f"sslmode={mode}&sslrootcert={quote(str(trusted))}")


@pytest.mark.postgres
def test_migrating_and_serving_work_with_a_verified_server(database: Database, authority: Authority) -> None:
    with postgres_front(authority.issue("postgres", LOOPBACK)) as front:
        in_new_loop(migrate(with_tls(database.owner, front, authority.file)))
        with serving(with_tls(database.app, front, authority.file)) as server:
            assert server.get("/ready")
        assert len(front.versions) > 2
        assert set(front.versions) == {"TLSv1.3"}


@pytest.mark.postgres
def test_a_server_that_another_authority_vouches_for_is_refused(
    database: Database, authority: Authority, stranger: Authority
) -> None:
    with (
        postgres_front(authority.issue("believed", LOOPBACK)) as front,
        pytest.raises(DatabaseUnavailable, match="certificate verify failed"),
    ):
        in_new_loop(migrate(with_tls(database.owner, front, stranger.file)))


@pytest.mark.postgres
def test_a_certificate_for_another_name_is_refused(database: Database, authority: Authority) -> None:
    with postgres_front(authority.issue("other-postgres", ELSEWHERE)) as front:
        with pytest.raises(DatabaseUnavailable, match="certificate is not valid for"):
            in_new_loop(migrate(with_tls(database.owner, front, authority.file)))
        in_new_loop(migrate(with_tls(database.owner, front, authority.file, mode="verify-ca")))


@pytest.mark.postgres
def test_a_server_without_tls_is_refused(database: Database, authority: Authority) -> None:
    url = database.owner.replace("sslmode=disable", f"sslmode=verify-full&sslrootcert={quote(str(authority.file))}")
    with pytest.raises(DatabaseUnavailable):
        in_new_loop(migrate(url))


# --- Redis ------------------------------------------------------------------------------------------------------------


@contextmanager
def redis_front(url: str, files: tuple[Path, Path]) -> Iterator[str]:
    """TLS before a Redis; the REDIS_URL that still lacks whom to trust."""
    parts = urlsplit(url)
    with tls_front(lambda: asyncio.open_connection(parts.hostname, parts.port), *files) as front:
        yield f"rediss://:{parts.password}@{LOOPBACK}:{front.port}/0"


async def answers(url: str) -> bool:
    """Whether a worker of ours gets through."""
    connection = connect(url)
    try:
        await connection.open()
        await connection.check()
    except Unavailable:
        return False
    finally:
        await connection.close()
    return True


async def test_redis_is_believed_by_its_certificate(valkey_url: str, authority: Authority, stranger: Authority) -> None:
    with redis_front(valkey_url, authority.issue("redis", LOOPBACK)) as url:
        assert await answers(f"{url}?ssl_ca_certs={quote(str(authority.file))}")
        assert not await answers(f"{url}?ssl_ca_certs={quote(str(stranger.file))}")
        assert not await answers(url), "the system's authorities do not know it"
        assert not await answers(url.replace("rediss://", "redis://")), "without TLS"


async def test_redis_under_another_name_is_refused(valkey_url: str, authority: Authority) -> None:
    with redis_front(valkey_url, authority.issue("other-redis", ELSEWHERE)) as url:
        trusting = f"{url}?ssl_ca_certs={quote(str(authority.file))}"
        assert not await answers(trusting)
        assert await answers(f"{trusting}&ssl_check_hostname=false"), "unless the URL says not to look"
