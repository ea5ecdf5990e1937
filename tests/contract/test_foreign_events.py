"""What agents of one project do in another: events, activity, archive and streams never take one for its namesake."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_mail_core.archive_verifying import verify
from agent_mail_core.events import FIRST_POSITION, EventEntry, EventFilter
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.databases import Database
from tests.contract.office import Office


@pytest.fixture
async def depot(office: Office) -> Office:
    """Another project, whose Bob is not the office's."""
    await office.ensure("depot")
    depot = Office(office.app, office.caller, "depot")
    await depot.register("Bob", contact_policy="open")
    await office.call("set_contact_policy", project_slug="office", agent_name="Bob", policy="open")
    return depot


@pytest.fixture
async def mail(office: Office, tmp_path: Path) -> AsyncIterator[ArchivedOffice]:
    async with archived(office, tmp_path / "archive") as mail:
        yield mail


async def told(office: Office, kind: str) -> list[str | None]:
    """Who is said to have done it, newest first."""
    page = await office.call("list_activity", project_slug=office.slug, limit=100)
    return [each.agent_name for each in page.activity if each.kind == kind]


async def followed(office: Office) -> list[EventEntry]:
    async with office.app.store.read() as db:
        project = await db.projects.find(office.caller.team_id, office.slug)
        assert project is not None
        return (await db.events.after(FIRST_POSITION, EventFilter(project_id=project.id), 1000)).entries


async def test_activity_names_who_it_was(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Bob", "Bob@depot"])
    await depot.acknowledge("Bob", sent.message_id)
    assert await told(office, "message.acknowledged") == ["Bob@depot"]
    await office.acknowledge("Bob", sent.message_id)
    assert await told(office, "message.acknowledged") == ["Bob", "Bob@depot"]
    await depot.reply("Bob", sent.message_id)
    assert await told(office, "message.sent") == ["Bob@depot", "Ann"]
    assert await told(depot, "agent.registered") == ["Bob"]


async def test_followers_get_the_agents_own_project(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Bob@depot"])
    await depot.mark_read("Bob", sent.message_id)
    home = {entry.project_id for entry in await followed(depot)}
    (read,) = [entry for entry in await followed(office) if entry.kind == "message.read"]
    assert {read.agent_project_id} == home
    assert (read.agent_project_slug, read.agent_project_is_deleted) == ("depot", False)
    (own,) = [entry for entry in await followed(office) if entry.kind == "message.sent"]
    assert (own.agent_project_id, own.agent_project_slug) == (own.project_id, "office")


async def test_an_agent_whose_project_is_gone_is_no_agent_of_a_new_one(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Bob@depot"])
    await depot.mark_read("Bob", sent.message_id)
    await office.call("delete_project", project_slug="depot")
    await depot.ensure("depot")
    await depot.register("Bob")
    assert await told(office, "message.read") == ["Bob@-deleted"]
    (read,) = [entry for entry in await followed(office) if entry.kind == "message.read"]
    assert (read.agent_project_slug, read.agent_project_is_deleted) == ("depot", True)


async def test_the_archive_marks_the_mail_of_who_read_it(mail: ArchivedOffice, depot: Office) -> None:
    sent = await mail.office.send("Ann", ["Bob", "Bob@depot"])
    await depot.acknowledge("Bob", sent.message_id)
    await mail.archive()
    await mail.verified()
    shown = await mail.office.call("archive_show", project_slug="office", inbox_of="Bob")
    assert [(each.read_at, each.acknowledged_at) for each in shown.messages] == [(None, None)]
    assert "Co-authored-by: Bob@depot <bob@depot.invalid>" in await mail.git("log", "--format=%B")
    await mail.office.acknowledge("Bob", sent.message_id)
    await mail.archive()
    await mail.verified()
    shown = await mail.office.call("archive_show", project_slug="office", inbox_of="Bob")
    assert [each.acknowledged_at is not None for each in shown.messages] == [True]


async def test_a_stranger_whose_project_is_deleted_stays_who_it_was_in_the_archive(
    mail: ArchivedOffice, depot: Office
) -> None:
    sent = await mail.office.send("Ann", ["Bob@depot"])
    await depot.acknowledge("Bob", sent.message_id)
    await mail.archive()
    await mail.office.call("delete_project", project_slug="depot")
    await mail.verified()


async def test_a_mark_that_is_missing_is_found_for_strangers_too(
    mail: ArchivedOffice, depot: Office, database: Database
) -> None:
    sent = await mail.office.send("Ann", ["Bob@depot"])
    await mail.archive()
    await database.execute("UPDATE deliveries SET read_at = created_at")
    verdict = await verify(mail.app, await mail.place())
    assert [line for line in verdict.differences if f"{sent.message_id}__bob@depot-" in line] != []
