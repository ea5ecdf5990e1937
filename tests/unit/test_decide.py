"""decide: the one rule for who gets a message, on made-up facts."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.admission import Acquaintance, Pair
from agent_mail_core.agents import Actor, AgentRecord
from agent_mail_core.deciding import decide, new_thread_key
from agent_mail_core.delivery import (
    SUBJECT_LENGTH,
    Draft,
    ForeignThread,
    OpenPairs,
    Outgoing,
    Parent,
    SendFacts,
    SentMessage,
    Skipped,
    idempotency_scope,
)
from agent_mail_core.errors import (
    AgentMailError,
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    BccReplyAll,
    ContactRequired,
    DuplicateRecipient,
    IdempotencyConflict,
    MessageNotFound,
    NoRecipients,
    ProjectNotFound,
    RecipientsRefused,
    RecipientsUnknown,
    ThreadMismatch,
    ThreadNotFound,
)
from agent_mail_core.fields import RECIPIENT_KINDS, THREAD_KEY, RecipientKind
from agent_mail_core.idempotency import StoredAnswer
from agent_mail_core.ids import AgentId, MessageId, Principal, ProjectId, TeamId, ThreadId
from agent_mail_core.messages import Recipient
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.search_text import index_text

NOW = datetime(2026, 11, 22, 13, 41, tzinfo=UTC)
PROJECT = ProjectRecord(ProjectId(7), TeamId(1), "office", "/code/office", None, NOW)

DEPOT = replace(PROJECT, id=ProjectId(8), slug="depot")


def agent(number: int, name: str, owner: str = "local", is_retired: bool = False) -> AgentRecord:
    retired_at = NOW if is_retired else None
    return AgentRecord(
        AgentId(number), PROJECT.id, name, "shell", "m-1", None, "auto", Principal(owner), NOW, NOW, retired_at
    )


ANN, BOB, CID, DOT = (agent(number, name) for number, name in enumerate(("Ann", "Bob", "Cid", "Dot"), start=1))
OLD = agent(5, "Old", is_retired=True)
AGENTS = {record.name.lower(): record for record in (ANN, BOB, CID, DOT, OLD)}
SEND = Outgoing(
    team_id=TeamId(1),
    principal=Principal("local"),
    is_admin=False,
    operation="send_message",
    project_ref="office",
    sender_name="Ann",
    to=("Bob",),
    cc=(),
    bcc=(),
    subject="Plan",
    body_md="The body",
    body_index=index_text("", "The body"),
    thread_key=None,
    parent_id=None,
    reply_all=False,
    priority="normal",
    ack_required=False,
    allow_partial=False,
    idempotency_key=None,
    fingerprint=b"f",
)
REPLY = replace(
    SEND, operation="reply_message", sender_name="Bob", to=(), subject=None, priority=None, parent_id=MessageId(3)
)
FACTS = SendFacts(project=PROJECT, agents=AGENTS, parent=None, answer=None)


def parent(*recipients: tuple[AgentRecord, RecipientKind], sender: AgentRecord = ANN, **more: Any) -> SendFacts:
    """Facts with a parent that `sender` sent to these."""
    actors = tuple((Actor(PROJECT, record), kind) for record, kind in recipients)
    made = Parent(MessageId(3), PROJECT, ThreadId(9), "Feat-1", "Plan", "high", Actor(PROJECT, sender), actors)
    return replace(FACTS, parent=replace(made, **more))


def drafted(send: Outgoing, facts: SendFacts = FACTS) -> Draft:
    draft = decide(send, facts)
    assert isinstance(draft, Draft)
    return draft


def names(draft: Draft) -> list[tuple[str, str]]:
    return [(actor.agent.name, kind) for actor, kind in draft.recipients]


def test_a_send_becomes_a_draft_of_itself() -> None:
    draft = drafted(replace(SEND, to=("bob",), cc=("Cid",), bcc=("DOT",), priority="urgent", ack_required=True))
    assert names(draft) == [("Bob", "to"), ("Cid", "cc"), ("Dot", "bcc")]
    assert (draft.project_id, draft.sender, draft.parent_id) == (PROJECT.id, Actor(PROJECT, ANN), None)
    assert (draft.subject, draft.body_md, draft.priority, draft.ack_required) == ("Plan", "The body", "urgent", True)
    assert draft.index == index_text("Plan", "The body")
    assert draft.scope is None


def test_the_answer_names_all_deliveries_and_the_event_no_bcc() -> None:
    draft = drafted(replace(SEND, bcc=("Cid",), to=("Bob", "Nobody"), allow_partial=True))
    sent = draft.sent(MessageId(4), "Feat-1", NOW)
    assert sent.deliveries == [Recipient(name="Bob", kind="to"), Recipient(name="Cid", kind="bcc")]
    assert sent.skipped == [Skipped(name="Nobody", code="agent_not_found")]
    assert (sent.message_id, sent.thread_id, sent.created_at, sent.replayed) == (4, "Feat-1", NOW, False)
    assert draft.event_data == {"thread_id": draft.thread_key, "sender": "Ann", "to": ["Bob"], "cc": []}
    assert "Cid" not in json.dumps(draft.event_data)


def test_a_new_thread_gets_a_key_that_is_a_valid_one() -> None:
    keys = {new_thread_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"T-[A-Z2-7]{10}", key) and re.fullmatch(THREAD_KEY, key) for key in keys)
    draft = drafted(SEND)
    assert draft.thread_id is None
    assert draft.thread_key.startswith("T-")


def test_a_named_thread_is_kept_and_a_parents_thread_taken() -> None:
    assert (
        drafted(replace(SEND, thread_key="X-1")).thread_id,
        drafted(replace(SEND, thread_key="X-1")).thread_key,
    ) == (
        None,
        "X-1",
    )
    for key in (None, "Feat-1", "FEAT-1"):
        draft = drafted(replace(SEND, parent_id=MessageId(3), thread_key=key), parent((BOB, "to")))
        assert (draft.thread_id, draft.thread_key, draft.parent_id) == (9, "Feat-1", 3)


REFUSALS: list[tuple[Outgoing, SendFacts, type[AgentMailError]]] = [
    (SEND, replace(FACTS, project=None), ProjectNotFound),
    (replace(SEND, sender_name="Nobody"), FACTS, AgentNotFound),
    (replace(SEND, principal=Principal("somebody")), FACTS, AgentNotYours),
    (replace(SEND, sender_name="old"), FACTS, AgentRetired),
    (replace(SEND, parent_id=MessageId(3)), FACTS, MessageNotFound),
    (replace(SEND, parent_id=MessageId(3)), parent((BOB, "to"), sender=CID, project=DEPOT), MessageNotFound),
    (replace(SEND, parent_id=MessageId(3), thread_key="Feat-2"), parent((BOB, "to")), ThreadMismatch),
    (replace(SEND, to=("Bob", "Nobody")), FACTS, RecipientsUnknown),
    (replace(SEND, to=("Bob", "Old")), FACTS, RecipientsRefused),
    (replace(SEND, to=("Nobody", "Old")), FACTS, RecipientsUnknown),
    (replace(SEND, to=("Bob@elsewhere",)), FACTS, RecipientsUnknown),
    (replace(SEND, to=("Bob",), cc=("BOB",)), FACTS, DuplicateRecipient),
    (replace(SEND, to=("Bob",), bcc=("Bob@office",)), FACTS, DuplicateRecipient),
    (replace(SEND, to=("Nobody", "nobody")), FACTS, DuplicateRecipient),
    (replace(SEND, to=("Nobody", "Old"), allow_partial=True), FACTS, NoRecipients),
    (replace(SEND, to=("Bob", "bob"), allow_partial=True), FACTS, DuplicateRecipient),
    (REPLY, FACTS, MessageNotFound),
    (replace(REPLY, sender_name="Ann"), parent((BOB, "bcc")), NoRecipients),
    (replace(REPLY, reply_all=True), parent((CID, "to"), (BOB, "bcc")), BccReplyAll),
    (replace(REPLY, to=("Cid",)), parent((CID, "to"), (BOB, "bcc")), BccReplyAll),
    (replace(REPLY, to=("Ann", "Cid")), parent((CID, "to"), (BOB, "bcc")), BccReplyAll),
    (replace(REPLY, to=("Nobody",)), parent((CID, "to"), (BOB, "bcc")), BccReplyAll),
    (REPLY, parent((BOB, "to"), sender=OLD), RecipientsRefused),
]


@pytest.mark.parametrize("send, facts, error", REFUSALS)
def test_what_breaks_a_rule_is_refused(send: Outgoing, facts: SendFacts, error: type[AgentMailError]) -> None:
    with pytest.raises(AgentMailError) as refused:
        decide(send, facts)
    assert type(refused.value) is error


def test_an_administrator_may_send_as_anybody() -> None:
    assert drafted(replace(SEND, principal=Principal("boss"), is_admin=True)).sender.agent == ANN


REPLIES: list[tuple[dict[str, Any], SendFacts, list[tuple[str, str]]]] = [
    ({}, parent((BOB, "to"), (CID, "cc")), [("Ann", "to")]),
    ({"reply_all": True}, parent((BOB, "to"), (CID, "cc"), (DOT, "bcc")), [("Ann", "to"), ("Cid", "cc")]),
    ({"to": ("Cid", "dot")}, parent((BOB, "to")), [("Cid", "to"), ("Dot", "to")]),
    ({"sender_name": "Ann"}, parent((BOB, "to"), (CID, "cc"), (DOT, "bcc")), [("Bob", "to")]),
    (
        {"sender_name": "Ann", "reply_all": True},
        parent((BOB, "to"), (CID, "cc"), (DOT, "bcc")),
        [("Bob", "to"), ("Cid", "cc")],
    ),
    ({"sender_name": "Ann", "reply_all": True}, parent((ANN, "to"), (BOB, "to")), [("Ann", "to"), ("Bob", "to")]),
    ({"reply_all": True}, parent((ANN, "to"), (BOB, "to"), (CID, "to")), [("Ann", "to"), ("Cid", "to")]),
    ({"sender_name": "Dot"}, parent((BOB, "to"), (DOT, "bcc")), [("Ann", "to")]),
    ({"sender_name": "Dot", "to": ("ANN",)}, parent((BOB, "to"), (DOT, "bcc")), [("Ann", "to")]),
    ({"sender_name": "Dot", "to": ("Ann@office",)}, parent((BOB, "to"), (DOT, "bcc")), [("Ann", "to")]),
    ({"sender_name": "Cid", "reply_all": True}, parent((BOB, "to")), [("Ann", "to"), ("Bob", "to")]),
]


@pytest.mark.parametrize("changes, facts, expected", REPLIES)
def test_whom_a_reply_goes_to(changes: dict[str, Any], facts: SendFacts, expected: list[tuple[str, str]]) -> None:
    draft = drafted(replace(REPLY, **changes), facts)
    assert names(draft) == expected
    assert (draft.subject, draft.priority, draft.thread_id) == ("Re: Plan", "high", 9)


def test_a_reply_may_have_a_priority_of_its_own() -> None:
    assert drafted(replace(REPLY, priority="low"), parent((BOB, "to"))).priority == "low"


@given(subject=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=SUBJECT_LENGTH))
def test_replies_to_replies_keep_one_subject(subject: str) -> None:
    first = drafted(REPLY, parent((BOB, "to"), subject=subject)).subject
    assert first[:3].lower() == "re:"
    assert 1 <= len(first) <= SUBJECT_LENGTH
    assert drafted(REPLY, parent((BOB, "to"), subject=first)).subject == first


def test_what_was_answered_before_is_answered_again_whatever_has_changed() -> None:
    answer = drafted(SEND).sent(MessageId(4), "T-1", NOW)
    stored = StoredAnswer(b"f", answer.model_dump_json())
    for facts in (FACTS, replace(FACTS, agents={"ann": replace(ANN, retired_at=NOW)})):
        again = decide(replace(SEND, idempotency_key="k"), replace(facts, answer=stored))
        assert again == answer.model_copy(update={"replayed": True})
    with pytest.raises(IdempotencyConflict):
        decide(replace(SEND, idempotency_key="k", fingerprint=b"g"), replace(FACTS, answer=stored))
    with pytest.raises(AgentNotYours):
        decide(replace(SEND, idempotency_key="k", principal=Principal("x")), replace(FACTS, answer=stored))


def test_a_key_belongs_to_principal_agent_and_operation() -> None:
    scope = idempotency_scope(replace(SEND, idempotency_key="k"), ANN)
    assert scope is not None
    assert scope == drafted(replace(SEND, idempotency_key="k")).scope
    others = [
        idempotency_scope(replace(SEND, idempotency_key="K"), ANN),
        idempotency_scope(replace(SEND, idempotency_key="k"), BOB),
        idempotency_scope(replace(SEND, idempotency_key="k", principal=Principal("x")), ANN),
        idempotency_scope(replace(SEND, idempotency_key="k", operation="reply_message"), ANN),
        idempotency_scope(replace(SEND, idempotency_key="k", team_id=TeamId(2)), ANN),
    ]
    assert scope not in others
    assert idempotency_scope(SEND, ANN) is None


def test_recipient_kinds_are_stored_in_this_order() -> None:
    assert get_args(RecipientKind) == RECIPIENT_KINDS == ("to", "cc", "bcc")


addresses = st.lists(st.sampled_from(["Ann", "bob", "CID", "Dot", "Old", "Nobody", "Cid@office", "Bob@x"]), max_size=4)


@given(to=addresses, cc=addresses, bcc=addresses, allow_partial=st.booleans())
def test_every_send_is_refused_whole_or_reaches_each_agent_once(
    to: list[str], cc: list[str], bcc: list[str], allow_partial: bool
) -> None:
    send = replace(SEND, to=tuple(to), cc=tuple(cc), bcc=tuple(bcc), allow_partial=allow_partial)
    try:
        draft = decide(send, FACTS)
    except (DuplicateRecipient, RecipientsUnknown, RecipientsRefused, NoRecipients):
        return
    assert isinstance(draft, Draft)
    reached = [actor.agent.id for actor, _ in draft.recipients]
    assert reached
    assert len(set(reached)) == len(reached)
    assert OLD.id not in reached
    assert len(reached) + len(draft.skipped) == len(to) + len(cc) + len(bcc)
    assert allow_partial or not draft.skipped
    assert [kind for _, kind in draft.recipients] == sorted(
        (kind for _, kind in draft.recipients), key=RECIPIENT_KINDS.index
    )


def test_a_replayed_answer_is_the_one_that_was_given() -> None:
    answer = SentMessage(
        message_id=4, thread_id="T-1", created_at=NOW, deliveries=[Recipient(name="Dot", kind="bcc")], skipped=[]
    )
    assert SentMessage.model_validate_json(answer.model_dump_json()) == answer


# --- other projects, and who may write to whom ------------------------------------------------------------------------

ZOE = Actor(DEPOT, replace(agent(20, "Zoe"), project_id=DEPOT.id, contact_policy="open"))
YAN = Actor(DEPOT, replace(agent(21, "Yan"), project_id=DEPOT.id))
ABROAD = replace(FACTS, foreign={("depot", "zoe"): ZOE, ("depot", "yan"): YAN})


def test_an_agent_of_another_project_is_named_as_each_side_writes_it() -> None:
    draft = drafted(replace(SEND, to=("Bob", "zoe@depot")), ABROAD)
    sent = draft.sent(MessageId(4), draft.thread_key, NOW)
    assert [recipient.name for recipient in sent.deliveries] == ["Bob", "Zoe@depot"]
    assert draft.event_data["to"] == ["Bob", "Zoe@depot"]


def test_a_foreign_threads_message_lives_and_is_told_there() -> None:
    thread = ForeignThread(ThreadId(9), DEPOT, "Far-1", is_party=True)
    draft = drafted(
        replace(SEND, to=("Zoe@depot", "Bob"), thread_key="far-1@depot"), replace(ABROAD, foreign_thread=thread)
    )
    assert (draft.project, draft.thread_id, draft.thread_key) == (DEPOT, 9, "Far-1")
    assert draft.event_data == {"thread_id": "Far-1", "sender": "Ann@office", "to": ["Zoe", "Bob@office"], "cc": []}
    sent = draft.sent(MessageId(4), draft.thread_key, NOW)
    assert (sent.thread_id, [item.name for item in sent.deliveries]) == ("Far-1@depot", ["Zoe@depot", "Bob"])


@pytest.mark.parametrize("thread", [None, ForeignThread(ThreadId(9), DEPOT, "Far-1", is_party=False)])
def test_a_foreign_thread_is_unknown_to_who_takes_no_part_in_it(thread: ForeignThread | None) -> None:
    with pytest.raises(ThreadNotFound):
        decide(replace(SEND, to=("Bob",), thread_key="Far-1@depot"), replace(FACTS, foreign_thread=thread))


def test_what_must_be_known_is_asked_once_and_for_those_alone_whom_it_concerns() -> None:
    send = replace(SEND, to=("Bob", "Zoe@depot", "Yan@depot"), thread_key="Feat-1")
    asked = decide(send, ABROAD)
    pair = Pair(ANN.id, YAN.agent.id, (PROJECT.id, "Feat-1"))
    assert asked == OpenPairs((pair,))
    assert names(drafted(send, replace(ABROAD, known={pair: Acquaintance(tie="accepted")})))[2] == ("Yan", "to")
    new_thread = decide(replace(send, thread_key=None), ABROAD)
    assert new_thread == OpenPairs((pair._replace(thread=None),))


def test_without_leave_nobody_gets_it_and_the_contact_is_missing() -> None:
    send = replace(SEND, to=("Bob", "Yan@depot"))
    with pytest.raises(ContactRequired) as refused:
        decide(send, replace(ABROAD, known={}))
    assert refused.value.data["recipients"] == [{"name": "Yan@depot", "code": "contact_required"}]
    assert refused.value.missing == ((Actor(PROJECT, ANN), YAN),)
    with pytest.raises(ContactRequired) as refused:
        decide(replace(send, asks_for_contacts=False), replace(ABROAD, known={}))
    assert refused.value.missing == ()
    draft = drafted(replace(send, allow_partial=True), replace(ABROAD, known={}))
    assert (names(draft), draft.missing) == ([("Bob", "to")], ((Actor(PROJECT, ANN), YAN),))
    with pytest.raises(NoRecipients) as nobody:
        decide(replace(send, to=("Yan@depot",), allow_partial=True), replace(ABROAD, known={}))
    assert nobody.value.missing == ((Actor(PROJECT, ANN), YAN),)


def test_a_party_of_another_project_answers_in_the_messages_project() -> None:
    facts = parent((BOB, "to"), (ANN, "cc"), sender=CID, project=DEPOT)
    assert facts.parent is not None
    sender = Actor(DEPOT, replace(CID, project_id=DEPOT.id, contact_policy="open"))
    draft = drafted(
        replace(SEND, to=("Bob",), parent_id=MessageId(3)), replace(facts, parent=replace(facts.parent, sender=sender))
    )
    assert (draft.project, draft.thread_id) == (DEPOT, 9)
