"""The commands below `agent-mail archive`, as processes, beside the office that they look at."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.archives import ArchivedOffice, archived
from tests.contract.databases import Database
from tests.contract.office import Office


@pytest.fixture
async def mail(office: Office, tmp_path: Path) -> AsyncIterator[ArchivedOffice]:
    async with archived(office, tmp_path / "archive") as mail:
        for number in range(3):
            await office.send("Ann", ["Bob"], subject=f"No. {number}")
            await mail.archive()
        yield mail


async def agent_mail(mail: ArchivedOffice, database: Database, *arguments: str) -> tuple[int, str]:
    """Exit status, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from agent_mail_cli.main import main; main()",
        "archive",
        *arguments,
        env={**os.environ, "DATABASE_URL": database.url, "ARCHIVE_ROOT": str(mail.root)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    process._transport.close()  # type: ignore[attr-defined] # or it is closed later, with a warning
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_verify_says_that_all_is_well(mail: ArchivedOffice, database: Database) -> None:
    assert await agent_mail(mail, database, "verify") == (
        0,
        "default/office: ok; 8 events, 3 messages, 0 still to be archived, 0 in the archive alone\n",
    )


async def test_verify_shows_what_differs(mail: ArchivedOffice, database: Database) -> None:
    await database.execute("UPDATE messages SET subject = 'No. 9' WHERE id = 1")
    status, said = await agent_mail(mail, database, "verify", "office", "--json")
    assert status == 1
    [verdict] = json.loads(said)
    assert verdict["project"] == "default/office"
    assert any(text.endswith("__no-9__1.md: missing") for text in verdict["differences"])


async def test_rebuild_makes_what_was_there(mail: ArchivedOffice, database: Database) -> None:
    status, said = await agent_mail(mail, database, "rebuild", "default/office")
    assert (status, said.splitlines()[-1]) == (0, "office: 8 events, as it was")
    await mail.verified()


async def test_log_shows_the_newest_commits(mail: ArchivedOffice, database: Database) -> None:
    status, said = await agent_mail(mail, database, "log", "office", "--limit", "2")
    assert status == 0
    assert [line.partition("  Ann: ")[2] for line in said.splitlines()] == ["Ann: No. 2", "Ann: No. 1"]
    _, said = await agent_mail(mail, database, "log", "office", "--path", "project.json", "--json")
    assert [commit["event_count"] for commit in json.loads(said)] == [6]


@pytest.mark.parametrize("command", ["verify", "rebuild", "log"])
async def test_an_unknown_project_is_said_to_be_unknown(mail: ArchivedOffice, database: Database, command: str) -> None:
    assert await agent_mail(mail, database, command, "nowhere") == (5, "There is no archive of nowhere.\n")
