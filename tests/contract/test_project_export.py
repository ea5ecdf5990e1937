"""Exports: all that a project holds, page by page, without what its reader must not see."""

import asyncio
import csv
import io
import json
import re
from dataclasses import replace
from typing import Any, Literal

import pytest

from agent_mail_core import project_export
from agent_mail_core.errors import Forbidden, ProjectNotFound
from agent_mail_core.export_csv import unguarded
from agent_mail_core.ports import Role
from agent_mail_core.project_deletion import DeleteProject, delete_project
from agent_mail_core.project_export import ExportProject, export_project
from tests.contract.databases import Database
from tests.contract.foreign_mail import agent_id
from tests.contract.office import Office
from tests.contract.test_attachments import add, link


async def exported(office: Office, **more: Any) -> str:
    export = await export_project(office.app, office.caller, ExportProject(project_slug=office.slug, **more))
    return b"".join([piece async for piece in export.chunks()]).decode()


async def as_json(office: Office, **more: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(await exported(office, **more))
    return document


async def coordinate(office: Office, database: Database) -> None:
    """A lease, a slot, a review and a contact, as they lie in the database."""
    ann, bob = await agent_id(office, "Ann"), await agent_id(office, "Bob")
    async with office.app.store.read() as db:
        project = await db.projects.find(office.caller.team_id, office.slug)
    assert project is not None
    at = f"(SELECT created_at FROM projects WHERE id = {project.id})"
    no = f"(SELECT retired_at IS NOT NULL FROM agents WHERE id = {ann})"
    yes = f"(SELECT retired_at IS NULL FROM agents WHERE id = {ann})"
    in_project = f"{office.caller.team_id}, {project.id}"
    await database.execute(
        f"""
        INSERT INTO contacts (id, team_id, agent_id, contact_id, status, reason, requested_at)
        VALUES (1, {office.caller.team_id}, {ann}, {bob}, 'accepted', 'ask ann@example.org', {at})
        """,
        f"""
        INSERT INTO reservations (id, team_id, project_id, agent_id, pattern, is_literal, is_exclusive, is_advisory,
            fence, granted_at, renewed_at, expires_at)
        VALUES (1, {in_project}, {ann}, 'src/**', {no}, {yes}, {no}, 1, {at}, {at}, {at})
        """,
        f"""
        INSERT INTO build_slots (id, team_id, project_id, name, type, capacity, created_at)
        VALUES (1, {in_project}, 'main', 'build', 2, {at})
        """,
        f"""
        INSERT INTO slot_leases (id, slot_id, agent_id, fence, acquired_at, renewed_at, expires_at)
        VALUES (1, 1, {bob}, 2, {at}, {at}, {at})
        """,
        f"""
        INSERT INTO reviews (id, team_id, project_id, thread_id, requester_id, state, paths, created_at)
        SELECT 1, {in_project}, max(id), {ann}, 'requested', '["src/a.py"]', {at} FROM threads
        """,
        f"INSERT INTO review_reviewers (review_id, agent_id, place) VALUES (1, {bob}, 1)",
    )


async def test_it_holds_all_of_the_project(office: Office, database: Database) -> None:
    sent = await office.send("Ann", ["Bob"], cc=["Cid"], thread_id="T-1", subject="Plan", body="# The plan")
    await office.acknowledge("Bob", sent.message_id)
    await office.reply("Bob", sent.message_id)
    with_file = await link(office, "Ann", (await add(office)).attachment_id)
    await coordinate(office, database)
    document = await as_json(office)
    assert document["project"]["slug"] == "office"
    assert [agent["name"] for agent in document["agents"]] == ["Ann", "Bob", "Cid", "Dot"]
    assert "owner" not in document["agents"][0]
    first, other = document["threads"]
    assert (first["thread_id"], [m["subject"] for m in first["messages"]]) == ("T-1", ["Plan", "Re: Plan"])
    message = first["messages"][0]
    assert (message["body_md"], message["sender_name"]) == ("# The plan", "Ann")
    assert [(r["name"], r["kind"], "acknowledged_at" in r) for r in message["recipients"]] == [
        ("Bob", "to", True),
        ("Cid", "cc", False),
    ]
    assert other["messages"][0]["message_id"] == with_file
    assert [file["file_name"] for file in other["messages"][0]["attachments"]] == ["plan.md"]
    [contact], [reservation] = document["contacts"], document["reservations"]
    assert (contact["agent_name"], contact["contact_name"], contact["status"]) == ("Ann", "Bob", "accepted")
    assert (reservation["pattern"], reservation["is_exclusive"], reservation["is_literal"]) == ("src/**", True, False)
    [slot], [review] = document["slots"], document["reviews"]
    assert (slot["slot_name"], slot["capacity"], slot["agent_name"], slot["fence"]) == ("main", 2, "Bob", 2)
    assert (review["requester_name"], review["reviewer_names"], review["paths"]) == ("Ann", ["Bob"], ["src/a.py"])
    assert review["created_at"].endswith("Z")


async def test_pages_are_the_whole(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for thread in range(5):
        for number in range(4):
            await office.send("Ann", ["Bob"], thread_id=f"T-{thread}", subject=f"{thread}.{number}")
    whole = await as_json(office)
    monkeypatch.setattr(project_export, "PAGE_ROWS", 2)
    monkeypatch.setattr(project_export, "MESSAGES_A_PAGE", 2)
    paged = await as_json(office)
    assert {**paged, "about": None} == {**whole, "about": None}
    assert [m["subject"] for thread in paged["threads"] for m in thread["messages"]] == [
        f"{thread}.{number}" for thread in range(5) for number in range(4)
    ]


async def test_a_bcc_is_an_administrators_alone(office: Office) -> None:
    await office.send("Ann", ["Bob"], bcc=["Dot"], thread_id="T-1")
    for format_name in ("json", "markdown", "html", "csv"):
        text = await exported(office, format=format_name)
        assert "bcc" not in text.replace("include_bcc", "")
        assert "Dot" not in text[text.index("Hello") :]  # behind the list of agents
    with pytest.raises(Forbidden):
        await exported(office, include_bcc=True)
    admin = office.of("root", role=Role.admin)
    assert "bcc" not in json.dumps((await as_json(admin))["threads"])
    [recipient] = [
        r
        for r in (await as_json(admin, include_bcc=True))["threads"][0]["messages"][0]["recipients"]
        if r["kind"] == "bcc"
    ]
    assert recipient["name"] == "Dot"


async def test_scrubbing_replaces_in_every_section_and_reports(office: Office, database: Database) -> None:
    secret = "ghp_" + "a1B2" * 9
    await office.update("Ann", task_description="mail ann@example.org")
    await office.send("Ann", ["Bob"], subject=f"Key {secret}", body=f"at 10.0.0.7 with {secret}")
    await coordinate(office, database)
    hidden = ("ann@example.org", "10.0.0.7", secret)
    page = await exported(office, format="html")
    assert all(text in page for text in hidden)
    for format_name in ("json", "markdown", "html", "csv"):
        scrubbed = (await exported(office, format=format_name, scrub="standard")).replace("\\", "")
        assert not any(text in scrubbed for text in hidden)
    document = await as_json(office, scrub="standard")
    assert document["replaced"] == {"secret": 3, "email": 2, "ip_address": 1}
    assert document["about"]["scrub"] == "standard"
    assert "replaced" not in await as_json(office)


async def test_csv_reads_back(office: Office) -> None:
    body = '=HYPERLINK("http://x")\r\nsecond "line", with\ttab'
    await office.send("Ann", ["Bob"], subject="-1+1", body=body)
    rows = list(csv.DictReader(io.StringIO(await exported(office, format="csv"), newline="")))
    [message] = [row for row in rows if row["record"] == "message"]
    assert (unguarded(message["subject"]), unguarded(message["text"]), message["who"]) == ("-1+1", body, "Ann")
    assert json.loads(message["all"])["body_md"] == body
    assert message["text"].startswith("'=")


async def test_what_is_sent_after_it_began_is_left_out(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="T-1", subject="before")
    export = await export_project(office.app, office.caller, ExportProject(project_slug=office.slug))
    await office.send("Ann", ["Bob"], thread_id="T-1", subject="after")
    await office.send("Ann", ["Bob"], thread_id="T-2", subject="after")
    document = json.loads(b"".join([piece async for piece in export.chunks()]))
    assert [thread["thread_id"] for thread in document["threads"]] == ["T-1"]
    assert [message["subject"] for message in document["threads"][0]["messages"]] == ["before"]


async def test_an_export_of_what_is_deleted_meanwhile_breaks_off(office: Office) -> None:
    await office.send("Ann", ["Bob"])
    export = await export_project(office.app, office.caller, ExportProject(project_slug=office.slug))
    chunks = export.chunks()
    await anext(chunks)
    await delete_project(office.app, office.caller, DeleteProject(project_slug=office.slug))
    with pytest.raises(ProjectNotFound):
        async for _ in chunks:
            pass


async def test_another_teams_project_is_unknown(office: Office, database: Database) -> None:
    stranger = office.of("stranger", Role.admin, await database.add_team("other"))
    with pytest.raises(ProjectNotFound):
        await exported(stranger)
    with pytest.raises(ProjectNotFound):
        await exported(replace(office, slug="nowhere"))


@pytest.mark.parametrize("scrub", ["none", "standard"])
async def test_the_event_loop_goes_on_between_long_bodies(office: Office, scrub: Literal["none", "standard"]) -> None:
    """All ten are on one page, for which the database is asked once."""
    for number in range(10):
        await office.send("Ann", ["Bob"], thread_id="T-1", body=f"{number:020}" + "x" * project_export.BATCH_CHARACTERS)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    request = ExportProject(project_slug=office.slug, scrub=scrub)
    export = await export_project(office.app, office.caller, request)
    at = {}
    async for piece in export.chunks():
        at.update(dict.fromkeys(re.findall(rb"\d{20}", piece), turns))
    counting.cancel()
    assert len(set(at.values())) == 10
