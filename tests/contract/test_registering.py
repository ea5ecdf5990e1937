"""Registering: one agent for each name, owned by whoever registered it first; and free names for who brings none."""

from datetime import timedelta

import pytest

from agent_mail_core.errors import AgentNameTaken, IdempotencyConflict, ProjectNotFound
from agent_mail_core.fields import RESERVED_AGENT_NAMES
from agent_mail_core.ports import Role
from tests.contract.databases import Database
from tests.contract.office import Office, subjects


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
    assert (await office.record("Ann")).owner == "local"


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


async def test_a_key_beside_a_name_answers_again_too(office: Office) -> None:
    first = await office.register("Kit", program="one", idempotency_key="k")
    assert (first.created, first.replayed) == (True, False)
    assert await office.register("Kit", program="one", idempotency_key="k") == first.model_copy(
        update={"replayed": True}
    )
    with pytest.raises(IdempotencyConflict):
        await office.register("Kit", program="two", idempotency_key="k")


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
