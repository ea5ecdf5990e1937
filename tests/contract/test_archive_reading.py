from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core.archive_errors import ArchiveCommitNotFound, ArchivePathNotFound, ArchiveUnavailable
from agent_mail_core.archive_reading import (
    ArchiveCommits,
    ArchiveLog,
    ArchiveShow,
    ArchiveView,
    archive_log,
    archive_show,
)
from agent_mail_core.errors import InvalidCursor, ProjectNotFound
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.databases import Database
from tests.contract.office import Office, pages

Show = Callable[..., Awaitable[ArchiveView]]


@pytest.fixture
async def mail(office: Office, tmp_path: Path) -> AsyncIterator[ArchivedOffice]:
    async with archived(office, tmp_path / "archive") as mail:
        yield mail


async def log(mail: ArchivedOffice, **more: Any) -> ArchiveCommits:
    return await archive_log(mail.app, mail.office.caller, ArchiveLog(project_slug=mail.office.slug, **more))


async def show(mail: ArchivedOffice, **more: Any) -> ArchiveView:
    return await archive_show(mail.app, mail.office.caller, ArchiveShow(project_slug=mail.office.slug, **more))


async def three_commits(mail: ArchivedOffice) -> None:
    """The agents; then FEAT-1 from Ann; then FEAT-2 from Bob."""
    await mail.archive()
    await mail.office.send("Ann", ["Bob"], subject="One", thread_id="FEAT-1")
    await mail.archive()
    await mail.office.send("Bob", ["Ann"], subject="Two", thread_id="FEAT-2")
    await mail.archive()


async def test_the_log_is_newest_first(mail: ArchivedOffice) -> None:
    await three_commits(mail)
    found = await log(mail)
    assert [(commit.author, commit.subject) for commit in found.commits[:2]] == [
        ("Bob", "Bob: Two"),
        ("Ann", "Ann: One"),
    ]
    assert [commit.event_count for commit in found.commits] == [1, 1, 5]
    assert found.next_cursor is None


async def test_the_log_is_paged(mail: ArchivedOffice) -> None:
    await three_commits(mail)

    async def ask(cursor: str | None) -> ArchiveCommits:
        return await log(mail, limit=1, cursor=cursor)

    subjects = [commit.subject async for page in pages(ask) for commit in page.commits]
    assert subjects == [commit.subject for commit in (await log(mail)).commits]
    with pytest.raises(InvalidCursor):
        await log(mail, limit=1, path="messages", cursor=(await log(mail, limit=1)).next_cursor)


async def test_the_log_of_a_path_and_up_to_a_time(mail: ArchivedOffice, database: Database) -> None:
    await three_commits(mail)
    assert [commit.subject for commit in (await log(mail, path="threads/FEAT-1.md")).commits] == ["Ann: One"]
    assert [commit.subject for commit in (await log(mail, path="agents/bob/outbox")).commits] == ["Bob: Two"]
    newest = (await log(mail)).commits[0]
    assert len((await log(mail, until=newest.committed_at)).commits) == 3
    assert (await log(mail, until=newest.committed_at - timedelta(hours=1))).commits == []


async def test_files_and_folders_as_of_a_commit(mail: ArchivedOffice) -> None:
    await three_commits(mail)
    newest, before, first = [commit.commit for commit in (await log(mail)).commits]
    found = await show(mail, path="threads/feat-1.md", commit=before[:10])
    assert (found.kind, found.commit) == ("file", before)
    assert found.text is not None
    assert "Ann to Bob: [One]" in found.text
    folder = await show(mail, path="agents/", commit=newest)
    assert [entry.name for entry in folder.entries or ()] == ["ann", "bob", "cid", "dot"]
    with pytest.raises(ArchivePathNotFound):
        await show(mail, path="threads/feat-1.md", commit=first)
    with pytest.raises(ArchiveCommitNotFound):
        await show(mail, commit="0123456789")


async def test_a_link_shows_its_message(mail: ArchivedOffice) -> None:
    await three_commits(mail)
    message = ((await show(mail, inbox_of="bob")).messages or [])[0]
    link = message.path.replace("messages/", "agents/bob/inbox/")
    found = await show(mail, path=link)
    assert found.path == message.path
    assert found.text is not None
    assert found.text.endswith("How are you?\n")


async def test_as_of_a_time(mail: ArchivedOffice) -> None:
    await three_commits(mail)
    newest = (await log(mail)).commits[0]
    assert (await show(mail, at=newest.committed_at)).commit == newest.commit
    with pytest.raises(ArchiveCommitNotFound):
        await show(mail, at=newest.committed_at - timedelta(hours=1))


async def test_an_inbox_as_of_a_time_is_exact_whatever_the_commits_hold(mail: ArchivedOffice) -> None:
    sent = [await mail.office.send("Ann", ["Bob"], subject=f"No. {number}") for number in range(5)]
    await mail.office.send("Ann", ["Cid"], bcc=["Bob"], subject="Hidden")
    await mail.office.acknowledge("Bob", sent[0].message_id)
    await mail.archive()
    now = await show(mail, inbox_of="Bob")
    assert [message.subject for message in now.messages or ()] == ["No. 4", "No. 3", "No. 2", "No. 1", "No. 0"]
    assert (now.messages or [])[-1].acknowledged_at is not None
    then = await show(mail, inbox_of="Bob", at=sent[2].created_at)
    assert [message.message_id for message in then.messages or ()] == [one.message_id for one in reversed(sent[:3])]
    assert (then.messages or [])[-1].read_at is None


async def test_inboxes_and_folders_are_paged(mail: ArchivedOffice) -> None:
    for number in range(7):
        await mail.office.send("Ann", ["Bob"], subject=f"No. {number}")
    await mail.archive()

    async def inbox(cursor: str | None) -> ArchiveView:
        return await show(mail, inbox_of="Bob", limit=3, cursor=cursor)

    async def folder(cursor: str | None) -> ArchiveView:
        return await show(mail, path="agents", limit=3, cursor=cursor)

    subjects = [message.subject async for page in pages(inbox) for message in page.messages or ()]
    assert subjects == [f"No. {number}" for number in reversed(range(7))]
    assert [entry.name async for page in pages(folder) for entry in page.entries or ()] == ["ann", "bob", "cid", "dot"]


async def test_an_archive_that_is_still_empty_is_no_error(mail: ArchivedOffice) -> None:
    assert (await log(mail)).commits == []
    assert (await show(mail)).entries == []
    assert (await show(mail, inbox_of="Bob")).messages == []
    with pytest.raises(ArchivePathNotFound):
        await show(mail, path="messages")


async def test_who_keeps_no_archive_says_so(office: Office) -> None:
    with pytest.raises(ArchiveUnavailable):
        await archive_log(office.app, office.caller, ArchiveLog(project_slug="office"))


async def test_a_foreign_teams_archive_is_unknown(mail: ArchivedOffice, database: Database) -> None:
    await mail.archive()
    stranger = mail.office.of("somebody", team_id=await database.add_team("others"))
    with pytest.raises(ProjectNotFound):
        await archive_log(mail.app, stranger.caller, ArchiveLog(project_slug="office"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "../etc"},
        {"path": "a//b"},
        {"path": "a", "inbox_of": "Bob"},
        {"commit": "abcdef1", "at": "2026-11-22T12:00:00Z"},
        {"commit": "main"},
        {"commit": "abcdef1^{tree}"},
    ],
)
def test_what_cannot_be_shown_is_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ArchiveShow.model_validate({"project_slug": "office", **arguments})
