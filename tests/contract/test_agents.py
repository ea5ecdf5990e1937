"""Agents: one for each name, owned by who registered it, and gone from the mail once retired."""

from datetime import timedelta

import pytest

from agent_mail_core.agents import NewAgent
from agent_mail_core.errors import AgentNotFound, AgentNotYours, AgentRetired, InvalidCursor
from agent_mail_core.ids import AgentId, Principal
from agent_mail_core.ports import App, Store
from agent_mail_core.presence import PresenceLog
from tests.contract.databases import Database
from tests.contract.office import TEAM, Office, pages

# --- list_agents ------------------------------------------------------------------------------------------------------


async def test_agents_are_listed_by_name_ignoring_case_page_by_page(office: Office) -> None:
    names = ["zed", "Zac", "ann-2", "Ann_1", "ANN1", "b", "B2", "a", "Ann", "Bob", "Cid", "Dot"]
    for name in names[:-4]:
        await office.register(name)
    for limit in (1, 2, 5, 100):
        listed = [agent.name async for page in pages(office.agents, limit=limit) for agent in page.agents]
        assert listed == sorted(names, key=str.lower)


async def test_retired_agents_are_listed_only_when_asked_for(office: Office) -> None:
    await office.retire("Bob")
    assert [agent.name for agent in (await office.agents()).agents] == ["Ann", "Cid", "Dot"]
    everyone = (await office.agents(include_retired=True)).agents
    assert [agent.name for agent in everyone if agent.retired_at] == ["Bob"]
    assert len(everyone) == 4


async def test_agents_can_be_listed_by_when_they_were_last_active(office: Office) -> None:
    ids = {name: (await office.record(name)).id for name in ("Ann", "Bob")}
    now = office.app.clock.now()
    async with office.app.store.write() as db:
        await db.agents.touch({ids["Ann"]: now + timedelta(hours=2), ids["Bob"]: now + timedelta(hours=1)})
    async with office.app.store.read() as db:
        project, _ = await db.agents.find(TEAM, office.slug, "Ann")
        assert project is not None
        found = await db.agents.page(project.id, now + timedelta(minutes=90), False, None, 10)
        assert [agent.name for agent in found] == ["Ann"]
        recent = await db.agents.recent(project.id, 2)
        assert [agent.name for agent in recent] == ["Ann", "Bob"]
    assert len((await office.agents(active_within_seconds=3600)).agents) == 4


async def test_a_cursor_of_other_filters_is_refused(office: Office) -> None:
    cursor = (await office.agents(limit=1)).next_cursor
    assert cursor is not None
    for other in ({"include_retired": True}, {"active_within_seconds": 60}):
        with pytest.raises(InvalidCursor):
            await office.agents(cursor=cursor, **other)
    await office.ensure("second")
    with pytest.raises(InvalidCursor):
        await Office(office.app, office.caller, "second").agents(cursor=cursor)


# --- whois ------------------------------------------------------------------------------------------------------------


async def test_whois_shows_profile_counts_and_what_was_done_last(office: Office) -> None:
    sent = await office.send("Ann", ["Bob", "Ann"], thread_id="A-1")
    await office.send("Bob", ["Ann"])
    await office.mark_read("Ann", sent.message_id)
    shown = await office.whois("ann")
    assert shown.agent.name == "Ann"
    assert (shown.unread_count, shown.received_count, shown.sent_count) == (1, 2, 1)
    assert [(item.kind, item.message_id) for item in shown.recent_activity] == [
        ("message.read", sent.message_id),
        ("message.sent", sent.message_id),
        ("agent.registered", None),
    ]
    assert shown.recent_activity[1].data["thread_id"] == "A-1"
    times = [item.at for item in shown.recent_activity]
    assert times == sorted(times, reverse=True)


async def test_whois_shows_the_last_ten_things(office: Office) -> None:
    sent = [(await office.send("Ann", ["Bob"])).message_id for _ in range(12)]
    shown = await office.whois("Ann")
    assert [item.message_id for item in shown.recent_activity] == sent[:1:-1]


async def test_whois_of_a_retired_agent_still_answers(office: Office) -> None:
    await office.retire("Ann")
    assert (await office.whois("Ann")).agent.retired_at is not None


async def test_a_missed_name_brings_up_to_three_near_ones(office: Office) -> None:
    for name in ("GreenLake", "GreenLane", "GreenLark", "GreenLamp", "Xyz"):
        await office.register(name)
    with pytest.raises(AgentNotFound) as missed:
        await office.whois("greenlak")
    assert missed.value.data["agent_name"] == "greenlak"
    assert missed.value.data["project_slug"] == "office"
    assert len(missed.value.data["near"]) == 3
    assert set(missed.value.data["near"]) <= {"GreenLake", "GreenLane", "GreenLark", "GreenLamp"}
    assert missed.value.data["suggestion"] == "list_agents"


async def test_only_who_would_act_as_an_unknown_agent_is_told_to_register(office: Office) -> None:
    with pytest.raises(AgentNotFound) as missed:
        await office.whois("Wxyz")
    assert "near" not in missed.value.data
    assert missed.value.data["suggestion"] == "list_agents"
    with pytest.raises(AgentNotFound) as missed:
        await office.inbox("Wxyz")
    assert missed.value.data["suggestion"] == "register_agent"


async def test_a_retired_agent_is_no_near_name(office: Office) -> None:
    await office.register("Marvin")
    await office.retire("Marvin")
    with pytest.raises(AgentNotFound) as missed:
        await office.whois("Marvni")
    assert "near" not in missed.value.data


@pytest.mark.parametrize("name", ["' OR 1=1 --", "%", "*", "ANN ", "Änn", "Ann\u0130", "\u212aid", "Ann@office"])
async def test_a_strange_name_is_just_unknown(office: Office, name: str) -> None:
    with pytest.raises(AgentNotFound):
        await office.whois(name)


# --- update_agent, retire_agent ---------------------------------------------------------------------------------------


async def test_an_update_changes_what_is_given_and_nothing_else(office: Office) -> None:
    await office.register("Eve", task_description="Tests", contact_policy="open")
    changed = await office.update("eve", model="m-2")
    assert (changed.name, changed.program, changed.model) == ("Eve", "shell", "m-2")
    assert (changed.task_description, changed.contact_policy) == ("Tests", "open")
    changed = await office.update("Eve", program="editor", task_description="", contact_policy="block_all")
    assert (changed.program, changed.model) == ("editor", "m-2")
    assert (changed.task_description, changed.contact_policy) == ("", "block_all")
    assert (await office.whois("Eve")).agent == changed


async def test_a_retired_agent_is_not_updated(office: Office, database: Database) -> None:
    await office.retire("Ann")
    before = await database.dump()
    with pytest.raises(AgentRetired) as refused:
        await office.update("Ann", model="m-2")
    assert refused.value.data == {"agent_name": "Ann", "suggestion": "register_agent"}
    assert await database.dump() == before


async def test_retiring_twice_keeps_the_first_time(office: Office) -> None:
    first = await office.retire("ann")
    assert first.retired_at is not None
    assert (await office.retire("Ann")).retired_at == first.retired_at


async def test_a_retired_agent_keeps_its_mail_and_may_read_it(office: Office) -> None:
    sent = await office.send("Bob", ["Ann"])
    await office.retire("Ann")
    assert [message.message_id for message in (await office.inbox("Ann")).messages] == [sent.message_id]
    assert (await office.mark_read("Ann", sent.message_id)).messages[0].read_at is not None


async def test_updating_and_retiring_belong_to_the_owner(office: Office, database: Database) -> None:
    stranger = office.of("somebody")
    before = await database.dump()
    with pytest.raises(AgentNotYours) as refused:
        await stranger.update("Ann", model="m-2")
    assert refused.value.data == {"agent_name": "Ann", "suggestion": "register_agent"}
    with pytest.raises(AgentNotYours):
        await stranger.retire("Ann")
    assert await database.dump() == before


# --- the port ---------------------------------------------------------------------------------------------------------


async def test_last_activity_only_moves_forward_and_unknown_agents_are_passed_over(office: Office) -> None:
    agent = await office.record("Ann")
    later = agent.last_active_at + timedelta(hours=1)
    for at in (later, agent.last_active_at, later - timedelta(minutes=1)):
        async with office.app.store.write() as db:
            await db.agents.touch({agent.id: at, AgentId(987_654_321): at})
        assert (await office.record("Ann")).last_active_at == later


async def test_registering_again_counts_as_activity(office: Office) -> None:
    before = await office.record("Ann")
    again = await office.register("Ann")
    assert again.agent.last_active_at > before.last_active_at
    later = again.agent.last_active_at + timedelta(hours=1)
    async with office.app.store.write() as db:
        await db.agents.touch({before.id: later})
    assert (await office.register("Ann")).agent.last_active_at == later


async def test_touching_nobody_is_fine(store: Store) -> None:
    async with store.write() as db:
        await db.agents.touch({})


async def test_the_first_free_of_several_names_is_taken(office: Office) -> None:
    agent = await office.record("Ann")
    new = NewAgent(TEAM, agent.project_id, Principal("local"), "shell", "m-1", None, None)
    async with office.app.store.write() as db:
        made = await db.agents.register_free(["ann", "BOB", "Eve", "Fay"], new)
        assert made is not None
        assert made.name == "Eve"
        assert await db.agents.register_free(["eve", "ann"], new) is None
    async with office.app.store.read() as db:
        assert await db.agents.taken(agent.project_id, ["ANN", "eve", "fay"]) == {"ann", "eve"}
        assert await db.agents.taken(agent.project_id, []) == set()


async def test_reading_and_waiting_count_as_activity_once_presence_is_written(office: Office, app: App) -> None:
    registered = await office.record("Ann")
    log = app.presence
    assert isinstance(log, PresenceLog)
    await log.flush(app.store, everything=True)
    await office.inbox("Ann")
    await office.wait("Bob", timeout_seconds=0)
    assert await log.flush(app.store, everything=True) == 2
    assert (await office.record("Ann")).last_active_at > registered.last_active_at
    assert await log.flush(app.store, everything=True) == 0
