"""`agent-mail doctor`: does everything that the settings name answer, and is there room for it?

Each check is a line; the worst one decides the exit status: 0 all is well or worth a warning, 10 something is away.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import structlog

from agent_mail_core import database_urls
from agent_mail_core.errors import AgentMailError
from agent_mail_core.settings import Settings
from agent_mail_core.settings_errors import SettingsError

CHECK_TIMEOUT = 10.0
CLOCK_TOLERANCE = 1.0
"""Seconds; the windows of rate limits are reckoned by the servers' clocks."""

LEAST_FREE_BYTES = 512 * 1024 * 1024
FULL_PART = 0.9
"""Of the connections that a database allows; more leaves nothing for a rolling restart."""

GIT_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    status: Status
    detail: str


async def examine(settings: Settings) -> list[Finding]:
    """Every check that the settings call for, in turn; none is left out because another failed.

    Nothing is logged: each fault is a line of the answer.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    url = settings.database_url.get_secret_value()
    checks: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = []
    if database_urls.engine(url) == "sqlite":
        checks += [("schema", lambda: _schema(settings)), ("disk", lambda: asyncio.to_thread(_disk, url))]
    else:
        checks += [("database", lambda: _postgres(settings, url)), ("schema", lambda: _schema(settings))]
    if settings.redis_url is not None:
        checks.append(("redis", lambda: _redis(settings.redis_url.get_secret_value() if settings.redis_url else "")))
    checks.append(("archive", lambda: asyncio.to_thread(_archive, settings)))
    if settings.archive_remote is not None:
        remote = settings.archive_remote.get_secret_value()
        checks.append(("archive remote", lambda: _archive_remote(remote)))
    if settings.embeddings != "off":
        checks.append(("embeddings", lambda: _embeddings(settings, url)))
    findings = []
    for name, check in checks:
        findings += await _guarded(name, check)
    return findings


async def _guarded(name: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            return await check()
    except AgentMailError as error:
        return [Finding(name, "failed", error.message)]
    except SettingsError as error:
        return [Finding(name, "failed", str(error))]
    except TimeoutError:
        return [Finding(name, "failed", "no answer in time")]
    except OSError as error:
        return [Finding(name, "failed", f"{error.strerror or error}")]


async def _schema(settings: Settings) -> list[Finding]:
    from agent_mail_core.clock import SystemClock
    from agent_mail_store.opening import open_store

    store = await open_store(settings, SystemClock(), single_server=False)
    try:
        await store.check()
    finally:
        await store.close()
    return [Finding("schema", "ok", f"{store.engine}: the database answers, and its schema serves this version")]


def _disk(url: str) -> list[Finding]:
    folder = next(path for path in database_urls.sqlite_path(url).absolute().parents if path.exists())
    return [_room("disk", folder, "where the database is")]


def _room(name: str, folder: Path, where: str) -> Finding:
    free = shutil.disk_usage(folder).free
    status: Status = "ok" if free >= LEAST_FREE_BYTES else "failed"
    return Finding(name, status, f"{free // (1024 * 1024)} MiB free {where}")


def _archive(settings: Settings) -> list[Finding]:
    """Can it be written? In a cluster that matters where job workers run, and only there."""
    root = Path(settings.archive_root).absolute()
    folder = next(path for path in (root, *root.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fault = f"ARCHIVE_ROOT: {folder} cannot be written: {error.strerror}"
        if settings.redis_url is not None:
            return [Finding("archive", "warning", f"{fault}; job workers have to, servers need not")]
        return [Finding("archive", "failed", fault)]
    return [_room("archive", folder, "where the archive is, and it can be written")]


async def _embeddings(settings: Settings, url: str) -> list[Finding]:
    """Does the model answer, and can the database compare vectors?"""
    from agent_mail_core.embeddings import TextRefused
    from agent_mail_embeddings.opening import open_query_vectors

    findings = []
    async with open_query_vectors(settings) as queries:
        assert queries is not None
        began = time.time()
        with suppress(TextRefused):  # an answer, too
            await queries.embedder.embed(["hello"])
        passed = time.time() - began
        detail = f"{queries.embedder.model}, {queries.embedder.dimensions} dimensions, an answer takes"
        findings.append(Finding("embeddings", "ok", f"{detail} {passed * 1000:.1f} ms"))
    if database_urls.engine(url) == "sqlite":
        from agent_mail_store.sqlite.connections import has_vectors

        told = "sqlite-vec is loaded" if has_vectors() else "sqlite-vec cannot be loaded: searches are by words alone"
        findings.append(Finding("vectors", "ok" if has_vectors() else "failed", told))
    return findings


async def _archive_remote(url: str) -> list[Finding]:
    """Does it answer? Whether it takes what is pushed, the job says. Nothing of a URL but its host is shown."""
    parts = urlsplit(url)
    short = re.match(r"(?:[^/@]*@)?([^/:]+):", url)  # host:path, by ssh
    if parts.scheme in GIT_PORTS:
        host, port = parts.hostname or "", parts.port or GIT_PORTS[parts.scheme]
    elif short is not None and parts.scheme != "file":
        host, port = short[1], GIT_PORTS["ssh"]
    else:
        is_there = await asyncio.to_thread(Path(url.removeprefix("file://")).is_dir)
        told = "the folder is there" if is_there else "ARCHIVE_REMOTE: there is no such folder yet: it will be made"
        return [Finding("archive remote", "ok" if is_there else "warning", told)]
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return [Finding("archive remote", "failed", f"ARCHIVE_REMOTE: {host}: {error.strerror or error}")]
    writer.close()
    return [Finding("archive remote", "ok", f"{host} takes connections")]


async def _postgres(settings: Settings, url: str) -> list[Finding]:
    import asyncpg

    from agent_mail_store.postgres import session_settings

    try:
        connection = await asyncpg.connect(
            url,
            timeout=CHECK_TIMEOUT,
            statement_cache_size=0,
            server_settings=session_settings.asked_for(settings),
        )
    except asyncpg.ProtocolViolationError as error:  # how poolers refuse
        hint = "" if session_settings.is_pooled(settings) else " (behind PgBouncer set DATABASE_STATEMENT_CACHE=0)"
        return [Finding("database", "failed", f"{error}{hint}")]
    except (asyncpg.PostgresError, ValueError) as error:
        return [Finding("database", "failed", f"{type(error).__name__}: {error}")]
    try:
        began = time.time()
        row = await connection.fetchrow(
            """
            SELECT current_setting('server_version') AS version, clock_timestamp() AS now,
                   current_setting('max_connections')::int AS most,
                   current_setting('superuser_reserved_connections')::int AS reserved,
                   (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS taken,
                   pg_is_in_recovery() AS is_replica, current_setting('synchronous_commit') AS synchronous
            """
        )
        passed = time.time() - began
        in_force = await connection.fetch(session_settings.IN_FORCE, list(session_settings.wanted(settings)))
    finally:
        await connection.close(timeout=CHECK_TIMEOUT)
    assert row is not None
    findings = [Finding("database", "ok", f"PostgreSQL {row['version']}, an answer takes {passed * 1000:.1f} ms")]
    if row["is_replica"]:
        findings = [Finding("database", "failed", "this PostgreSQL is a replica, and takes no writes")]
    findings.append(_clock("database clock", row["now"].timestamp(), began, passed))
    complaint = session_settings.complaint(settings, ((row["name"], row["setting"]) for row in in_force))
    findings.append(Finding("settings", "failed" if complaint else "ok", complaint or "in force on connections"))
    usable = row["most"] - row["reserved"]
    if session_settings.is_pooled(settings):
        findings.append(_pooled_budget(settings, usable))
    else:
        findings.append(_budget(settings, usable, row["taken"]))
    return findings


def _connections(settings: Settings) -> int:
    """How many this server may open."""
    alone = 1 if settings.redis_url is None else 0  # the lock of the only server
    return settings.workers * settings.database_pool_size + alone


def _pooled_budget(settings: Settings, usable: int) -> Finding:
    """What the pooler must allow. It tells its own limits to its administrators only."""
    detail = (
        f"WORKERS {settings.workers} × DATABASE_POOL_SIZE {settings.database_pool_size} = {_connections(settings)}"
        f" connections a server to the pooler: its max_client_conn must suffice for all servers,"
        f" and its default_pool_size be at most the {usable} that the database allows"
    )
    return Finding("connections", "ok", detail)


def _budget(settings: Settings, usable: int, taken: int) -> Finding:
    """How many connections this server may open, and how many such servers the database has room for."""
    own = _connections(settings)
    fits = int(usable * FULL_PART) // own
    detail = (
        f"WORKERS {settings.workers} × DATABASE_POOL_SIZE {settings.database_pool_size} = {own} connections a server"
        f" of {usable} that the database allows ({taken} taken now): room for {fits} such servers"
    )
    if fits == 0:
        return Finding("connections", "failed", detail)
    # One more worker lives while workers are replaced one by one.
    return Finding("connections", "ok" if fits > 1 else "warning", detail)


async def _redis(url: str) -> list[Finding]:
    from agent_mail_cluster.redis.connection import connect

    try:
        connection = connect(url)
    except ValueError as error:
        return [Finding("redis", "failed", f"REDIS_URL: {error}")]
    await connection.open()
    try:
        began = time.time()
        seconds, microseconds = await connection.call("TIME")
        passed = time.time() - began
        found = [Finding("redis", "ok", f"an answer takes {passed * 1000:.1f} ms")]
        found.append(_clock("redis clock", int(seconds) + int(microseconds) / 1e6, began, passed))
        return found
    finally:
        await connection.close()


def _clock(name: str, theirs: float, began: float, passed: float) -> Finding:
    off = max(0.0, abs(theirs - began - passed / 2) - passed / 2)
    at = datetime.fromtimestamp(theirs, UTC).isoformat(timespec="seconds")
    status: Status = "ok" if off <= CLOCK_TOLERANCE else "warning"
    return Finding(name, status, f"{at}, {off:.3f} s from this machine's")


def worst(findings: list[Finding]) -> Status:
    """The status that decides."""
    order: tuple[Status, ...] = ("failed", "warning", "ok")
    return next(status for status in order if status == "ok" or any(f.status == status for f in findings))


def as_rows(findings: list[Finding]) -> list[dict[str, str]]:
    """For JSON."""
    return [asdict(finding) for finding in findings]
