"""Marking mail as read and acknowledged: once, by its recipient alone, and the first time stays."""

import pytest
from pydantic import ValidationError

from agent_mail_core.errors import AgentNotYours, MessageNotFound, NotARecipient
from tests.contract.databases import Database
from tests.contract.office import Office, fill


async def test_marking_read_counts_each_message_once(office: Office) -> None:
    ids = await fill(office, 3)
    first = await office.mark_read("Bob", ids[1], ids[0])
    assert [message.message_id for message in first.messages] == [ids[1], ids[0]]
    assert all(message.read_at is not None and message.code is None for message in first.messages)
    assert (await office.inbox("Bob")).unread_count == 1
    again = await office.mark_read("Bob", ids[0], ids[1], ids[2])
    assert {m.message_id: m.read_at for m in again.messages}.items() >= {
        m.message_id: m.read_at for m in first.messages
    }.items()
    assert (await office.inbox("Bob")).unread_count == 0


async def test_events_tell_of_messages_in_the_order_they_were_named_in(office: Office, database: Database) -> None:
    ids = await fill(office, 4)
    wanted = [ids[2], ids[0], ids[3], ids[1]]
    await office.mark_read("Bob", *wanted)
    assert [event.message_id for event in await database.events() if event.kind == "message.read"] == wanted


async def test_an_id_given_twice_is_marked_once(office: Office) -> None:
    [message_id] = await fill(office, 1)
    marked = await office.mark_read("Bob", message_id, message_id)
    assert [message.message_id for message in marked.messages] == [message_id]
    assert (await office.inbox("Bob")).unread_count == 0


async def test_what_cannot_be_marked_says_why_and_the_rest_is_marked(office: Office) -> None:
    [own] = await fill(office, 1)
    foreign = (await office.send("Ann", ["Cid"])).message_id
    await office.ensure("second")
    second = Office(office.app, office.caller, "second")
    await second.register("Bob")
    elsewhere = (await second.send("Bob", ["Bob"])).message_id
    marked = await office.mark_read("Bob", 987_654_321, own, foreign, elsewhere)
    assert [(m.message_id, m.code, m.read_at is not None) for m in marked.messages] == [
        (987_654_321, "message_not_found", False),
        (own, None, True),
        (foreign, "not_a_recipient", False),
        (elsewhere, "message_not_found", False),
    ]
    assert (await second.inbox("Bob")).unread_count == 1


async def test_marking_is_for_each_recipient_apart(office: Office) -> None:
    sent = await office.send("Ann", ["Bob", "Cid"])
    await office.mark_read("Bob", sent.message_id)
    assert (await office.inbox("Cid")).unread_count == 1


@pytest.mark.parametrize("ids", [[], [0], [-1], [2**53], list(range(1, 102))])
async def test_marking_takes_one_to_a_hundred_ids(office: Office, ids: list[int]) -> None:
    with pytest.raises(ValidationError):
        await office.mark_read("Bob", *ids)


async def test_marking_a_hundred_at_once_is_fine(office: Office) -> None:
    ids = await fill(office, 100)
    marked = await office.mark_read("Bob", *ids)
    assert [message.message_id for message in marked.messages] == ids
    assert (await office.inbox("Bob")).unread_count == 0


async def test_marking_for_somebody_else_is_refused(office: Office, database: Database) -> None:
    [message_id] = await fill(office, 1)
    before = await database.dump()
    with pytest.raises(AgentNotYours):
        await office.of("somebody").mark_read("Bob", message_id)
    with pytest.raises(AgentNotYours):
        await office.of("somebody").acknowledge("Bob", message_id)
    assert await database.dump() == before


async def test_acknowledging_also_marks_read_and_the_first_times_stay(office: Office) -> None:
    [message_id] = await fill(office, 1, ack_required=True)
    first = await office.acknowledge("Bob", message_id)
    assert first.message_id == message_id
    assert first.read_at <= first.acknowledged_at
    assert (await office.inbox("Bob")).unread_count == 0
    assert await office.acknowledge("Bob", message_id) == first


async def test_acknowledging_what_was_read_keeps_its_reading_time(office: Office) -> None:
    [message_id] = await fill(office, 1)
    read_at = (await office.mark_read("Bob", message_id)).messages[0].read_at
    acknowledged = await office.acknowledge("Bob", message_id)
    assert acknowledged.read_at == read_at
    assert (await office.inbox("Bob")).unread_count == 0


async def test_what_was_not_received_cannot_be_acknowledged(office: Office, database: Database) -> None:
    sent = await office.send("Ann", ["Cid"])
    before = await database.dump()
    with pytest.raises(NotARecipient) as refused:
        await office.acknowledge("Bob", sent.message_id)
    assert refused.value.data == {
        "message_id": sent.message_id,
        "agent_name": "Bob",
        "suggestion": "check_inbox",
    }
    with pytest.raises(MessageNotFound):
        await office.acknowledge("Bob", 987_654_321)
    assert await database.dump() == before
