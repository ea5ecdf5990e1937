"""Activity: what happened, newest first, without a trace of a bcc."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_mail_core.activity import ActivityPage, ListActivity, list_activity
from agent_mail_core.errors import AgentNotFound, Invalid, InvalidCursor, ProjectNotFound
from tests.contract.databases import Database
from tests.contract.office import Office, pages


async def activity(office: Office, **more: Any) -> ActivityPage:
    return await list_activity(office.app, office.caller, ListActivity(**{"project_slug": office.slug, **more}))


async def kinds(office: Office, **more: Any) -> list[tuple[str, str | None]]:
    return [(entry.kind, entry.agent_name) for entry in (await activity(office, **more)).activity]


async def test_it_tells_who_did_what_newest_first(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"], thread_id="T-1")
    await office.acknowledge("Bob", sent.message_id)
    page = await activity(office)
    assert [(entry.kind, entry.agent_name) for entry in page.activity] == [
        ("message.acknowledged", "Bob"),
        ("message.read", "Bob"),
        ("message.sent", "Ann"),
        *(("agent.registered", name) for name in ("Dot", "Cid", "Bob", "Ann")),
        ("project.created", None),
    ]
    newest, _, mail = page.activity[:3]
    assert newest.message_id == mail.message_id == sent.message_id
    assert mail.data == {"thread_id": "T-1", "sender": "Ann", "to": ["Bob"], "cc": []}
    assert newest.created_at >= mail.created_at
    assert {entry.project_slug for entry in page.activity} == {"office"}
    assert page.next_cursor is None


async def test_of_one_agent_it_is_what_that_did(office: Office) -> None:
    await office.send("Ann", ["Bob"])
    await office.update("Bob", model="m-2")
    assert await kinds(office, agent_name="bob") == [("agent.updated", "Bob"), ("agent.registered", "Bob")]
    assert await kinds(office, agent_name="Cid") == [("agent.registered", "Cid")]


async def test_without_a_project_it_is_the_teams(office: Office, database: Database) -> None:
    stranger = office.of("stranger", team_id=await database.add_team("other"))
    await stranger.ensure("theirs")
    await office.ensure("there")
    newest = (await activity(office, project_slug=None)).activity[0]
    assert (newest.kind, newest.project_slug) == ("project.created", "there")
    assert [entry.project_slug for entry in (await activity(stranger, project_slug=None)).activity] == ["theirs"]


@pytest.mark.parametrize("arguments", [{}, {"agent_name": "Ann"}, {"project_slug": None}])
async def test_pages_are_the_list(office: Office, arguments: dict[str, Any]) -> None:
    for number in range(5):
        await office.update("Ann", model=f"m-{number}")
    whole = (await activity(office, limit=100, **arguments)).activity
    paged = [page async for page in pages(lambda **more: activity(office, limit=2, **arguments, **more))]
    assert [entry for page in paged for entry in page.activity] == whole
    assert len(whole) >= 6


async def test_since_leaves_out_what_was_before(office: Office, database: Database) -> None:
    await database.age("events", timedelta(hours=1))
    await office.update("Ann", model="m-2")
    since = datetime.now(UTC) - timedelta(minutes=30)
    page = await activity(office, since=since, limit=2)
    assert [entry.kind for entry in page.activity] == ["agent.updated"]
    assert page.next_cursor is None
    assert len((await activity(office, since=since - timedelta(days=1))).activity) == 6


async def test_a_cursor_belongs_to_its_list(office: Office) -> None:
    cursor = (await activity(office, limit=1)).next_cursor
    for other in ({"agent_name": "Ann"}, {"project_slug": None}, {"since": datetime.now(UTC)}):
        with pytest.raises(InvalidCursor):
            await activity(office, cursor=cursor, **other)


async def test_a_bcc_leaves_no_trace(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"], bcc=["Dot"])
    before = await activity(office)
    await office.mark_read("Dot", sent.message_id)
    await office.acknowledge("Dot", sent.message_id)
    assert await activity(office) == before
    assert await kinds(office, agent_name="Dot") == [("agent.registered", "Dot")]
    mail = [entry for entry in before.activity if entry.message_id == sent.message_id]
    assert len(mail) == 1
    assert "Dot" not in json.dumps(mail[0].data)


async def test_what_it_names_must_exist_here(office: Office, database: Database) -> None:
    with pytest.raises(ProjectNotFound):
        await activity(office, project_slug="nowhere")
    with pytest.raises(AgentNotFound):
        await activity(office, agent_name="Nobody")
    with pytest.raises(ProjectNotFound):
        await activity(office.of("stranger", team_id=await database.add_team("other")))
    with pytest.raises(Invalid, match="needs project_slug"):
        await activity(office, project_slug=None, agent_name="Ann")
