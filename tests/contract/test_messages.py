"""Sending, reading one message, and what was sent: everybody gets it or nobody does."""

from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core.errors import (
    AgentMailError,
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    DuplicateRecipient,
    InvalidCursor,
    MessageNotFound,
    NoRecipients,
    ProjectNotFound,
    RecipientsRefused,
    RecipientsUnknown,
    ThreadMismatch,
)
from agent_mail_core.fields import BODY_LIMIT
from agent_mail_core.ports import Role
from tests.contract.databases import Database
from tests.contract.office import Office, pages, subjects


async def test_a_message_reaches_to_cc_and_bcc_and_says_so_to_its_sender(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"], cc=["Cid"], bcc=["Dot"], thread_id="A-1")
    assert [(item.name, item.kind) for item in sent.deliveries] == [("Bob", "to"), ("Cid", "cc"), ("Dot", "bcc")]
    assert (sent.thread_id, sent.skipped, sent.replayed) == ("A-1", [], False)
    for name, kind in (("Bob", "to"), ("Cid", "cc"), ("Dot", "bcc")):
        inbox = await office.inbox(name)
        assert [(m.message_id, m.kind, m.created_at) for m in inbox.messages] == [
            (sent.message_id, kind, sent.created_at)
        ]
        assert inbox.unread_count == 1
    assert (await office.inbox("Ann")).messages == []


async def test_no_other_letter_passes_for_an_ascii_one(office: Office) -> None:
    """U+212A, the Kelvin sign, becomes a k in lower case."""
    await office.register("Kay")
    with pytest.raises(RecipientsUnknown):
        await office.send("Ann", ["\N{KELVIN SIGN}ay"])
    with pytest.raises(AgentNotFound):
        await office.send("\N{KELVIN SIGN}ay", ["Ann"])


async def test_a_message_is_read_as_it_was_written(office: Office) -> None:
    body = "# Title\r\n\n\ttab `code` <b>html</b> 東京 👍🏽 e\u0301 \u202e" + "x" * 5000
    sent = await office.send(
        "Ann", ["Bob"], subject="Plan: «A» & B", body=body, priority="high", ack_required=True, thread_id="Feat-1"
    )
    message = await office.get(sent.message_id)
    assert message.body_md == body
    assert (message.subject, message.sender_name, message.thread_id) == ("Plan: «A» & B", "Ann", "Feat-1")
    assert (message.priority, message.ack_required, message.parent_id) == ("high", True, None)
    assert (message.project_slug, message.created_at) == ("office", sent.created_at)


async def test_oneself_may_be_a_recipient(office: Office) -> None:
    sent = await office.send("Ann", ["Ann"])
    assert [m.message_id for m in (await office.inbox("Ann")).messages] == [sent.message_id]


@pytest.mark.parametrize("kind", ["cc", "bcc"])
async def test_to_may_be_empty(office: Office, kind: str) -> None:
    sent = await office.send("Ann", **{kind: ["Bob"]})
    assert [(item.name, item.kind) for item in sent.deliveries] == [("Bob", kind)]


async def test_a_hundred_recipients_may_be_written_to_and_no_more(office: Office) -> None:
    names = [f"Agent{number}" for number in range(101)]
    for name in names:
        await office.register(name)
    sent = await office.send("Ann", names[:40], cc=names[40:80], bcc=names[80:100])
    assert [item.name for item in sent.deliveries] == names[:100]
    shown = await office.get(sent.message_id, "Ann")
    assert [item.name for item in shown.recipients] == names[:100]
    with pytest.raises(ValidationError):
        await office.send("Ann", names[:40], cc=names[40:80], bcc=names[80:])


async def test_names_are_found_ignoring_case_and_shown_in_theirs(office: Office) -> None:
    sent = await office.send("aNN", ["BOB"], cc=["cid@office"], bcc=["dOT@office"])
    assert [item.name for item in sent.deliveries] == ["Bob", "Cid", "Dot"]
    assert (await office.get(sent.message_id)).sender_name == "Ann"


async def test_ids_grow_with_every_message(office: Office) -> None:
    ids = [(await office.send("Ann", ["Bob"])).message_id for _ in range(5)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("priority", ["low", "normal", "high", "urgent"])
async def test_every_priority_is_kept(office: Office, priority: str) -> None:
    sent = await office.send("Ann", ["Bob"], priority=priority)
    assert (await office.get(sent.message_id)).priority == priority
    assert (await office.inbox("Bob")).messages[0].priority == priority


async def test_a_message_without_a_thread_begins_one(office: Office) -> None:
    first, second = await office.send("Ann", ["Bob"]), await office.send("Ann", ["Bob"])
    assert first.thread_id != second.thread_id
    assert first.thread_id.startswith("T-")
    assert len(first.thread_id) == 12
    assert (await office.thread(first.thread_id)).thread.message_count == 1


async def test_a_thread_is_continued_ignoring_case_and_keeps_its_first_spelling(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="Feat-1", subject="First")
    again = await office.send("Bob", ["Ann"], thread_id="FEAT-1", subject="Second")
    assert again.thread_id == "Feat-1"
    shown = await office.thread("feat-1")
    assert (shown.thread.thread_id, shown.thread.subject) == ("Feat-1", "First")
    assert subjects(shown.messages) == ["First", "Second"]


async def test_a_message_joins_the_thread_of_its_parent(office: Office) -> None:
    parent = await office.send("Ann", ["Bob"], thread_id="Feat-1")
    for more in ({}, {"thread_id": "fEAT-1"}):
        sent = await office.send("Bob", ["Ann"], parent_id=parent.message_id, **more)
        assert sent.thread_id == "Feat-1"
        assert (await office.get(sent.message_id)).parent_id == parent.message_id


async def test_a_body_may_be_as_large_as_the_limit_and_may_be_empty(office: Office) -> None:
    for body in ("x" * BODY_LIMIT, "é" * (BODY_LIMIT // 2), "😀" * (BODY_LIMIT // 4), "word " * (BODY_LIMIT // 5), ""):
        sent = await office.send("Ann", ["Bob"], body=body)
        assert (await office.get(sent.message_id)).body_md == body


async def test_a_subject_may_have_200_characters(office: Office) -> None:
    subject = "😀" * 200
    sent = await office.send("Ann", ["Bob"], subject=subject)
    assert (await office.get(sent.message_id)).subject == subject


# --- refused sends: nothing half done ---------------------------------------------------------------------------------

RETIRED = {"name": "Dot", "code": "agent_retired"}
REFUSED: list[tuple[str, dict[str, Any], type[AgentMailError], dict[str, Any]]] = [
    (
        "unknown recipient",
        {"to": ["Bob", "Nobody"]},
        RecipientsUnknown,
        {"recipients": [{"name": "Nobody", "code": "agent_not_found"}]},
    ),
    (
        "near recipient",
        {"to": ["Bob"], "cc": ["Marvni"]},
        RecipientsUnknown,
        {"recipients": [{"name": "Marvni", "code": "agent_not_found", "near": ["Marvin"]}]},
    ),
    (
        "retired recipient",
        {"to": ["Bob"], "bcc": ["dot"]},
        RecipientsRefused,
        {"recipients": [{**RETIRED, "name": "dot"}]},
    ),
    (
        "unknown and retired recipients",
        {"to": ["Nobody", "Dot", "Zyx"]},
        RecipientsUnknown,
        {
            "recipients": [
                {"name": "Nobody", "code": "agent_not_found"},
                {"name": "Zyx", "code": "agent_not_found"},
                RETIRED,
            ]
        },
    ),
    (
        "address in another project",
        {"to": ["Bob@elsewhere"]},
        RecipientsUnknown,
        {"recipients": [{"name": "Bob@elsewhere", "code": "agent_not_found"}]},
    ),
    ("same agent twice", {"to": ["Bob", "Bob"]}, DuplicateRecipient, {"recipients": None}),
    ("same agent in another case", {"to": ["Bob"], "cc": ["bOB"]}, DuplicateRecipient, {"recipients": None}),
    ("same agent with its project", {"to": ["Bob"], "bcc": ["Bob@office"]}, DuplicateRecipient, {"recipients": None}),
    (
        "same agent twice with allow_partial",
        {"to": ["Bob", "bob"], "allow_partial": True},
        DuplicateRecipient,
        {"recipients": None},
    ),
    (
        "nobody left",
        {"to": ["Nobody", "Dot"], "allow_partial": True},
        NoRecipients,
        {"recipients": [{"name": "Nobody", "code": "agent_not_found"}, RETIRED], "suggestion": "list_agents"},
    ),
    (
        "nobody left, but somebody near",
        {"to": ["Marvni"], "allow_partial": True},
        NoRecipients,
        {"recipients": [{"name": "Marvni", "code": "agent_not_found", "near": ["Marvin"]}]},
    ),
    ("unknown sender", {"sender": "Nobody", "to": ["Bob"]}, AgentNotFound, {"agent_name": "Nobody"}),
    ("near sender", {"sender": "Marvni", "to": ["Bob"]}, AgentNotFound, {"near": ["Marvin"]}),
    ("retired sender", {"sender": "dot", "to": ["Bob"]}, AgentRetired, {"agent_name": "Dot"}),
    ("unknown parent", {"to": ["Bob"], "parent_id": 987_654_321}, MessageNotFound, {"message_id": 987_654_321}),
]


@pytest.mark.parametrize("arguments, error, data", [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_a_refused_send_leaves_everything_as_it_was(
    office: Office, database: Database, arguments: dict[str, Any], error: type[AgentMailError], data: dict[str, Any]
) -> None:
    await office.register("Marvin")
    await office.retire("Dot")
    before = await database.dump()
    with pytest.raises(error) as refused:
        await office.send(**{"sender": "Ann", "idempotency_key": "k", "thread_id": "NEW-1", **arguments})
    assert type(refused.value) is error
    for name, value in data.items():
        assert name in refused.value.data
        assert value is None or refused.value.data[name] == value
    assert await database.dump() == before


async def test_a_send_in_an_unknown_project_leaves_everything_as_it_was(office: Office, database: Database) -> None:
    before = await database.dump()
    with pytest.raises(ProjectNotFound) as refused:
        await Office(office.app, office.caller, "offce").send("Ann", ["Bob"], idempotency_key="k")
    assert refused.value.data == {"project_slug": "offce", "near": ["office"], "suggestion": "list_projects"}
    assert await database.dump() == before


async def test_a_thread_that_is_not_the_parents_is_refused(office: Office, database: Database) -> None:
    parent = await office.send("Ann", ["Bob"], thread_id="Feat-1")
    before = await database.dump()
    with pytest.raises(ThreadMismatch) as refused:
        await office.send("Bob", ["Ann"], thread_id="FEAT-2", parent_id=parent.message_id)
    assert refused.value.data == {
        "parent_thread_id": "Feat-1",
        "thread_id": "FEAT-2",
        "suggestion": "call again without thread_id",
    }
    assert await database.dump() == before


async def test_a_parent_of_another_project_looks_like_none(office: Office, database: Database) -> None:
    await office.ensure("second")
    second = Office(office.app, office.caller, "second")
    await second.register("Ann")
    parent = await second.send("Ann", ["Ann"])
    before = await database.dump()
    with pytest.raises(MessageNotFound):
        await office.send("Ann", ["Bob"], parent_id=parent.message_id)
    with pytest.raises(MessageNotFound):
        await office.reply("Ann", parent.message_id)
    assert await database.dump() == before


async def test_sending_as_an_agent_of_another_principal_is_refused(office: Office, database: Database) -> None:
    before = await database.dump()
    with pytest.raises(AgentNotYours) as refused:
        await office.of("somebody").send("Ann", ["Bob"])
    assert refused.value.data == {"agent_name": "Ann", "suggestion": "register_agent"}
    assert await database.dump() == before
    assert (await office.of("boss", Role.admin).send("Ann", ["Bob"])).deliveries


async def test_with_allow_partial_the_rest_is_delivered_and_the_others_are_named(office: Office) -> None:
    await office.retire("Dot")
    sent = await office.send("Ann", ["Bob", "Nobody"], cc=["Dot"], bcc=["Cid"], allow_partial=True)
    assert [(item.name, item.kind) for item in sent.deliveries] == [("Bob", "to"), ("Cid", "bcc")]
    assert {(item.name, item.code) for item in sent.skipped} == {
        ("Nobody", "agent_not_found"),
        ("Dot", "agent_retired"),
    }
    shown = await office.get(sent.message_id, "Ann")
    assert [item.name for item in shown.recipients] == ["Bob", "Cid"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": []},
        {"to": ["Bob"], "subject": ""},
        {"to": ["Bob"], "subject": "   "},
        {"to": ["Bob"], "subject": "two\nlines"},
        {"to": ["Bob"], "subject": "x" * 201},
        {"to": ["Bob"], "body": "x" * (BODY_LIMIT + 1)},
        {"to": ["Bob"], "body": "é" * (BODY_LIMIT // 2 + 1)},
        {"to": ["Bob"], "body": "nul \x00"},
        {"to": ["Bob"], "body": "lone \ud800"},
        {"to": ["Bob"], "thread_id": "list"},
        {"to": ["Bob"], "thread_id": "two words"},
        {"to": ["Bob"], "thread_id": "x" * 129},
        {"to": ["Bob"], "priority": "highest"},
        {"to": ["Bob"], "idempotency_key": ""},
        {"to": ["Bob"], "idempotency_key": "x" * 129},
        {"to": ["Bob"], "parent_id": 0},
        {"to": ["Bob"], "parent_id": 2**53},
        {"to": ["Bob\x00"]},
        {"to": ["Bob"], "sender": "\x1b"},
    ],
)
async def test_a_send_that_cannot_be_right_is_refused_before_anything_is_asked(
    office: Office, database: Database, arguments: dict[str, Any]
) -> None:
    before = await database.dump()
    with pytest.raises(ValidationError):
        await office.send(**{"sender": "Ann", **arguments})
    assert await database.dump() == before


@pytest.mark.parametrize("name", ["' OR 1=1 --", "%", "Bob'; DROP TABLE agents; --", "../Bob", "Bob\\", "*", "@", "@@"])
async def test_a_strange_recipient_is_just_unknown(office: Office, database: Database, name: str) -> None:
    before = await database.dump()
    with pytest.raises(RecipientsUnknown):
        await office.send("Ann", [name])
    assert await database.dump() == before


# --- get_message ------------------------------------------------------------------------------------------------------


async def test_a_message_shows_who_read_and_acknowledged_it(office: Office) -> None:
    sent = await office.send("Ann", ["Bob", "Cid"], ack_required=True)
    read = (await office.mark_read("Bob", sent.message_id)).messages[0]
    acknowledged = await office.acknowledge("Cid", sent.message_id)
    shown = await office.get(sent.message_id)
    assert [(item.name, item.read_at, item.acknowledged_at) for item in shown.recipients] == [
        ("Bob", read.read_at, None),
        ("Cid", acknowledged.read_at, acknowledged.acknowledged_at),
    ]
    assert (shown.read_at, shown.acknowledged_at) == (None, None)
    own = await office.get(sent.message_id, "Cid")
    assert (own.read_at, own.acknowledged_at) == (acknowledged.read_at, acknowledged.acknowledged_at)


async def test_reading_a_message_does_not_mark_it_read(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"])
    await office.get(sent.message_id, "Bob")
    assert (await office.inbox("Bob")).unread_count == 1


async def test_a_message_is_read_by_everybody_in_the_project(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"])
    assert (await office.of("somebody", Role.reader).get(sent.message_id)).body_md == "How are you?"


async def test_an_unknown_message_is_not_found(office: Office) -> None:
    for more in ({}, {"project_slug": "office"}, {"agent_name": "Ann"}):
        with pytest.raises(MessageNotFound) as missed:
            await office.get(987_654_321, **more)
        assert missed.value.data == {"message_id": 987_654_321, "suggestion": "check_inbox"}


async def test_a_message_is_not_found_in_another_project(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"])
    await office.ensure("second")
    with pytest.raises(MessageNotFound):
        await office.get(sent.message_id, project_slug="second")
    with pytest.raises(ProjectNotFound):
        await office.get(sent.message_id, project_slug="third")
    assert (await office.get(sent.message_id, project_slug="office")).message_id == sent.message_id


async def test_a_message_is_read_with_the_eyes_of_an_agent_that_one_may_act_as(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"])
    with pytest.raises(AgentNotYours):
        await office.of("somebody").get(sent.message_id, "Bob")
    with pytest.raises(AgentNotFound):
        await office.get(sent.message_id, "Nobody")


# --- list_outbox ------------------------------------------------------------------------------------------------------


async def test_the_outbox_lists_what_was_sent_newest_first_page_by_page(office: Office) -> None:
    for number in range(7):
        await office.send("Ann", ["Bob"], subject=f"S{number}")
        await office.send("Bob", ["Ann"], subject="not Ann's")
    for limit in (1, 3, 7, 100):
        listed = [
            message async for page in pages(office.outbox, agent_name="Ann", limit=limit) for message in page.messages
        ]
        assert subjects(listed) == [f"S{number}" for number in reversed(range(7))]
        assert all(message.body_md is None for message in listed)


async def test_the_outbox_shows_bodies_when_asked_and_all_recipients(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"], cc=["Cid"], bcc=["Dot"])
    await office.mark_read("Bob", sent.message_id)
    [message] = (await office.outbox("ann", include_bodies=True)).messages
    assert message.body_md == "How are you?"
    assert [(item.name, item.kind, item.read_at is not None) for item in message.recipients] == [
        ("Bob", "to", True),
        ("Cid", "cc", False),
        ("Dot", "bcc", False),
    ]


async def test_a_message_sent_while_paging_repeats_nothing(office: Office) -> None:
    for number in range(4):
        await office.send("Ann", ["Bob"], subject=f"S{number}")
    seen = []
    async for page in pages(office.outbox, agent_name="Ann", limit=1):
        seen += subjects(page.messages)
        await office.send("Ann", ["Bob"], subject="later")
    assert seen == ["S3", "S2", "S1", "S0"]


async def test_the_outbox_is_its_agents_own(office: Office) -> None:
    for _ in range(2):
        await office.send("Ann", ["Bob"])
    cursor = (await office.outbox("Ann", limit=1)).next_cursor
    assert cursor is not None
    with pytest.raises(InvalidCursor):
        await office.outbox("Bob", cursor=cursor)
    with pytest.raises(InvalidCursor):
        await office.outbox("Ann", cursor=cursor[:-1])
    with pytest.raises(InvalidCursor):
        await office.outbox("Ann", cursor=(await office.inbox("Ann")).cursor)
    with pytest.raises(AgentNotYours):
        await office.of("somebody").outbox("Ann")
