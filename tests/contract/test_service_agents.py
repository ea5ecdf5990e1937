"""Overseer and System: in every project, on no list, nobody's to act as (SPEC 2, 3.3 rule 4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core.agents import AgentRecord, the_agent
from agent_mail_core.errors import AgentNotFound, AgentNotYours, InvalidContact
from agent_mail_core.ports import Role
from tests.contract.databases import Database
from tests.contract.leasing import force_through, pass_time, reserve
from tests.contract.office import Office, subjects

SERVICE = pytest.mark.parametrize("name", ["Overseer", "System"])


async def record(office: Office, name: str) -> AgentRecord:
    async with office.app.store.read() as db:
        return (await the_agent(db, office.caller, office.slug, name)).agent


async def test_every_project_has_them_from_the_start(office: Office) -> None:
    await office.ensure("/code/other")
    await office.ensure("/code/other", description="Asked for twice")
    for slug in ("office", "/code/other"):
        there = Office(office.app, office.caller, slug)
        overseer, system = await record(there, "overseer"), await record(there, "SYSTEM")
        assert (overseer.name, overseer.contact_policy, overseer.is_service) == ("Overseer", "open", True)
        assert (system.name, system.contact_policy, system.is_service) == ("System", "block_all", True)


async def test_they_are_on_no_list_and_in_no_count(office: Office) -> None:
    listed = await office.agents(include_retired=True, active_within_seconds=3600)
    assert [agent.name for agent in listed.agents] == ["Ann", "Bob", "Cid", "Dot"]
    project = await office.project()
    assert {agent.name for agent in project.agents} == {"Ann", "Bob", "Cid", "Dot"}
    assert project.agent_count == 4
    assert [listing.agent_count for listing in (await office.projects()).projects] == [4]


@pytest.mark.parametrize("near", ["Overser", "Sistem"])
async def test_they_are_nobodys_near_name(office: Office, near: str) -> None:
    with pytest.raises(AgentNotFound) as refused:
        await office.whois(near)
    assert "near" not in refused.value.data


@SERVICE
async def test_whois_knows_them(office: Office, name: str) -> None:
    shown = await office.whois(name.lower())
    assert (shown.agent.name, shown.agent.program, shown.received_count) == (name, "agent-mail", 0)


async def test_mail_to_overseer_is_read_by_those_who_write_as_it(office: Office) -> None:
    sent = await office.send("Ann", ["Overseer", "Bob"], subject="May I?")
    await office.reply("Bob", sent.message_id, reply_all=True, body_md="Me too?")
    for role in (Role.overseer, Role.admin):
        inbox = await office.of("person", role).inbox("Overseer")
        assert subjects(inbox.messages) == ["Re: May I?", "May I?"]
        assert inbox.unread_count == 2
    for role in (Role.reader, Role.writer):
        with pytest.raises(AgentNotYours):
            await office.of("local", role).inbox("Overseer")


@pytest.mark.parametrize("role", Role)
async def test_systems_inbox_is_nobodys(office: Office, role: Role) -> None:
    with pytest.raises(AgentNotYours):
        await office.of("person", role).inbox("System")


ACTS: dict[str, dict[str, Any]] = {
    "send_message": {"sender_name": "{}", "recipient_names": ["Ann"], "subject": "Obey", "body_md": "!"},
    "broadcast_message": {"sender_name": "{}", "subject": "Obey", "body_md": "!"},
    "update_agent": {"agent_name": "{}", "contact_policy": "open"},
    "set_contact_policy": {"agent_name": "{}", "policy": "open"},
    "retire_agent": {"agent_name": "{}"},
    "transfer_agent": {"agent_name": "{}", "principal": "local"},
    "mark_read": {"agent_name": "{}", "message_ids": [1]},
    "reserve_file": {"agent_name": "{}", "paths": ["src"]},
    "acquire_build_slot": {"agent_name": "{}", "slot_name": "ci"},
    "hand_off": {"from_agent": "{}", "to_agent": "Ann", "task": "Mine"},
}


@SERVICE
@pytest.mark.parametrize("operation", ACTS)
async def test_nobody_acts_as_them(office: Office, database: Database, name: str, operation: str) -> None:
    arguments = {key: name.lower() if value == "{}" else value for key, value in ACTS[operation].items()}
    before = await database.dump()
    with pytest.raises(AgentNotYours) as refused:
        await office.of("root", Role.admin).call(operation, project_slug="office", **arguments)
    assert refused.value.data == {"agent_name": name, "suggestion": "register_agent"}
    assert await database.dump() == before


@SERVICE
async def test_nobody_blocks_them(office: Office, name: str) -> None:
    with pytest.raises(InvalidContact):
        await office.call("block_contact", project_slug="office", agent_name="Ann", contact_name=name)


# --- what System writes -----------------------------------------------------------------------------------------------


async def test_whose_reservation_is_taken_away_is_told_by_system(office: Office) -> None:
    taken = (await reserve(office, "Ann", "src/`x`.py")).granted[0]
    await office.update("Ann", contact_policy="block_all")
    await force_through(office, "Bob", taken.id, "it blocks the *release*")
    [told] = (await office.inbox("Ann", include_bodies=True)).messages
    assert (told.sender_name, told.subject) == ("System", f"Your reservation {taken.id} was released by Bob")
    assert told.body_md is not None
    for line in ("    src/`x`.py", "    it blocks the *release*"):
        assert line in told.body_md.splitlines()
    await force_through(office, "Bob", taken.id, "again")
    assert (await office.inbox("Ann")).unread_count == 1


async def test_who_only_let_its_time_run_out_is_told_nothing(office: Office, database: Database) -> None:
    held = (await reserve(office, "Ann", "src")).granted[0]
    await pass_time(database, timedelta(hours=2))
    await force_through(office, "Bob", held.id)
    assert (await office.inbox("Ann")).messages == []
