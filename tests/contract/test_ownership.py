"""An agent belongs to its principal, and a team sees nothing of another (SPEC 3.3 rule 6, SPEC 6)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from agent_mail_core.errors import AgentMailError, AgentNotYours
from agent_mail_core.fields import Result
from agent_mail_core.ports import Role
from agent_mail_server.operations import OPERATIONS
from tests.contract.databases import Database
from tests.contract.office import Office

Call: TypeAlias = Callable[[Office, "Names"], Awaitable[Result]]


@dataclass(frozen=True)
class Names:
    """What a call speaks of: a message that `agent` got from `other`, and its thread."""

    agent: str
    other: str
    message_id: int
    thread_id: str
    human_key: str


ACTING: dict[str, Call] = {
    "send_message": lambda office, names: office.send(names.agent, [names.other]),
    "reply_message": lambda office, names: office.reply(names.agent, names.message_id),
    "check_inbox": lambda office, names: office.inbox(names.agent),
    "wait_for_messages": lambda office, names: office.wait(names.agent, timeout_seconds=0),
    "get_message": lambda office, names: office.get(names.message_id, names.agent),
    "list_outbox": lambda office, names: office.outbox(names.agent),
    "mark_read": lambda office, names: office.mark_read(names.agent, names.message_id),
    "acknowledge_message": lambda office, names: office.acknowledge(names.agent, names.message_id),
    "list_pending_acks": lambda office, names: office.pending(names.agent),
    "update_agent": lambda office, names: office.update(names.agent, model="m-9"),
    "retire_agent": lambda office, names: office.retire(names.agent),
}
LOOKING: dict[str, Call] = {
    "get_project": lambda office, names: office.project(),
    "register_agent": lambda office, names: office.register("Newcomer"),
    "list_agents": lambda office, names: office.agents(),
    "whois": lambda office, names: office.whois(names.agent),
    "suggest_agent_names": lambda office, names: office.suggest(count=1, hint="X"),
    "search_messages": lambda office, names: office.search("hello", agent_name=names.agent),
    "list_threads": lambda office, names: office.threads(agent_name=names.agent),
    "get_thread": lambda office, names: office.thread(names.thread_id),
}
WITHOUT_A_PROJECT = ["health", "ready", "metrics", "list_projects", "ensure_project"]
OF_PRODUCTS = ["ensure_product", "link_project", "unlink_project", "product_inbox", "list_products"]
"""Their names belong to a team: test_products.py has them."""


def test_every_operation_is_in_these_tables() -> None:
    tables = [*ACTING, *LOOKING, *WITHOUT_A_PROJECT, *OF_PRODUCTS]
    assert sorted(tables) == sorted(operation.name for operation in OPERATIONS)


async def names_in(office: Office) -> Names:
    sent = await office.send("Bob", ["Ann"], thread_id="Feat-1", ack_required=True)
    return Names("Ann", "Bob", sent.message_id, "Feat-1", "office")


@pytest.mark.parametrize("operation", ACTING)
async def test_acting_as_an_agent_of_another_principal_is_refused(
    office: Office, database: Database, operation: str
) -> None:
    names = await names_in(office)
    before = await database.dump()
    for role in (Role.reader, Role.writer, Role.overseer):
        with pytest.raises(AgentNotYours) as refused:
            await ACTING[operation](office.of("somebody", role), names)
        assert refused.value.data == {"agent_name": "Ann"}
    assert await database.dump() == before


@pytest.mark.parametrize("operation", ACTING)
async def test_an_administrator_may_act_as_every_agent(office: Office, operation: str) -> None:
    await ACTING[operation](office.of("boss", Role.admin), await names_in(office))


@pytest.mark.parametrize("operation", LOOKING)
async def test_everybody_of_the_team_may_look_at_the_project(office: Office, operation: str) -> None:
    await LOOKING[operation](office.of("somebody"), await names_in(office))


# --- teams ------------------------------------------------------------------------------------------------------------


async def outcome(call: Call, office: Office, names: Names) -> tuple[str, str]:
    """How a call ends and what it says, what it spoke of replaced by words, so that two outcomes can be compared."""
    try:
        ending, text = "answer", (await call(office, names)).model_dump_json()
    except AgentMailError as error:
        ending, text = error.code, f"{error.message} {sorted(error.data.items())}"
    for value, word in (
        (office.slug, "<project>"),
        (names.thread_id, "<thread>"),
        (str(names.message_id), "<id>"),
        (names.agent, "<agent>"),
        (names.other, "<other>"),
    ):
        text = text.replace(value, word)
    return ending, text


@pytest.fixture
async def foreign(office: Office, database: Database) -> Office:
    """Our office, asked for by the administrator of another team that has an office of its own."""
    team = await database.add_team("rivals")
    theirs = office.of("rival", Role.admin, team)
    await theirs.ensure("rivals")
    for name in ("Una", "Vic"):
        await Office(office.app, theirs.caller, "rivals").register(name)
    return theirs


@pytest.mark.parametrize("operation", [*ACTING, *LOOKING])
async def test_another_teams_project_answers_as_one_that_does_not_exist(
    office: Office, foreign: Office, database: Database, operation: str
) -> None:
    call = {**ACTING, **LOOKING}[operation]
    real = await names_in(office)
    made_up = Names("Xxx", "Yyy", real.message_id + 1000, "Gone-7", "nobody")
    nowhere = Office(foreign.app, foreign.caller, "offize")
    before = await database.dump()
    answers = await outcome(call, foreign, real), await outcome(call, nowhere, made_up)
    assert answers[0] == answers[1]
    assert answers[0][0] in ("project_not_found", "message_not_found")
    assert await database.dump() == before


@pytest.mark.parametrize("operation", ["get_message", "reply_message", "mark_read", "acknowledge_message"])
async def test_another_teams_message_answers_as_one_that_does_not_exist(
    office: Office, foreign: Office, database: Database, operation: str
) -> None:
    real = await names_in(office)
    inside = Office(foreign.app, foreign.caller, "rivals")
    ours = Names("Una", "Vic", real.message_id, "Feat-1", "rivals")
    made_up = Names("Una", "Vic", real.message_id + 1000, "Feat-1", "rivals")
    before = await database.dump()
    answers = await outcome(ACTING[operation], inside, ours), await outcome(ACTING[operation], inside, made_up)
    assert answers[0] == answers[1]
    assert "message_not_found" in str(answers[0])
    assert await database.dump() == before


async def test_another_teams_thread_project_and_parent_answer_as_none(office: Office, foreign: Office) -> None:
    real = await names_in(office)
    inside = Office(foreign.app, foreign.caller, "rivals")
    for call in (
        lambda names: inside.thread(names.thread_id),
        lambda names: inside.inbox("Una", thread_id=names.thread_id),
        lambda names: inside.send("Una", ["Vic"], parent_id=names.message_id),
        lambda names: inside.send("Una", [names.agent]),
        lambda names: inside.send("Una", [f"{names.agent}@{names.human_key}"]),
        lambda names: inside.get(names.message_id, project_slug=names.human_key),
        lambda names: inside.search("hello", project_slug=names.human_key),
    ):
        made_up = Names("Xxx", "Yyy", real.message_id + 1000, "Gone-7", "offize")
        codes = []
        for names in (real, made_up):
            with pytest.raises(AgentMailError) as refused:
                await call(names)
            codes.append((refused.value.code, sorted(refused.value.data)))
        assert codes[0] == codes[1]


async def test_lists_and_searches_of_a_team_hold_nothing_of_another(office: Office, foreign: Office) -> None:
    await office.ensure("/secret/place", description="Confidential")
    await office.send("Ann", ["Bob"], subject="Confidential", body="Confidential")
    listed = await foreign.projects()
    assert [project.slug for project in listed.projects] == ["rivals"]
    assert (await foreign.search("confidential", project_slug=None)).hits == []
    assert (await foreign.search("-nothing", project_slug=None)).hits == []


async def test_two_teams_may_use_the_same_keys_names_and_threads(office: Office, foreign: Office) -> None:
    made = await foreign.ensure("office")
    assert (made.created, made.project.slug) == (True, "office")
    assert (await foreign.register("Ann")).created
    await office.send("Ann", ["Bob"], thread_id="Feat-1", subject="ours")
    sent = await foreign.send("Ann", ["Ann"], thread_id="FEAT-1", subject="theirs", idempotency_key="k")
    assert sent.thread_id == "FEAT-1"
    assert (await office.thread("Feat-1")).thread.subject == "ours"
    assert [message.subject for message in (await foreign.inbox("Ann")).messages] == ["theirs"]
    assert (await office.project()).agent_count == 4
    assert not (await office.send("Ann", ["Bob"], subject="theirs", idempotency_key="k")).replayed
