"""Agents: one for each name, owned by who registered it, and gone from the mail once retired."""

from datetime import timedelta

import pytest

from agent_mail_core.agents import AgentRecord, NewAgent
from agent_mail_core.errors import (
    AgentNameTaken,
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    IdempotencyConflict,
    InvalidCursor,
    ProjectNotFound,
)
from agent_mail_core.fields import RESERVED_AGENT_NAMES
from agent_mail_core.ids import AgentId, Principal
from agent_mail_core.ports import App, Role, Store
from agent_mail_core.presence import PresenceLog
from tests.contract.databases import Database
from tests.contract.office import TEAM, Office, pages, subjects


async def record(office: Office, name: str) -> AgentRecord:
    """The agent as the store has it."""
    async with office.app.store.read() as db:
        _, agent = await db.agents.find(TEAM, office.slug, name)
    assert agent is not None
    return agent


async def test_a_new_name_makes_an_agent(office: Office) -> None:
    made = await office.register("Eve", task_description="Tests")
    agent = made.agent
    assert made.created
    assert not made.replayed
    assert (agent.name, agent.program, agent.model) == ("Eve", "shell", "m-1")
    assert (agent.task_description, agent.contact_policy, agent.retired_at) == ("Tests", "auto", None)
    assert agent.last_active_at >= agent.registered_at
    assert agent.registered_at.utcoffset() == timedelta(0)


async def test_the_same_name_again_updates_the_profile(office: Office) -> None:
    first = await office.register("Eve", task_description="Tests", contact_policy="open")
    again = await office.register("Eve", program="editor", model="m-2")
    assert not again.created
    assert (again.agent.program, again.agent.model) == ("editor", "m-2")
    assert (again.agent.task_description, again.agent.contact_policy) == ("Tests", "open")
    assert again.agent.registered_at == first.agent.registered_at


async def test_a_name_in_another_case_is_the_same_agent_and_keeps_its_first_case(office: Office) -> None:
    again = await office.register("ANN")
    assert not again.created
    assert again.agent.name == "Ann"


async def test_a_name_of_another_principal_is_refused_and_nothing_changes(office: Office, database: Database) -> None:
    before = await database.dump()
    for name in ("Ann", "ann"):
        with pytest.raises(AgentNameTaken) as refused:
            await office.of("somebody").register(name, program="other")
        assert refused.value.data == {"agent_name": "Ann", "suggestion": "suggest_agent_names"}
    assert await database.dump() == before


async def test_an_administrator_may_register_it_again_but_does_not_come_to_own_it(office: Office) -> None:
    again = await office.of("boss", Role.admin).register("Ann", program="editor")
    assert (again.created, again.agent.program) == (False, "editor")
    assert (await record(office, "Ann")).owner == "local"


async def test_a_retired_name_is_revived_by_its_owner_alone(office: Office) -> None:
    await office.send("Bob", ["Ann"])
    await office.retire("Ann")
    with pytest.raises(AgentNameTaken):
        await office.of("somebody").register("Ann")
    revived = await office.register("Ann")
    assert (revived.created, revived.agent.retired_at) == (False, None)
    assert subjects((await office.inbox("Ann")).messages) == ["Hello"]
    await office.send("Bob", ["Ann"], subject="Welcome back")


async def test_one_name_in_two_projects_is_two_agents(office: Office) -> None:
    await office.ensure("second")
    second = Office(office.app, office.caller, "second")
    assert (await second.register("Ann")).created
    await office.send("Bob", ["Ann"])
    assert (await second.inbox("Ann")).messages == []


async def test_without_a_name_each_gets_a_memorable_one_of_its_own(office: Office) -> None:
    made = [await office.register() for _ in range(40)]
    names = {agent.agent.name.lower() for agent in made}
    assert all(agent.created for agent in made)
    assert len(names) == 40
    assert all(name.isalpha() for name in names)
    assert not names & RESERVED_AGENT_NAMES


async def test_an_agent_has_an_empty_mailbox_from_the_start(office: Office) -> None:
    for name in ((await office.register()).agent.name, (await office.register("Eve")).agent.name):
        shown = await office.whois(name)
        assert (shown.unread_count, shown.received_count, shown.sent_count) == (0, 0, 0)
        assert (await office.inbox(name)).messages == []


async def test_registering_in_an_unknown_project_makes_nothing(office: Office, database: Database) -> None:
    before = await database.dump()
    for name in ("Eve", None):
        with pytest.raises(ProjectNotFound):
            await Office(office.app, office.caller, "offise").register(name)
    assert await database.dump() == before


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
    ids = {name: (await record(office, name)).id for name in ("Ann", "Bob")}
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


# --- suggest_agent_names ----------------------------------------------------------------------------------------------


async def test_suggested_names_are_free_different_and_as_many_as_asked_for(office: Office) -> None:
    for count in (1, 5, 20):
        names = (await office.suggest(count=count)).names
        assert len({name.lower() for name in names}) == count
    assert len((await office.suggest()).names) == 5


async def test_a_suggested_name_holds_the_hint(office: Office) -> None:
    names = (await office.suggest(hint="back end!", count=10)).names
    assert len(names) == 10
    assert all(name.endswith("Backend") for name in names)
    for name in names:
        assert (await office.register(name)).created


async def test_names_that_agents_have_are_not_suggested(office: Office) -> None:
    """With one hint there are some hundred names: registering most of them leaves little to suggest but digits."""
    taken: set[str] = set()
    for _ in range(12):
        for name in (await office.suggest(hint="X", count=20)).names:
            assert name.lower() not in taken
            await office.register(name)
            taken.add(name.lower())
        retired = next(iter(taken))
        await office.retire(retired)
    assert len(taken) == 240


# --- the port ---------------------------------------------------------------------------------------------------------


async def test_last_activity_only_moves_forward_and_unknown_agents_are_passed_over(office: Office) -> None:
    agent = await record(office, "Ann")
    later = agent.last_active_at + timedelta(hours=1)
    for at in (later, agent.last_active_at, later - timedelta(minutes=1)):
        async with office.app.store.write() as db:
            await db.agents.touch({agent.id: at, AgentId(987_654_321): at})
        assert (await record(office, "Ann")).last_active_at == later


async def test_registering_again_counts_as_activity(office: Office) -> None:
    before = await record(office, "Ann")
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
    agent = await record(office, "Ann")
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
    registered = await record(office, "Ann")
    log = app.presence
    assert isinstance(log, PresenceLog)
    await log.flush(app.store, everything=True)
    await office.inbox("Ann")
    await office.wait("Bob", timeout_seconds=0)
    assert await log.flush(app.store, everything=True) == 2
    assert (await record(office, "Ann")).last_active_at > registered.last_active_at
    assert await log.flush(app.store, everything=True) == 0


async def test_a_key_beside_a_name_answers_again_too(office: Office) -> None:
    first = await office.register("Kit", program="one", idempotency_key="k")
    assert (first.created, first.replayed) == (True, False)
    assert await office.register("Kit", program="one", idempotency_key="k") == first.model_copy(
        update={"replayed": True}
    )
    with pytest.raises(IdempotencyConflict):
        await office.register("Kit", program="two", idempotency_key="k")
