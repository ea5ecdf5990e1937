from __future__ import annotations

import base64
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent_mail_archive.repacking import MOST_PACKS
from agent_mail_core.archive import ArchiveBatch, ArchivePlace, ArchiveTip
from agent_mail_core.archive_errors import ArchiveMoved, ArchiveUnavailable
from agent_mail_core.archive_names import message_path
from agent_mail_core.archive_verifying import verify
from agent_mail_core.archiving import archive_project, next_batch, rebuild
from agent_mail_core.ids import MessageId
from agent_mail_core.jobs import LeaseLost
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.office import Office


@pytest.fixture
async def mail(office: Office, tmp_path: Path) -> AsyncIterator[ArchivedOffice]:
    async with archived(office, tmp_path / "archive") as mail:
        yield mail


async def a_busy_day(office: Office) -> list[int]:
    """Something of everything; the ids of its messages."""
    sent = [await office.send("Ann", ["Bob", "Cid"], subject=f"No. {number}") for number in range(5)]
    sent.append(await office.reply("Bob", sent[0].message_id, body_md="Ünïcode: 漢字"))
    await office.mark_read("Bob", sent[1].message_id)
    await office.acknowledge("Cid", sent[0].message_id)
    await office.call("reserve_file", project_slug="office", agent_name="Ann", paths=["src/**"])
    await office.call("release_file", project_slug="office", agent_name="Ann")
    await office.call("acquire_build_slot", project_slug="office", agent_name="Bob", slot_name="main")
    await office.call("add_contact", project_slug="office", agent_name="Ann", contact_name="Dot")
    return [message.message_id for message in sent]


# --- what is in it ----------------------------------------------------------------------------------------------------


async def test_an_archive_says_what_the_database_says(mail: ArchivedOffice) -> None:
    ids = await a_busy_day(mail.office)
    state = await mail.archive()
    verdict = await mail.verified()
    assert (verdict.messages, verdict.not_yet, verdict.archive_alone) == (len(ids), 0, 0)
    assert verdict.events == state.archived_events
    assert (await mail.git("rev-parse", "main")).strip() == state.head


async def test_git_shows_log_and_files(mail: ArchivedOffice, tmp_path: Path) -> None:
    sent = await mail.office.send("Ann", ["Bob"], subject="Build broken", body="grep me")
    await mail.archive()
    assert "Co-authored-by: Ann" in await mail.git("log", "--format=%B")
    path = message_path(MessageId(sent.message_id), "Build broken", sent.created_at)
    assert (await mail.git("show", f"main:{path}")).endswith("---\ngrep me\n")
    assert (await mail.git("grep", "-l", "grep me", "main")).strip() == f"main:{path}"
    await mail.git("clone", "-q", str(await mail.path()), str(tmp_path / "clone"))
    [link] = (tmp_path / "clone" / "agents" / "bob" / "inbox").rglob("*.md")
    assert link.read_text().endswith("grep me\n")


async def test_a_project_that_never_rests_lets_go_of_its_worker(
    mail: ArchivedOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written during a run is for the next one."""
    archive = mail.app.archive
    assert archive is not None
    commit = archive.commit

    async def commit_while_mail_comes(place: ArchivePlace, parent: str | None, batch: ArchiveBatch) -> ArchiveTip:
        await mail.office.send("Bob", ["Ann"], subject="One more")
        return await commit(place, parent, batch)

    monkeypatch.setattr(archive, "commit", commit_while_mail_comes)
    await mail.office.send("Ann", ["Bob"])
    job = await mail.job()
    assert await archive_project(mail.app, job) is None
    assert (await mail.git("rev-list", "--count", "main")).strip() == "1"
    monkeypatch.undo()
    async with mail.app.store.write() as db:
        await db.jobs.finish(job)
    await mail.archive()
    assert (await mail.verified()).not_yet == 0


async def test_nothing_new_makes_no_commit(mail: ArchivedOffice) -> None:
    await mail.office.send("Ann", ["Bob"])
    first = await mail.archive()
    assert await mail.archive() == first


async def test_archived_events_leave_the_outbox(mail: ArchivedOffice, database: Database) -> None:
    await a_busy_day(mail.office)
    await mail.office.ensure("elsewhere")
    await mail.archive()
    waiting = [event for event in await database.events() if event.outbox_topics]
    assert [(event.kind, event.data["slug"]) for event in waiting] == [("project.created", "elsewhere")]
    async with mail.app.store.read() as db:
        assert await db.archives.behind(10) == [waiting[0].project_id]


async def test_a_bcc_leaves_no_trace(mail: ArchivedOffice) -> None:
    begin = await mail.archive()
    sent = await mail.office.send("Ann", ["Bob"], bcc=["Dot"], subject="Secret")
    await mail.office.mark_read("Dot", sent.message_id)
    await mail.office.acknowledge("Dot", sent.message_id)
    await mail.archive()
    await mail.verified()
    assert not [path for path in await mail.files() if "dot" in path.lower() and "profile" not in path]
    told = await mail.git("log", "--patch", "--unified=0", f"{begin.head}..main")
    assert "Secret" in told
    assert "dot" not in told.lower()


async def test_attachments_are_archived_as_they_are(mail: ArchivedOffice, database: Database) -> None:
    content = bytes(range(256)) * 40
    file = await mail.office.call(
        "add_attachment",
        project_slug="office",
        agent_name="Ann",
        file_name="dump.bin",
        content_base64=base64.b64encode(content).decode(),
    )
    sent = await mail.office.send("Ann", ["Bob"])
    async with mail.app.store.write() as db:
        _, ann = await db.agents.find(mail.office.caller.team_id, "office", "Ann")
        assert ann is not None
        [record] = await db.attachments.linkable(ann.id, [file.attachment_id])
        await db.attachments.link(MessageId(sent.message_id), [record.id])
    await mail.archive()
    await mail.verified()
    path = next(path for path in await mail.files() if path.startswith("attachments/"))
    assert path == f"attachments/{file.sha256[:2]}/{file.sha256}"
    assert mail.app.archive is not None
    assert await mail.app.archive.read(await mail.place(), [path]) == [content]


async def test_large_backlogs_make_several_commits(mail: ArchivedOffice) -> None:
    for number in range(30):
        await mail.office.send("Ann", ["Bob"], subject=f"No. {number}", body="x" * 250_000 if number % 2 else "x")
    await mail.office.mark_read("Bob", *range(1, 31))
    await mail.archive()
    await mail.verified()
    counts = [int(line) for line in re.findall(r"Agent-Mail-Count: (\d+)", await mail.git("log"))]
    assert sum(counts) == 30 + 30 + 5  # sent, read, a project and its agents
    assert all(count <= 500 for count in counts)


# --- the same events, the same trees ----------------------------------------------------------------------------------


async def test_a_rebuilt_archive_has_the_same_tree(mail: ArchivedOffice) -> None:
    for _ in range(4):
        await a_busy_day_again(mail)
    before = await mail.state()
    assert before is not None
    rebuilt = await rebuild(mail.app, await mail.place())
    after = await mail.state()
    assert after is not None
    assert (rebuilt.is_same, rebuilt.archived_events) == (True, before.archived_events)
    assert (after.tree, after.position) == (before.tree, before.position)
    assert after.head != before.head  # the events were cut into other commits
    await mail.office.send("Ann", ["Bob"], subject="Goes on")
    await mail.archive()
    await mail.verified()


async def a_busy_day_again(mail: ArchivedOffice) -> None:
    sent = await mail.office.send("Ann", ["Bob"], thread_id="FEAT-1")
    await mail.archive()
    await mail.office.mark_read("Bob", sent.message_id)
    await mail.office.send("Bob", ["Ann"], thread_id="feat-1")


async def test_a_rebuild_while_the_job_goes_on_loses_nothing(mail: ArchivedOffice) -> None:
    await a_busy_day(mail.office)
    await mail.archive()
    await rebuild(mail.app, await mail.place())
    await mail.office.send("Ann", ["Bob"])
    await mail.archive()
    await rebuild(mail.app, await mail.place())
    await mail.verified()


# --- crashes and lost disks -------------------------------------------------------------------------------------------


async def test_a_commit_that_was_not_recorded_is_accepted(mail: ArchivedOffice, database: Database) -> None:
    await mail.office.send("Ann", ["Bob"])
    before = await mail.archive()
    await mail.office.send("Bob", ["Ann"])
    after = await mail.archive()
    await database.execute(
        f"UPDATE archives SET head = '{before.head}', tree = '{before.tree}',"  # as if the worker had died there
        f" position_xact = {before.position.transaction}, position_id = {before.position.event_id},"
        f" archived_events = {before.archived_events}"
    )
    assert await mail.archive() == after
    await mail.verified()


async def test_a_first_commit_that_was_not_recorded_is_accepted(mail: ArchivedOffice, database: Database) -> None:
    await a_busy_day(mail.office)
    state = await mail.archive()
    await database.execute("DELETE FROM archives")
    assert await mail.archive() == state


async def test_a_lost_disk_is_made_good_from_the_events(mail: ArchivedOffice) -> None:
    await a_busy_day(mail.office)
    before = await mail.archive()
    shutil.rmtree(mail.root)
    await mail.office.send("Ann", ["Bob"])
    after = await mail.archive()
    assert after.archived_events == before.archived_events + 1
    await mail.verified()


async def test_another_machine_goes_on_from_the_remote(office: Office, tmp_path: Path) -> None:
    remote = str(tmp_path / "remote")
    async with archived(office, tmp_path / "one", remote) as one, archived(office, tmp_path / "two", remote) as two:
        await a_busy_day(office)
        first = await one.archive()
        assert first.pushed_head == first.head
        await office.send("Ann", ["Bob"])
        second = await two.archive()
        assert (await two.git("rev-parse", "main~1")).strip() == first.head
        await two.verified()
        await office.send("Bob", ["Ann"])
        third = await one.archive()  # whose copy is behind
        assert (await one.git("rev-parse", "main~1")).strip() == second.head
        assert third.pushed_head == third.head
        await one.verified()


async def test_a_remote_that_is_away_keeps_nothing_from_being_archived(office: Office, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    async with archived(office, tmp_path / "one", str(tmp_path / "file")) as mail:
        job = await mail.job()
        with pytest.raises(ArchiveUnavailable):
            await archive_project(mail.app, job)
        async with mail.app.store.write() as db:
            await db.jobs.finish(job)
        state = await mail.state()
        assert state is not None
        assert state.pushed_head is None
        await mail.verified()
        (tmp_path / "file").unlink()
        assert (await mail.archive()).pushed_head == state.head


async def test_a_restored_database_goes_on_from_its_own_past(mail: ArchivedOffice, database: Database) -> None:
    await mail.office.send("Ann", ["Bob"])
    before = await mail.archive()
    await mail.office.send("Bob", ["Ann"])
    lost = await mail.archive()
    await database.execute(
        f"UPDATE archives SET head = '{before.head}', tree = '{before.tree}',"
        f" position_xact = {before.position.transaction}, position_id = {before.position.event_id},"
        f" archived_events = {before.archived_events}"
    )
    mail.app.store._identity = replace(mail.app.store.identity, epoch="another")  # type: ignore[attr-defined]
    state = await mail.archive()
    assert (await mail.git("rev-parse", "main~1")).strip() == before.head
    assert (await mail.git("rev-parse", f"before-{lost.head[:12]}")).strip() == lost.head
    assert state.head != lost.head
    await mail.verified()


async def test_a_worker_that_lost_its_lease_records_nothing(mail: ArchivedOffice) -> None:
    await mail.office.send("Ann", ["Bob"])
    stale = await mail.job()
    async with mail.app.store.write() as db:
        await db.jobs.finish(stale)
    with pytest.raises(LeaseLost):
        await archive_project(mail.app, stale)
    assert await mail.state() is None
    await mail.archive()
    await mail.verified()


async def test_of_two_writers_one_is_told(mail: ArchivedOffice, family: StoreFamily) -> None:
    await a_busy_day(mail.office)
    state = await mail.archive()
    async with mail.app.store.write() as db:
        assert not await db.archives.record((await mail.place()).project_id, "somewhere", state)
        assert not await db.archives.record((await mail.place()).project_id, None, state)
    await mail.office.send("Ann", ["Bob"])
    place = await mail.place()
    batch = await next_batch(mail.app, place, state.position)
    assert batch is not None
    assert mail.app.archive is not None
    await mail.app.archive.commit(place, state.head, batch)
    with pytest.raises(ArchiveMoved):
        await mail.app.archive.commit(place, state.head, batch)


async def test_what_was_changed_behind_its_back_is_found(mail: ArchivedOffice, database: Database) -> None:
    await a_busy_day(mail.office)
    await mail.archive()
    await database.execute("UPDATE messages SET body_md = 'forged' WHERE id = 1")
    await database.execute("UPDATE events SET kind = 'message.overdue' WHERE kind = 'message.read'")
    found = (await verify(mail.app, await mail.place())).differences
    assert [text for text in found if text.startswith("messages/") and "not as the database says" in text]
    assert [text for text in found if "is another one in the archive" in text]


async def test_events_that_were_removed_are_in_the_archive_alone(mail: ArchivedOffice) -> None:
    await a_busy_day(mail.office)
    await mail.archive()
    async with mail.app.store.write() as db:
        removed = await db.events.forget((await mail.place()).project_id, timedelta(hours=-1), 3)
    assert removed == 3
    assert (await mail.verified()).archive_alone == 3


# --- many commits -----------------------------------------------------------------------------------------------------


async def test_many_small_commits_are_put_together(mail: ArchivedOffice) -> None:
    for number in range(3 * MOST_PACKS):
        await mail.office.send("Ann", ["Bob"], subject=f"A subject as long as they are, no. {number}")
        await mail.archive()
    packs = list((await mail.path()).glob("objects/pack/*.pack"))
    assert len(packs) <= MOST_PACKS + 1
    objects = (await mail.git("rev-list", "--objects", "--all")).splitlines()
    assert len(objects) > 3 * MOST_PACKS * 8
    assert (await mail.git("rev-list", "--count", "main")).strip() == str(3 * MOST_PACKS)
    assert (await mail.git("log", "--patch", "--format=%s", "main~1..main")).count("\n+") > 10
    verdict = await mail.verified()
    assert verdict.messages == 3 * MOST_PACKS
    await mail.git("gc", "-q")  # of a person who looks after the disk
    await mail.office.send("Ann", ["Bob"])
    await mail.archive()
    await mail.verified()
