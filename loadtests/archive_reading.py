"""Reading archives back with git itself, and what the database and `agent-mail archive verify` say of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import orjson

from loadtests.archive_verdict import Archived
from loadtests.cluster import Cluster
from loadtests.disks import Disk
from tests.e2e.serving import agent_mail, clean_environment
from tests.servers import query

TIMEOUT = 120.0
_COUNT = re.compile(r"^Agent-Mail-Count: (\d+) of (\d+)$", re.MULTILINE)
_FRONT = re.compile(r"^main:(messages/.*\.md):(message_id|subject): (.*)$")


class Unreadable(Exception):
    """A program that was to read failed; says what it wrote."""


async def read_archive(disk: Disk, repository: Path) -> Archived:
    """All that git shows of one on a disk. Of a repository that git cannot read, only that."""
    git = partial(_git, disk, repository)
    faults = await git("fsck", "--strict", "--no-dangling", may_fail=True)
    try:
        lists = await git("grep", "-h", "", "main", "--", "events")
        changes = await git("log", "--reverse", "-p", "-U0", "--format=", "main", "--", "events")
        texts = await git("log", "--reverse", "--format=%B%x00", "main")
        heads = await git("grep", "-E", "^(message_id|subject): ", "main", "--", "messages", may_fail=True)
    except Unreadable as error:
        return Archived(faults=faults or str(error))
    return Archived(
        events=[_event_id(line) for line in lists.splitlines()],
        added=[_event_id(line[1:]) for line in changes.splitlines() if line.startswith("+{")],
        removed=[_event_id(line[1:]) for line in changes.splitlines() if line.startswith("-{")],
        counts=[(int(found[1]), int(found[2])) for found in _COUNT.finditer(texts)],
        subjects=_subjects(heads),
        faults=faults,
    )


def _event_id(line: str) -> int:
    event_id: int = orjson.loads(line)["event_id"]
    return event_id


def _subjects(heads: str) -> dict[int, str]:
    """By message id, from lines of the front matter; what is in the body comes later in the file, and says nothing."""
    front: dict[str, dict[str, str]] = {}
    for line in heads.splitlines():
        if (found := _FRONT.match(line)) is not None:
            front.setdefault(found[1], {}).setdefault(found[2], found[3])
    return {int(fields["message_id"]): orjson.loads(fields["subject"]) for fields in front.values()}


async def _git(disk: Disk, repository: Path, *arguments: str, may_fail: bool = False) -> str:
    """What git writes, with its errors; Unreadable when it fails, unless it `may_fail`."""
    return await run(*disk.entering, "git", "-C", str(repository), *arguments, may_fail=may_fail)


async def run(*command: str, settings: dict[str, str] | None = None, may_fail: bool = False) -> str:
    """What a program writes, on both outputs."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=clean_environment(Path("/nonexistent"), settings or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0 and not may_fail:
        raise Unreadable(f"{command} ended with {process.returncode}: {output[-1000:].decode(errors='replace')}")
    return output.decode(errors="replace")


async def verified(cluster: Cluster, disk: Disk) -> dict[str, list[str]]:
    """The differences that `agent-mail archive verify` finds on a disk, by slug."""
    settings = {"DATABASE_URL": cluster.database_url, "ARCHIVE_ROOT": str(disk.folder)}
    command = [*disk.entering, *agent_mail("archive", "verify", "--json")]
    rows = orjson.loads(await run(*command, settings=settings, may_fail=True))
    pending = "{not_yet} events are still to be archived"
    return {
        row["project"].partition("/")[2]: row["differences"] + ([pending.format(**row)] if row["not_yet"] else [])
        for row in rows
    }


def repositories(disk: Disk, slug: str = "*") -> list[Path]:
    """Where the archives of a project lie on a disk, or of all, as those see it who enter."""
    return sorted(disk.folder / found.relative_to(disk.seen) for found in disk.seen.glob(f"*/{slug}-[0-9]*.git"))


def stored_events(cluster: Cluster, slug: str) -> list[int]:
    """The ids of all events of a project."""
    rows = query(
        cluster.database_url,
        "SELECT e.id FROM events e JOIN projects p ON p.id = e.project_id WHERE p.slug = $1 ORDER BY e.id",
        slug,
    )
    return [row[0] for row in rows]


def behind(cluster: Cluster, slugs: Sequence[str], is_pushed: bool) -> list[str]:
    """Projects that have events which are not in their archives, or not in the remote; and whose jobs are not done."""
    rows = query(
        cluster.database_url,
        """
        SELECT p.slug FROM projects p LEFT JOIN archives a ON a.project_id = p.id
        WHERE p.slug = ANY ($1::text[]) AND (
            a.head IS NULL OR $2 AND a.pushed_head IS DISTINCT FROM a.head
            OR EXISTS (SELECT FROM jobs j WHERE j.kind = 'archive' AND j.subject_id = p.id)
            OR EXISTS (SELECT FROM outbox o JOIN events e ON e.id = o.event_id
                       WHERE o.topic = 'archive' AND e.project_id = p.id)
        )
        ORDER BY p.slug
        """,
        list(slugs),
        is_pushed,
    )
    return [row[0] for row in rows]


def dead_jobs(cluster: Cluster) -> list[str]:
    """Jobs that were given up, each with its last error."""
    rows = query(cluster.database_url, "SELECT kind, subject_id, last_error FROM jobs WHERE state = 'dead'")
    return [f"{kind} {subject_id}: {error}" for kind, subject_id, error in rows]
