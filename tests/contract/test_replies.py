"""Replies: whom they go to, what they are called, and that a bcc recipient only ever answers the sender."""

import pytest
from pydantic import ValidationError

from agent_mail_core.delivery import SentMessage
from agent_mail_core.errors import (
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    BccReplyAll,
    DuplicateRecipient,
    MessageNotFound,
    NoRecipients,
    RecipientsRefused,
    RecipientsUnknown,
)
from tests.contract.databases import Database
from tests.contract.office import Office


def recipients(sent: SentMessage) -> list[tuple[str, str]]:
    return [(item.name, item.kind) for item in sent.deliveries]


async def test_a_reply_goes_to_the_sender_in_the_same_thread(office: Office) -> None:
    first = await office.send("Ann", ["Bob", "Cid"], thread_id="Feat-1", subject="Plan")
    reply = await office.reply("Bob", first.message_id, body_md="Good.")
    assert recipients(reply) == [("Ann", "to")]
    assert reply.thread_id == "Feat-1"
    shown = await office.get(reply.message_id)
    assert (shown.subject, shown.body_md, shown.parent_id) == ("Re: Plan", "Good.", first.message_id)
    assert (await office.inbox("Cid")).unread_count == 1


async def test_reply_all_goes_to_the_sender_and_everybody_visible_but_oneself(office: Office) -> None:
    first = await office.send("Ann", ["Bob", "Cid"], cc=["Dot"])
    assert recipients(await office.reply("Cid", first.message_id, reply_all=True)) == [
        ("Ann", "to"),
        ("Bob", "to"),
        ("Dot", "cc"),
    ]


async def test_reply_all_leaves_out_who_was_bcc(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], cc=["Cid"], bcc=["Dot"])
    for sender in ("Bob", "Ann"):
        reply = await office.reply(sender, first.message_id, reply_all=True)
        assert "Dot" not in {item.name for item in reply.deliveries}


async def test_a_reply_to_oneself_goes_to_the_original_recipients(office: Office) -> None:
    first = await office.send("Ann", ["Bob", "Cid"], cc=["Dot"])
    assert recipients(await office.reply("Ann", first.message_id)) == [("Bob", "to"), ("Cid", "to")]
    assert recipients(await office.reply("Ann", first.message_id, reply_all=True)) == [
        ("Bob", "to"),
        ("Cid", "to"),
        ("Dot", "cc"),
    ]


async def test_a_reply_all_to_a_note_to_oneself_and_others_names_nobody_twice(office: Office) -> None:
    first = await office.send("Ann", ["Ann", "Bob"], cc=["Cid"])
    assert recipients(await office.reply("Ann", first.message_id, reply_all=True)) == [
        ("Ann", "to"),
        ("Bob", "to"),
        ("Cid", "cc"),
    ]
    assert recipients(await office.reply("Bob", first.message_id, reply_all=True)) == [("Ann", "to"), ("Cid", "cc")]


async def test_a_reply_to_oneself_without_a_visible_to_needs_names(office: Office, database: Database) -> None:
    first = await office.send("Ann", bcc=["Bob"])
    before = await database.dump()
    with pytest.raises(NoRecipients):
        await office.reply("Ann", first.message_id)
    assert await database.dump() == before


async def test_a_reply_may_name_its_recipients_instead(office: Office) -> None:
    first = await office.send("Ann", ["Bob"])
    assert recipients(await office.reply("Bob", first.message_id, recipient_names=["Cid", "dot"])) == [
        ("Cid", "to"),
        ("Dot", "to"),
    ]


async def test_recipients_and_reply_all_exclude_each_other(office: Office) -> None:
    first = await office.send("Ann", ["Bob"])
    with pytest.raises(ValidationError):
        await office.reply("Bob", first.message_id, recipient_names=["Cid"], reply_all=True)
    with pytest.raises(ValidationError):
        await office.reply("Bob", first.message_id, recipient_names=[])


async def test_somebody_who_did_not_get_a_message_may_answer_it(office: Office) -> None:
    first = await office.send("Ann", ["Bob"])
    assert recipients(await office.reply("Cid", first.message_id, reply_all=True)) == [("Ann", "to"), ("Bob", "to")]


@pytest.mark.parametrize(
    "subject, expected",
    [
        ("Plan", "Re: Plan"),
        ("Re: Plan", "Re: Plan"),
        ("RE: Plan", "RE: Plan"),
        ("re:Plan", "re:Plan"),
        ("Regarding", "Re: Regarding"),
        ("x" * 200, "Re: " + "x" * 196),
        ("Re: " + "x" * 196, "Re: " + "x" * 196),
    ],
)
async def test_the_subject_says_re_once_and_is_cut_to_200(office: Office, subject: str, expected: str) -> None:
    first = await office.send("Ann", ["Bob"], subject=subject)
    reply = await office.reply("Bob", first.message_id)
    assert (await office.get(reply.message_id)).subject == expected
    again = await office.reply("Ann", reply.message_id)
    assert (await office.get(again.message_id)).subject == expected


async def test_a_reply_has_the_priority_of_what_it_answers_unless_told_otherwise(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], priority="urgent", ack_required=True)
    inherited = await office.reply("Bob", first.message_id)
    assert (await office.get(inherited.message_id)).priority == "urgent"
    assert not (await office.get(inherited.message_id)).ack_required
    told = await office.reply("Bob", first.message_id, priority="normal", ack_required=True)
    assert (await office.get(told.message_id)).priority == "normal"
    assert (await office.get(told.message_id)).ack_required


# --- bcc --------------------------------------------------------------------------------------------------------------


async def test_a_bcc_recipient_answers_the_sender_alone(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], cc=["Cid"], bcc=["Dot"])
    assert recipients(await office.reply("Dot", first.message_id)) == [("Ann", "to")]
    for address in ("Ann", "ann", "Ann@office"):
        named = await office.reply("Dot", first.message_id, recipient_names=[address])
        assert recipients(named) == [("Ann", "to")]


async def test_a_bcc_recipient_may_not_reply_to_all_nor_to_others(office: Office, database: Database) -> None:
    first = await office.send("Ann", ["Bob"], bcc=["Dot"])
    before = await database.dump()
    for more in ({"reply_all": True}, {"recipient_names": ["Bob"]}, {"recipient_names": ["Ann", "Bob"]}):
        with pytest.raises(BccReplyAll) as refused:
            await office.reply("Dot", first.message_id, **more)
        assert "reply_message" in refused.value.data["suggestion"]
    assert await database.dump() == before


async def test_who_sent_itself_a_bcc_may_still_reply_to_all(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], bcc=["Ann"])
    assert recipients(await office.reply("Ann", first.message_id, reply_all=True)) == [("Bob", "to")]


async def test_the_answer_to_a_bcc_recipients_reply_goes_to_it(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], bcc=["Dot"])
    reply = await office.reply("Dot", first.message_id)
    assert recipients(await office.reply("Ann", reply.message_id)) == [("Dot", "to")]


# --- refused replies --------------------------------------------------------------------------------------------------


async def test_a_reply_to_a_retired_sender_is_refused(office: Office, database: Database) -> None:
    first = await office.send("Ann", ["Bob"], cc=["Cid"])
    await office.retire("Ann")
    before = await database.dump()
    with pytest.raises(RecipientsRefused) as refused:
        await office.reply("Bob", first.message_id)
    assert refused.value.data["recipients"] == [{"name": "Ann", "code": "agent_retired"}]
    assert await database.dump() == before
    partial = await office.reply("Bob", first.message_id, reply_all=True, allow_partial=True)
    assert recipients(partial) == [("Cid", "cc")]
    assert [(item.name, item.code) for item in partial.skipped] == [("Ann", "agent_retired")]


async def test_a_refused_reply_leaves_everything_as_it_was(office: Office, database: Database) -> None:
    first = await office.send("Ann", ["Bob"])
    await office.retire("Dot")
    before = await database.dump()
    with pytest.raises(MessageNotFound):
        await office.reply("Bob", 987_654_321, idempotency_key="k")
    with pytest.raises(AgentNotFound):
        await office.reply("Nobody", first.message_id, idempotency_key="k")
    with pytest.raises(AgentNotYours):
        await office.of("somebody").reply("Bob", first.message_id, idempotency_key="k")
    with pytest.raises(AgentRetired):
        await office.reply("Dot", first.message_id, idempotency_key="k")
    with pytest.raises(RecipientsUnknown):
        await office.reply("Bob", first.message_id, recipient_names=["Ann", "Nobody"], idempotency_key="k")
    with pytest.raises(DuplicateRecipient):
        await office.reply("Bob", first.message_id, recipient_names=["Ann", "ann"], idempotency_key="k")
    assert await database.dump() == before
