"""Comparing archives with the database, whatever characters agents use and whatever was done to the files."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_mail_core.archive_verifying import verify
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.databases import Database
from tests.contract.office import Office

EVENTS = "events/000/000.jsonl"


@pytest.fixture
async def mail(office: Office, tmp_path: Path) -> AsyncIterator[ArchivedOffice]:
    async with archived(office, tmp_path / "archive") as mail:
        yield mail


async def spoil(mail: ArchivedOffice, database: Database, text: bytes, scratch: Path) -> None:
    """Give the last commit another list of events, recorded as the archive's own."""
    scratch.write_bytes(text)  # noqa: ASYNC240 - the test has nothing else to do
    blob = (await mail.git("hash-object", "-w", str(scratch))).strip()
    await mail.git("read-tree", "main")
    await mail.git("update-index", "--cacheinfo", f"100644,{blob},{EVENTS}")
    tree = (await mail.git("write-tree")).strip()
    message = await mail.git("log", "-1", "--format=%B")
    signed = ("-c", "user.name=Mallory", "-c", "user.email=m@office.invalid")
    commit = (await mail.git(*signed, "commit-tree", tree, "-m", message.strip())).strip()
    await mail.git("update-ref", "refs/heads/main", commit)
    await database.execute(f"UPDATE archives SET head = '{commit}', tree = '{tree}'")


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\u2029b\x0bc\x1cd"])
async def test_what_some_take_for_line_breaks_is_text(mail: ArchivedOffice, text: str) -> None:
    await mail.office.update("Ann", task_description=text)
    await mail.archive()
    await mail.verified()


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[]", b"7", b'{"event_id":"7"}', b"{}", b"", b"[" * 100_000])
async def test_a_line_that_is_no_event_is_a_difference(
    mail: ArchivedOffice, database: Database, tmp_path: Path, line: bytes
) -> None:
    await mail.office.send("Ann", ["Bob"])
    state = await mail.archive()
    good = (await mail.git("show", f"main:{EVENTS}")).encode()
    await spoil(mail, database, good + line + b"\n", tmp_path / "list")
    verdict = await verify(mail.app, await mail.place())
    assert f"{EVENTS}: line {state.archived_events + 1} is no event" in verdict.differences
    assert verdict.events == state.archived_events
