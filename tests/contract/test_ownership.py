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
    review_id: int
    """Of a review that `other` asked for and `agent` has claimed."""

    reservation_id: int
    """Of a reservation that `other` holds."""


def acting(operation: str, **more: object) -> Call:
    """The operation as `agent`; a function among the arguments makes its value of the names."""

    def call(office: Office, names: Names) -> Awaitable[Result]:
        given = {field: value(names) if callable(value) else value for field, value in more.items()}
        return office.call(operation, project_slug=office.slug, agent_name=names.agent, **given)

    return call


def looking(operation: str, **more: object) -> Call:
    """The operation in the project, as nobody."""
    return lambda office, names: office.call(operation, project_slug=office.slug, **more)


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
    "prepare_thread": lambda office, names: office.call(
        "prepare_thread", project_slug=office.slug, agent_name=names.agent, thread_id=names.thread_id
    ),
    "update_agent": lambda office, names: office.update(names.agent, model="m-9"),
    "retire_agent": lambda office, names: office.retire(names.agent),
    "broadcast_message": lambda office, names: office.call(
        "broadcast_message", project_slug=office.slug, sender_name=names.agent, subject="All", body_md="Hello"
    ),
    "hand_off": lambda office, names: office.call(
        "hand_off", project_slug=office.slug, from_agent=names.agent, to_agent=names.other, task="Go on"
    ),
    "request_review": lambda office, names: office.call(
        "request_review", project_slug=office.slug, requester_name=names.agent, thread_id=names.thread_id
    ),
    "claim_review": lambda office, names: office.call(
        "claim_review", project_slug=office.slug, agent_name=names.agent, review_id=names.review_id
    ),
    "complete_review": lambda office, names: office.call(
        "complete_review",
        project_slug=office.slug,
        agent_name=names.agent,
        review_id=names.review_id,
        verdict="comment",
        body_md="Hm",
    ),
    "add_contact": acting("add_contact", contact_name=lambda names: names.other),
    "respond_contact": acting("respond_contact", contact_name=lambda names: names.other, accept=True),
    "list_contacts": acting("list_contacts"),
    "block_contact": acting("block_contact", contact_name=lambda names: names.other),
    "unblock_contact": acting("unblock_contact", contact_name=lambda names: names.other),
    "set_contact_policy": acting("set_contact_policy", policy="open"),
    "reserve_file": acting("reserve_file", paths=["src/new.py"]),
    "release_file": acting("release_file"),
    "renew_file": acting("renew_file"),
    "force_release_file": acting(
        "force_release_file", reservation_id=lambda names: names.reservation_id, reason="It is late", override=True
    ),
    "acquire_build_slot": acting("acquire_build_slot", slot_name="ci"),
    "renew_build_slot": acting("renew_build_slot", slot_name="ci"),
    "release_build_slot": acting("release_build_slot", slot_name="ci"),
    "add_attachment": acting("add_attachment", file_name="a.txt", content_base64="aGk="),
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
    "summarize_thread": lambda office, names: office.call(
        "summarize_thread", project_slug=office.slug, thread_ids=[names.thread_id], wait_seconds=0
    ),
    "get_review": lambda office, names: office.call("get_review", project_slug=office.slug, review_id=names.review_id),
    "list_reviews": lambda office, names: office.call("list_reviews", project_slug=office.slug, agent_name=names.agent),
    "send_overseer_message": lambda office, names: office.call(
        "send_overseer_message",
        project_slug=office.slug,
        recipient_names=[names.agent],
        subject="Stop",
        body_md="Now",
    ),
    "transfer_agent": lambda office, names: office.call(
        "transfer_agent", project_slug=office.slug, agent_name=names.agent, principal="local"
    ),
    "check_paths": looking("check_paths", paths=["src/a.py"]),
    "list_reservations": looking("list_reservations"),
    "list_slots": looking("list_slots"),
    "set_slot_capacity": looking("set_slot_capacity", slot_name="ci", capacity=2),
    "list_activity": looking("list_activity"),
    "export_project": looking("export_project"),
    "delete_project": looking("delete_project"),
}
WITHOUT_A_PROJECT = ["health", "ready", "metrics", "list_projects", "ensure_project", "start_session"]
OF_REVIEWS = ["cancel_review"]
"""It names no agent of the caller's: test_reviews.py has it."""

OF_PRODUCTS = ["ensure_product", "link_project", "unlink_project", "product_inbox", "list_products"]
"""Their names belong to a team: test_products.py has them."""

OF_ATTACHMENTS = ["get_attachment"]
"""By an id alone: test_attachments.py has it."""

OF_THE_ARCHIVE = ["archive_log", "archive_show"]
"""They need an archive: test_archive.py has them."""

OF_JOBS = ["list_dead_jobs", "retry_job", "drop_job"]
"""Administrators', of no project: test_dead_jobs.py has them."""

OF_WEBHOOKS = [
    "add_webhook",
    "remove_webhook",
    "list_webhooks",
    "list_webhook_deliveries",
    "test_webhook",
    "redeliver_webhook",
]
"""Administrators', by an id: test_webhooks.py and test_webhook_calls.py have them."""

OF_HOLDS = ["set_legal_hold", "list_legal_holds"]
"""Administrators': test_retention.py has them."""


def test_every_operation_is_in_these_tables() -> None:
    elsewhere = [
        *OF_REVIEWS,
        *OF_PRODUCTS,
        *OF_ATTACHMENTS,
        *OF_THE_ARCHIVE,
        *OF_JOBS,
        *OF_WEBHOOKS,
        *OF_HOLDS,
    ]
    tables = [*ACTING, *LOOKING, *WITHOUT_A_PROJECT, *elsewhere]
    assert sorted(tables) == sorted(operation.name for operation in OPERATIONS)


async def names_in(office: Office) -> Names:
    sent = await office.send("Bob", ["Ann"], thread_id="Feat-1", ack_required=True)
    of_review = {"project_slug": office.slug, "thread_id": "Feat-1", "requester_name": "Bob"}
    review_id = (await office.call("request_review", **of_review)).review_id
    await office.call("claim_review", project_slug=office.slug, agent_name="Ann", review_id=review_id)
    held = await office.call("reserve_file", project_slug=office.slug, agent_name="Bob", paths=["src/bobs.py"])
    await office.call("acquire_build_slot", project_slug=office.slug, agent_name="Ann", slot_name="ci", capacity=1)
    await office.call("add_contact", project_slug=office.slug, agent_name="Bob", contact_name="Ann")
    return Names("Ann", "Bob", sent.message_id, "Feat-1", "office", review_id, held.granted[0].id)


@pytest.mark.parametrize("operation", ACTING)
async def test_acting_as_an_agent_of_another_principal_is_refused(
    office: Office, database: Database, operation: str
) -> None:
    names = await names_in(office)
    before = await database.dump()
    for role in (Role.reader, Role.writer, Role.overseer):
        with pytest.raises(AgentNotYours) as refused:
            await ACTING[operation](office.of("somebody", role), names)
        assert refused.value.data == {"agent_name": "Ann", "suggestion": "register_agent"}
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
        (str(names.review_id), "<review>"),
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
    made_up = Names(
        "Xxx", "Yyy", real.message_id + 1000, "Gone-7", "nobody", real.review_id + 1000, real.reservation_id + 1000
    )
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
    ours = Names("Una", "Vic", real.message_id, "Feat-1", "rivals", real.review_id, real.reservation_id)
    made_up = Names(
        "Una", "Vic", real.message_id + 1000, "Feat-1", "rivals", real.review_id + 1000, real.reservation_id + 1000
    )
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
        made_up = Names(
            "Xxx", "Yyy", real.message_id + 1000, "Gone-7", "offize", real.review_id + 1000, real.reservation_id + 1000
        )
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
