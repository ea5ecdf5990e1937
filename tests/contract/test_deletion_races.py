"""What runs beside the deletion of its project: nothing that it writes is left in there."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent_mail_core.contacts import NewContact
from agent_mail_core.errors import ProjectNotFound
from agent_mail_core.ports import Role
from agent_mail_core.project_deletion import sweep_deleted
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.writing import Writing
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.foreign_mail import agent_id
from tests.contract.office import TEAM, Office
from tests.contract.test_project_deletion import delete
from tests.contract.test_races import insisting


@pytest.fixture
async def branch(office: Office) -> Office:
    """Another project, with the agent Eve."""
    branch = replace(office, slug="branch")
    await branch.ensure("branch")
    await branch.register("Eve")
    return branch


DOOMED = {"project_slug": "doomed"}
LATE: dict[str, tuple[str, dict[str, Any]]] = {
    "register": ("register_agent", {**DOOMED, "name": "New", "program": "shell", "model": "m-1"}),
    "update": ("update_agent", {**DOOMED, "agent_name": "Ann", "model": "m-2"}),
    "start": ("start_session", {"human_key": "doomed", "program": "shell", "model": "m-1", "agent_name": "Ann"}),
    "link": ("link_project", {**DOOMED, "product_name": "Shop"}),
    "block": ("block_contact", {**DOOMED, "agent_name": "Ann", "contact_name": "Eve@branch"}),
    "upload": ("add_attachment", {**DOOMED, "agent_name": "Ann", "file_name": "a.txt", "content_base64": "YQ=="}),
    "webhook": ("add_webhook", {**DOOMED, "url": "https://93.184.216.34/hook"}),
    "hold": ("set_legal_hold", {**DOOMED, "on_hold": True}),
}


@pytest.mark.parametrize("database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
@pytest.mark.parametrize("late", LATE)
async def test_what_found_its_project_before_the_deletion_writes_nothing_after_it(
    office: Office,
    branch: Office,
    family: StoreFamily,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    late: str,
) -> None:
    office = replace(office, caller=replace(office.caller, role=Role.admin))
    await office.call("ensure_product", name="Shop")
    before = await database.dump()
    doomed = replace(office, slug="doomed")
    await doomed.ensure("doomed")
    await doomed.register("Ann")
    has_found, may_go_on = asyncio.Event(), asyncio.Event()
    rows = Writing.rows

    async def paused(block: Writing, statement: str, *arguments: object) -> list[Row]:
        found = await rows(block, statement, *arguments)
        if asyncio.current_task() is writing and not has_found.is_set() and "projects" in statement:
            has_found.set()
            await may_go_on.wait()
        return found

    monkeypatch.setattr(Writing, "rows", paused)
    operation, arguments = LATE[late]
    writing = asyncio.create_task(insisting(lambda: office.call(operation, **arguments)))
    await has_found.wait()
    await delete(replace(doomed, app=replace(office.app, store=await family.open())))
    may_go_on.set()
    if late == "start":  # it makes the project anew
        assert (await writing).created
        await delete(doomed)
    else:
        with pytest.raises(ProjectNotFound):
            await writing
    await sweep_deleted(office.app, 100)
    after = await database.dump()
    changed = {table for table, told in after.items() if told != before[table]}
    assert changed == {"projects", "agents", "events", "outbox"}
    assert not any(name in row for row in set(after["agents"]) - set(before["agents"]) for name in ("Ann", "New"))


@pytest.mark.parametrize("asked", ["add_contact", "block_contact"])
async def test_a_purge_takes_what_another_projects_agent_made_meanwhile(
    office: Office, branch: Office, database: Database, asked: str
) -> None:
    """It is not of the deleted project, and may be committed just after the deletion looked."""
    eve, ann = await agent_id(branch, "Eve"), await agent_id(office, "Ann")
    await delete(office)
    async with office.app.store.write() as db:
        if asked == "add_contact":
            await db.contacts.ask([NewContact(TEAM, eve, ann, False)])
        else:
            await db.contacts.block(eve, ann)
    await sweep_deleted(office.app, 100)
    after = await database.dump()
    assert (after["contacts"], after["blocks"]) == ([], [])
