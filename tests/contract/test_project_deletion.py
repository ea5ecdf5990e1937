"""Deleting a project: unknown at once, its names free, other projects' mail whole, its rows gone in small steps."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from agent_mail_core.activity import ListActivity, list_activity
from agent_mail_core.attachment_errors import AttachmentNotFound
from agent_mail_core.attachments import GetAttachment, get_attachment
from agent_mail_core.delivery import Draft
from agent_mail_core.errors import MessageNotFound, ProjectNotFound, RecipientsUnknown
from agent_mail_core.ids import MessageId
from agent_mail_core.ports import App
from agent_mail_core.project_deletion import (
    PURGE_ROWS,
    DeletedProject,
    DeleteProject,
    delete_project,
    sweep_deleted,
)
from agent_mail_core.project_export import ExportProject, export_project
from agent_mail_store.postgres import delivery
from agent_mail_store.postgres.statements import Statements
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.foreign_mail import agent_id, deliver_across
from tests.contract.office import Office, subjects
from tests.contract.test_attachments import add, link
from tests.contract.test_races import insisting, outcomes


async def delete(office: Office) -> DeletedProject:
    return await delete_project(office.app, office.caller, DeleteProject(project_slug=office.slug))


@pytest.fixture
async def branch(office: Office) -> Office:
    """Another project, with the agent Eve."""
    branch = replace(office, slug="branch")
    await branch.ensure("branch")
    await branch.register("Eve", contact_policy="open")
    return branch


Ask = Callable[[Office], Awaitable[Any]]
ASKED: dict[str, Ask] = {
    "get_project": lambda o: o.project(),
    "list_agents": lambda o: o.agents(),
    "whois": lambda o: o.whois("Ann"),
    "register": lambda o: o.register("New"),
    "send": lambda o: o.send("Ann", ["Bob"]),
    "inbox": lambda o: o.inbox("Bob"),
    "wait": lambda o: o.wait("Bob"),
    "outbox": lambda o: o.outbox("Ann"),
    "pending": lambda o: o.pending(),
    "search": lambda o: o.search("hello"),
    "threads": lambda o: o.threads(),
    "thread": lambda o: o.thread("T-1"),
    "activity": lambda o: list_activity(o.app, o.caller, ListActivity(project_slug=o.slug)),
    "export": lambda o: export_project(o.app, o.caller, ExportProject(project_slug=o.slug)),
    "delete": delete,
}


@pytest.mark.parametrize("asked", ASKED)
async def test_at_once_it_is_unknown(office: Office, asked: str) -> None:
    await office.send("Ann", ["Bob"], thread_id="T-1")
    await delete(office)
    with pytest.raises(ProjectNotFound):
        await ASKED[asked](office)


async def test_its_names_are_free(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="T-1")
    deleted = await delete(office)
    assert (deleted.slug, deleted.human_key) == ("office", "office")
    again = await office.ensure("office")
    assert again.created
    assert (again.project.slug, again.project.human_key) == ("office", "office")
    assert (await office.project()).agents == []
    assert (await office.register("Ann")).created
    assert (await delete(office)).deleted_at > deleted.deleted_at


async def test_it_is_told_in_the_teams_activity(office: Office) -> None:
    await delete(office)
    page = await list_activity(office.app, office.caller, ListActivity())
    assert [(entry.kind, entry.project_slug) for entry in page.activity] == [("project.deleted", "office")]


async def test_foreign_inboxes_lose_its_messages_at_once(office: Office, branch: Office, database: Database) -> None:
    own = await branch.send("Eve", ["Eve"], subject="Own")
    eve = await agent_id(branch, "Eve")
    for number in range(3):
        sent = await office.send("Ann", ["Bob"], subject=f"Foreign {number}", ack_required=True)
        await deliver_across(database, sent.message_id, eve)
    await branch.mark_read("Eve", sent.message_id)
    before = await branch.inbox("Eve")
    assert (len(before.messages), before.unread_count) == (4, 3)
    await delete(office)
    after = await branch.inbox("Eve")
    assert (subjects(after.messages), after.unread_count) == (["Own"], 1)
    assert after.messages[0].message_id == own.message_id
    assert (await branch.pending("Eve")).pending == []
    with pytest.raises(MessageNotFound):
        await branch.acknowledge("Eve", sent.message_id)
    waited = await branch.wait("Eve", cursor=before.cursor, timeout_seconds=0)
    assert (waited.messages, waited.unread_count) == ([], 1)
    next_one = await branch.send("Eve", ["Eve"], subject="Next")
    assert [m.message_id for m in (await branch.inbox("Eve", cursor=before.cursor)).messages] == [next_one.message_id]


async def test_its_attachments_are_unknown_unless_linked_elsewhere(
    office: Office, branch: Office, database: Database
) -> None:
    inside, outside = await add(office), await add(office, content=b"elsewhere")
    await link(office, "Ann", inside.attachment_id)
    sent = await branch.send("Eve", ["Eve"])
    async with office.app.store.write() as db:
        found = await db.attachments.find(office.caller.team_id, [outside.attachment_id])
        await db.attachments.link(MessageId(sent.message_id), [found[0].id])
    await delete(office)
    for _ in range(2):  # before the purge and after it
        with pytest.raises(AttachmentNotFound):
            await get_attachment(office.app, office.caller, GetAttachment(attachment_id=inside.attachment_id))
        kept = await get_attachment(office.app, office.caller, GetAttachment(attachment_id=outside.attachment_id))
        assert kept.content_base64 == b"elsewhere"
        await sweep_deleted(office.app, steps=100)
    dump = await database.dump()
    assert (len(dump["attachments"]), len(dump["blobs"])) == (1, 1)
    assert "9" in dump["team_usage"][0]


async def test_a_purge_leaves_nothing_but_the_deletion(office: Office, branch: Office, database: Database) -> None:
    before = await database.dump()
    doomed = replace(office, slug="doomed")
    await doomed.ensure("doomed", description="secret plans")
    for name in ("Ann", "Bob"):
        await doomed.register(name)
    for number in range(4):
        sent = await doomed.send("Ann", ["Bob"], bcc=["Ann"], thread_id=f"T-{number}", idempotency_key=f"k{number}")
        await doomed.acknowledge("Bob", sent.message_id)
    await link(doomed, "Ann", (await add(doomed)).attachment_id)
    await delete(doomed)
    assert await sweep_deleted(office.app, steps=100) > 20
    assert await sweep_deleted(office.app, steps=100) == 0
    after = await database.dump()
    for table in ("idempotency_keys", "sqlite_sequence", "team_usage"):
        before.pop(table, None)
        after.pop(table, None)
    changed = {
        table for table, rows in after.items() if rows != before[table] and not table.startswith("message_text_")
    }
    assert changed == {"projects", "agents", "events", "outbox"}
    assert not any(
        name in row for row in set(after["agents"]) - set(before["agents"]) for name in ("Ann", "Bob", "secret")
    )
    assert len(after["projects"]) == len(before["projects"]) + 1
    assert len(after["events"]) == len(before["events"]) + 1
    assert not any("secret plans" in row for row in after["projects"])


async def test_a_purge_goes_in_steps_that_are_small(office: Office, database: Database) -> None:
    for _ in range(12):
        await office.send("Ann", ["Bob"], cc=["Cid", "Dot"])
    async with office.app.store.read() as db:
        project = await db.projects.find(office.caller.team_id, "office")
    assert project is not None
    await delete(office)
    steps: list[int] = []
    while not steps or steps[-1]:
        async with office.app.store.write() as db:
            assert await db.project_deletions.unpurged(False, 10) == [project.id]
            steps.append(await db.project_deletions.purge_step(project.id, 10))
    assert max(steps) <= 10
    assert sum(steps) > 12 * 4
    async with office.app.store.write() as db:
        assert await db.project_deletions.unpurged(False, 10) == []
        assert await db.project_deletions.purge_step(project.id, 10) == 0
    assert len((await database.dump())["messages"]) == 0


async def test_a_project_that_lives_is_never_purged(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"])
    before = await database.dump()
    async with office.app.store.read() as db:
        project = await db.projects.find(office.caller.team_id, "office")
    assert project is not None
    async with office.app.store.write() as db:
        assert await db.project_deletions.purge_step(project.id, PURGE_ROWS) == 0
    assert await database.dump() == before


async def test_mail_that_its_agents_wrote_elsewhere_stays(office: Office, branch: Office, database: Database) -> None:
    """As if Ann of the office had written into a thread of the branch, and got an answer there."""
    ann = await agent_id(office, "Ann")
    sent = await branch.send("Eve", ["Eve"], thread_id="B-1", subject="From outside")
    await database.execute(
        f"UPDATE messages SET sender_id = {ann} WHERE id = {sent.message_id}",
        f"UPDATE deliveries SET sender_id = {ann} WHERE message_id = {sent.message_id}",
    )
    answer = await branch.send("Eve", ["Eve"], thread_id="B-1", subject="Answer")
    await deliver_across(database, answer.message_id, ann)
    await delete(office)
    await sweep_deleted(office.app, steps=100)
    thread = await branch.thread("B-1")
    assert [(message.sender_name, message.subject) for message in thread.messages] == [
        ("Ann@-deleted", "From outside"),
        ("Eve", "Answer"),
    ]
    assert [recipient.name for recipient in thread.messages[1].recipients] == ["Eve", "Ann@-deleted"]
    assert (await branch.inbox("Eve")).unread_count == 2
    dump = await database.dump()
    assert sum("Ann" in row for row in dump["agents"]) == 1
    assert not any(name in row for row in dump["agents"] for name in ("Bob", "Cid", "Dot"))


async def test_racing_deletions_delete_once(office: Office, workers: list[App], database: Database) -> None:
    await office.send("Ann", ["Bob"])
    calls = [insisting(lambda n=n: delete(office.at(workers[n % len(workers)]))) for n in range(8)]  # type: ignore[misc]
    answers, errors = await outcomes(calls)
    assert len(answers) == 1
    assert {type(error) for error in errors} == {ProjectNotFound}
    assert len([event for event in await database.events() if event.kind == "project.deleted"]) == 1


async def test_purges_on_two_workers_and_mail_go_on_together(
    office: Office, branch: Office, workers: list[App]
) -> None:
    for _ in range(20):
        await office.send("Ann", ["Bob"], cc=["Cid"])
    await delete(office)
    sweeps = [insisting(lambda n=n: sweep_deleted(workers[n % len(workers)], steps=50)) for n in range(4)]  # type: ignore[misc]
    sends = [insisting(lambda n=n: branch.at(workers[n % len(workers)]).send("Eve", ["Eve"])) for n in range(10)]  # type: ignore[misc]
    swept, sent = await asyncio.gather(outcomes(sweeps), outcomes(sends))
    assert (swept[1], sent[1]) == ([], [])
    assert sum(swept[0]) > 60
    assert (await branch.inbox("Eve")).unread_count == 10


# --- what statements of other nouns must leave out --------------------------------------------------------------------


async def test_it_is_in_no_list_of_projects_and_suggests_itself_to_nobody(office: Office, branch: Office) -> None:
    await delete(office)
    assert [project.slug for project in (await office.projects()).projects] == ["branch"]
    with pytest.raises(ProjectNotFound) as error:
        await replace(office, slug="-delete").project()
    assert "near" not in error.value.data


async def test_its_messages_are_unknown_by_their_ids(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"])
    await delete(office)
    with pytest.raises(MessageNotFound):
        await office.get(sent.message_id)


async def test_nobody_answers_its_messages(office: Office, branch: Office, database: Database) -> None:
    sent = await office.send("Ann", ["Bob"])
    await deliver_across(database, sent.message_id, await agent_id(branch, "Eve"))
    await delete(office)
    with pytest.raises(MessageNotFound):
        await branch.reply("Eve", sent.message_id)


async def test_a_search_of_all_projects_does_not_find_it(office: Office) -> None:
    await office.send("Ann", ["Bob"], subject="Zanzibar")
    await delete(office)
    assert (await office.search("zanzibar", project_slug=None)).hits == []


async def test_who_wrote_into_it_loses_that_from_the_outbox(office: Office, branch: Office, database: Database) -> None:
    eve = await agent_id(branch, "Eve")
    sent = await office.send("Ann", ["Bob"], ack_required=True)
    await database.execute(
        f"UPDATE messages SET sender_id = {eve} WHERE id = {sent.message_id}",
        f"UPDATE deliveries SET sender_id = {eve} WHERE message_id = {sent.message_id}",
    )
    await delete(office)
    assert (await branch.outbox("Eve")).messages == []
    assert (await branch.pending("Eve", direction="owed_to_me")).pending == []


async def test_nobody_in_it_can_be_written_to(office: Office, branch: Office) -> None:
    await delete(office)
    with pytest.raises(RecipientsUnknown):
        await branch.send("Eve", ["Ann@office"])


# --- races with sends to other projects -------------------------------------------------------------------------------


@pytest.mark.parametrize("database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
@pytest.mark.parametrize("thread_id", [None, "OLD", "NEW"])
async def test_a_send_below_its_locks_holds_its_project(
    office: Office, branch: Office, family: StoreFamily, monkeypatch: pytest.MonkeyPatch, thread_id: str | None
) -> None:
    await office.send("Ann", ["Bob"], thread_id="OLD")
    is_below, may_go_on = asyncio.Event(), asyncio.Event()
    new_ids = delivery._new_ids

    async def paused(db: Statements, drafts: list[Draft]) -> delivery._New:
        found = await new_ids(db, drafts)
        is_below.set()
        await may_go_on.wait()
        return found

    monkeypatch.setattr(delivery, "_new_ids", paused)
    sending = asyncio.create_task(office.send("Ann", ["Eve@branch"], thread_id=thread_id))
    await is_below.wait()
    other = replace(office, app=replace(office.app, store=await family.open()))
    deleting = asyncio.create_task(delete(other))
    done, _ = await asyncio.wait({deleting}, timeout=0.5)
    may_go_on.set()
    await asyncio.gather(sending, deleting)
    assert not done, "it waits for the send"
    for _ in range(5):
        inbox = await branch.inbox("Eve")
        assert (inbox.messages, inbox.unread_count) == ([], 0)
        await sweep_deleted(other.app, 50)


async def test_sends_and_the_deletion_of_their_project_at_once(office: Office, branch: Office) -> None:
    sends = [office.send("Ann", ["Eve@branch", "Bob"]) for _ in range(40)]
    results = await asyncio.gather(*sends[:20], delete(office), *sends[20:], return_exceptions=True)
    assert not isinstance(results[20], BaseException)
    for _ in range(5):
        inbox = await branch.inbox("Eve")
        assert (inbox.messages, inbox.unread_count) == ([], 0)
        await sweep_deleted(office.app, 50)
