"""Retention: what is too old or too much goes whole, what is on hold or not archived stays, cursors stay right."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from agent_mail_core import retention
from agent_mail_core.archiving import archive_project
from agent_mail_core.errors import MessageNotFound, ProjectOnHold, ThreadNotFound
from agent_mail_core.jobs import LEASE
from agent_mail_core.ports import App, Role
from agent_mail_core.retention import sweep_retention
from agent_mail_core.summaries import NewSummary
from agent_mail_core.sweeps import sweep_attachments, sweep_deleted_projects
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.databases import Database
from tests.contract.foreign_mail import agent_id, deliver_across
from tests.contract.office import Office, subjects
from tests.contract.test_races import insisting

OLD = timedelta(days=40)
MOST_STEPS = 200


def keeping(app: App, days: int | None = None, messages: int | None = None) -> App:
    """The app with that retention."""
    update = {"retention_days": days, "retention_messages": messages}
    return replace(app, settings=app.settings.model_copy(update=update))


async def swept(app: App) -> None:
    """Until nothing is left to do."""
    for _ in range(MOST_STEPS):
        if not await sweep_retention(app):
            return
    raise AssertionError("it has no end")


async def age(database: Database) -> None:
    """Make all mail old."""
    await database.age("messages", OLD)
    await database.age("deliveries", OLD)


async def assert_whole(database: Database) -> None:
    """Counters say what rows say, and no row points at what is gone."""
    checks = (
        "SELECT 1 FROM mailboxes b WHERE unread <> ("
        "SELECT count(*) FROM deliveries d WHERE d.agent_id = b.agent_id AND d.read_at IS NULL)",
        "SELECT 1 FROM threads t WHERE message_count <> (SELECT count(*) FROM messages m WHERE m.thread_id = t.id)",
        "SELECT 1 FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = d.message_id)",
        "SELECT 1 FROM thread_participants p WHERE NOT EXISTS ("
        "SELECT 1 FROM deliveries d WHERE d.thread_id = p.thread_id AND d.agent_id = p.agent_id) AND NOT EXISTS ("
        "SELECT 1 FROM messages m WHERE m.thread_id = p.thread_id AND m.sender_id = p.agent_id)",
    )
    for check in checks:
        assert await database.count(check) == 0, check


async def message_count(database: Database) -> int:
    return len((await database.dump())["messages"])


async def test_without_a_setting_everything_stays(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"])
    await age(database)
    assert not await sweep_retention(office.app)
    assert await message_count(database) == 1


async def test_what_is_too_old_goes_whole(office: Office, database: Database) -> None:
    old = await office.send("Ann", ["Bob"], cc=["Cid"], subject="Old", thread_id="OLD-1", ack_required=True)
    parent = await office.send("Ann", ["Bob"], subject="Parent", thread_id="FEAT-1", body="ancient words")
    await office.mark_read("Cid", old.message_id)
    await age(database)
    reply = await office.reply("Bob", parent.message_id)
    await swept(keeping(office.app, days=30))
    assert subjects((await office.inbox("Ann")).messages) == ["Re: Parent"]
    inbox = await office.inbox("Bob")
    assert (inbox.messages, inbox.unread_count) == ([], 0)
    assert (await office.outbox("Ann")).messages == []
    assert (await office.pending()).pending == []
    assert (await office.search("ancient")).hits == []
    for message_id in (old.message_id, parent.message_id):
        with pytest.raises(MessageNotFound):
            await office.get(message_id)
    with pytest.raises(ThreadNotFound):
        await office.thread("OLD-1")
    thread = await office.thread("FEAT-1")
    assert (thread.thread.message_count, thread.messages[0].message_id) == (1, reply.message_id)
    assert (await office.get(reply.message_id)).parent_id is None
    assert (await office.project()).message_count == 1
    await assert_whole(database)
    assert (await office.send("Ann", ["Bob"], thread_id="OLD-1")).thread_id == "OLD-1"


async def test_a_retried_send_is_answered_as_before(office: Office, database: Database) -> None:
    sent = await office.send("Ann", ["Bob"], idempotency_key="one")
    await age(database)
    await swept(keeping(office.app, days=30))
    again = await office.send("Ann", ["Bob"], idempotency_key="one")
    assert (again.message_id, again.replayed) == (sent.message_id, True)
    assert await message_count(database) == 0


async def test_of_too_many_the_oldest_go_but_none_of_the_last_hour(office: Office, database: Database) -> None:
    for number in range(5):
        await office.send("Ann", ["Bob"], subject=f"No. {number}")
    app = keeping(office.app, messages=2)
    await swept(app)
    assert await message_count(database) == 5
    await database.age("messages", timedelta(hours=2))
    branch = replace(office, slug="branch")
    await branch.ensure("branch")
    await swept(app)
    assert subjects((await office.inbox("Bob")).messages) == ["No. 4", "No. 3"]
    await assert_whole(database)


async def test_it_goes_in_small_steps(office: Office, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows a transaction: each message has two deliveries."""
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(retention, "STEPS", 3)
    for _ in range(10):
        await office.send("Ann", ["Bob", "Cid"])
    await age(database)
    app = keeping(office.app, days=30)
    assert await sweep_retention(app)
    assert await message_count(database) == 10 - 3 * 2
    await assert_whole(database)
    await swept(app)
    assert await message_count(database) == 0


async def test_a_message_with_more_recipients_than_a_step_has_rows_goes_too(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    await office.send("Ann", ["Bob", "Cid", "Dot"])
    await age(database)
    await swept(keeping(office.app, days=30))
    assert await message_count(database) == 0


async def test_cursors_in_use_skip_nothing_and_repeat_nothing(office: Office, database: Database) -> None:
    for number in range(6):
        await office.send("Ann", ["Bob"], subject=f"Old {number}")
        if number == 2:
            early = await office.inbox("Bob")
    await age(database)
    for number in range(6):
        await office.send("Ann", ["Bob"], subject=f"New {number}")
    newest = await office.inbox("Bob", limit=3)
    assert subjects(newest.messages) == ["New 5", "New 4", "New 3"]
    older = await office.inbox("Bob", before=newest.older_cursor, limit=2)
    await swept(keeping(office.app, days=30))
    expected = [f"New {number}" for number in range(6)]
    assert subjects((await office.inbox("Bob", cursor=early.cursor)).messages) == expected
    assert subjects((await office.wait("Bob", cursor=early.cursor)).messages) == expected
    rest = await office.inbox("Bob", before=older.older_cursor, limit=10)
    assert subjects(rest.messages) == ["New 0"]
    assert rest.older_cursor is None
    assert (await office.inbox("Bob", cursor=newest.cursor)).messages == []
    sent = await office.send("Ann", ["Bob"], subject="Next")
    following = await office.inbox("Bob", cursor=newest.cursor)
    assert [message.message_id for message in following.messages] == [sent.message_id]


async def test_who_took_part_in_what_is_gone_alone_takes_part_no_more(office: Office, database: Database) -> None:
    """And who is left as a bcc alone is nobody's business any more."""
    await office.send("Ann", ["Bob", "Cid", "Dot"], thread_id="FEAT-1")
    await age(database)
    await office.send("Ann", ["Bob"], thread_id="FEAT-1", bcc=["Cid"])
    assert (await office.thread("FEAT-1")).thread.participants == ["Ann", "Bob", "Cid", "Dot"]
    await swept(keeping(office.app, days=30))
    assert (await office.thread("FEAT-1")).thread.participants == ["Ann", "Bob"]
    assert [thread.thread_id for thread in (await office.threads(agent_name="Cid")).threads] == ["FEAT-1"]
    assert (await office.threads(agent_name="Dot")).threads == []
    await assert_whole(database)


async def test_a_thread_under_review_stays(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"], thread_id="FEAT-1")
    fields = {"project_slug": office.slug, "requester_name": "Ann", "reviewer_names": ["Bob"]}
    review = await office.call("request_review", **fields, thread_id="FEAT-1")
    await age(database)
    app = keeping(office.app, days=30)
    await swept(app)
    thread = await office.thread("FEAT-1")
    assert (thread.thread.message_count, thread.messages) == (0, [])
    await office.call("cancel_review", project_slug=office.slug, review_id=review.review_id)
    await age(database)
    await swept(app)
    with pytest.raises(ThreadNotFound):
        await office.thread("FEAT-1")


async def test_files_of_messages_that_are_gone_go_later(office: Office, database: Database) -> None:
    file = await office.call(
        "add_attachment", project_slug=office.slug, agent_name="Ann", file_name="a.txt", content_base64="YQ=="
    )
    await office.send("Ann", ["Bob"], attachment_ids=[file.attachment_id])
    await age(database)
    await database.age("attachments", OLD)
    await swept(keeping(office.app, days=30))
    await sweep_attachments(office.app)
    tables = await database.dump()
    assert (tables["attachments"], tables["blobs"], tables["message_attachments"]) == ([], [], [])


# --- summaries --------------------------------------------------------------------------------------------------------


async def summarized(office: Office) -> NewSummary:
    """A summary of FEAT-1, which is stored."""
    async with office.app.store.write() as db:
        project = await db.projects.find(office.caller.team_id, office.slug)
        assert project is not None
        thread = await db.threads.find(project.id, "FEAT-1")
        assert thread is not None
        summary = NewSummary(thread.id, "extractive", thread.last_message_id, thread.message_count, "{}", "{}", True)
        assert await db.summaries.keep(summary)
    return summary


async def test_no_summary_tells_of_what_is_gone(office: Office, database: Database) -> None:
    """Nor one that is being made while it goes: that is made once more."""
    await office.send("Ann", ["Bob"], thread_id="FEAT-1")
    await age(database)
    await office.send("Ann", ["Bob"], thread_id="FEAT-1")
    summary = await summarized(office)
    async with office.app.store.write() as db:
        await db.jobs.want("summary", summary.thread_id, office.caller.team_id)
    async with office.app.store.write() as db:
        job = await db.jobs.claim(["summary"], LEASE)
    assert job is not None
    await swept(keeping(office.app, days=30))
    async with office.app.store.read() as db:
        assert await db.summaries.get([summary.thread_id]) == {}
    async with office.app.store.write() as db:
        assert await db.jobs.finish(job), "wanted again"


# --- legal hold -------------------------------------------------------------------------------------------------------


async def hold(office: Office, on_hold: bool = True) -> bool:
    admin = office.of("local", Role.admin)
    return bool((await admin.call("set_legal_hold", project_slug=office.slug, on_hold=on_hold)).changed)


async def test_on_hold_nothing_goes(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"])
    await age(database)
    await database.age("events", OLD)
    await database.execute("DELETE FROM outbox")
    app = keeping(office.app, days=30, messages=1)
    assert await hold(office)
    assert not await hold(office)
    before = await database.dump()
    await swept(app)
    with pytest.raises(ProjectOnHold):
        await office.of("local", Role.admin).call("delete_project", project_slug=office.slug)
    assert await database.dump() == before
    assert await hold(office, False)
    assert not await hold(office, False)
    await swept(app)
    tables = await database.dump()
    assert (tables["messages"], tables["events"]) == ([], [])
    await office.of("local", Role.admin).call("delete_project", project_slug=office.slug)


async def test_what_a_project_on_hold_got_from_elsewhere_stays(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is passed over, however much of it there is."""
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 6)
    monkeypatch.setattr(retention, "STEPS", 2)
    branch = replace(office, slug="branch")
    await branch.ensure("branch")
    await branch.register("Eve")
    kept = []
    for _ in range(9):
        sent = await office.send("Ann", ["Bob"], subject="To Eve")
        await deliver_across(database, sent.message_id, await agent_id(branch, "Eve"))
        kept.append(sent.message_id)
    for _ in range(9):
        await office.send("Ann", ["Bob"], subject="Not to Eve")
    await age(database)
    await hold(branch)
    app = keeping(office.app, days=30)
    await swept(app)
    assert [message.message_id for message in (await office.inbox("Bob", limit=50)).messages] == kept[::-1]
    await assert_whole(database)
    await hold(branch, False)
    await swept(app)
    assert await message_count(database) == 0


async def test_holds_are_listed(office: Office) -> None:
    admin = office.of("token:7", Role.admin)
    for slug in ("b", "a", "c"):
        await office.ensure(slug)
        await admin.call("set_legal_hold", project_slug=slug, on_hold=True, reason=f"Case {slug}")
    page = await admin.call("list_legal_holds", limit=2)
    rest = await admin.call("list_legal_holds", limit=2, cursor=page.next_cursor)
    found = [(hold.project_slug, hold.reason, hold.placed_by) for hold in page.holds + rest.holds]
    assert found == [(slug, f"Case {slug}", "token:7") for slug in ("a", "b", "c")]
    assert rest.next_cursor is None


# --- the archive ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def mail(office: Office, tmp_path: Path) -> AsyncIterator[ArchivedOffice]:
    async with archived(office, tmp_path / "archive") as mail:
        yield mail


async def test_nothing_goes_that_is_not_in_the_archive_which_keeps_it(mail: ArchivedOffice, database: Database) -> None:
    sent = await mail.office.send("Ann", ["Bob"], subject="Old")
    await mail.office.mark_read("Bob", sent.message_id)
    await age(database)
    await database.age("events", OLD)
    app = keeping(mail.app, days=30)
    await swept(app)
    assert await message_count(database) == 1
    await mail.archive()
    files = await mail.files()
    events = (await mail.verified()).events
    await mail.office.send("Ann", ["Bob"], subject="New")
    await swept(app)
    assert await message_count(database) == 1
    assert {event.kind for event in await database.events()} == {"message.sent"}
    verdict = await mail.verified()
    assert (verdict.archive_alone, verdict.not_yet) == (events, 1)
    await mail.archive()
    assert await mail.files() > files
    assert (await mail.verified()).messages == 1


async def test_a_deleted_project_is_purged_once_the_archive_has_all_of_it(
    mail: ArchivedOffice, database: Database
) -> None:
    await mail.office.send("Ann", ["Bob"])
    place = await mail.place()
    await mail.office.of("local", Role.admin).call("delete_project", project_slug="office")
    assert not await sweep_deleted_projects(mail.app)
    assert await message_count(database) == 1
    async with mail.app.store.write() as db:
        await db.jobs.want("archive", place.project_id, place.team_id)
    async with mail.app.store.write() as db:
        job = await db.jobs.claim(["archive"], LEASE)
    assert job is not None
    await archive_project(mail.app, job)
    while await sweep_deleted_projects(mail.app):
        pass
    assert await message_count(database) == 0


# --- races ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 10)


@pytest.mark.usefixtures("small_steps")
async def test_sends_and_readers_while_it_runs(workers: list[App], office: Office, database: Database) -> None:
    """Nothing that was sent meanwhile is lost, nobody reads anything twice, and all counters are right at the end."""
    for number in range(60):
        await office.send("Ann", ["Bob", "Cid"], subject=f"Old {number}", thread_id=f"TH-{number % 5}")
    parent = await office.send("Ann", ["Bob"], thread_id="TH-0")
    await age(database)
    app = keeping(workers[-1], days=30)
    sent: list[int] = []
    seen: Counter[int] = Counter()

    async def send(worker: Office, number: int) -> None:
        for turn in range(12):
            try:
                if turn % 4 == 3:
                    message = await insisting(lambda: worker.reply("Bob", parent.message_id, recipient_names=["Cid"]))
                else:
                    message = await insisting(lambda: worker.send("Ann", ["Bob", "Cid"], thread_id=f"TH-{number % 5}"))
            except MessageNotFound:
                continue
            sent.append(message.message_id)

    async def read(worker: Office, cursor: str, is_done: asyncio.Event) -> None:
        while True:
            is_last = is_done.is_set()
            page = await worker.inbox("Cid", cursor=cursor, limit=5)
            seen.update(message.message_id for message in page.messages)
            cursor = page.cursor
            if not page.messages and is_last:
                return
            if page.messages:
                await insisting(partial(worker.mark_read, "Cid", page.messages[0].message_id))

    is_done = asyncio.Event()
    offices = [office.at(worker) for worker in workers]
    begin = (await offices[0].inbox("Cid", limit=1)).cursor
    reading = asyncio.create_task(read(offices[0], begin, is_done))
    await asyncio.gather(swept(app), swept(app), *(send(offices[n % len(offices)], n) for n in range(6)))
    is_done.set()
    await reading
    assert seen == Counter(sent)
    await swept(app)
    tables = await database.dump()
    assert len(tables["messages"]) == len(sent)
    await assert_whole(database)


@pytest.mark.usefixtures("small_steps")
async def test_after_a_hold_was_placed_nothing_goes(workers: list[App], office: Office, database: Database) -> None:
    for _ in range(60):
        await office.send("Ann", ["Bob"])
    await age(database)
    app = keeping(workers[-1], days=30)
    retention_runs = asyncio.create_task(swept(app))
    await insisting(lambda: hold(office.at(workers[0])))
    held = await message_count(database)
    await retention_runs
    await swept(app)
    assert await message_count(database) == held
