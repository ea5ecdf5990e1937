"""Inboxes: pages, cursors and filters."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core.cursors import inbox_cursor
from agent_mail_core.errors import (
    AgentNotFound,
    AgentNotYours,
    CursorExpired,
    InvalidCursor,
    ThreadNotFound,
)
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.office import Office, fill, subjects


def names(*numbers: int) -> list[str]:
    return [f"S{number}" for number in numbers]


async def test_an_empty_inbox_has_a_cursor_for_what_will_come(office: Office) -> None:
    empty = await office.inbox("Bob")
    assert (empty.messages, empty.unread_count, empty.older_cursor) == ([], 0, None)
    await fill(office, 2)
    assert subjects((await office.inbox("Bob", cursor=empty.cursor)).messages) == names(0, 1)


async def test_without_a_cursor_the_newest_page_comes_newest_first(office: Office) -> None:
    await fill(office, 5)
    page = await office.inbox("Bob", limit=3)
    assert subjects(page.messages) == names(4, 3, 2)
    assert page.unread_count == 5
    assert page.older_cursor is not None


async def test_a_page_that_holds_all_has_no_older_cursor(office: Office) -> None:
    await fill(office, 3)
    assert (await office.inbox("Bob", limit=3)).older_cursor is None


async def test_before_goes_back_to_the_first_message(office: Office) -> None:
    await fill(office, 7)
    for limit in (1, 2, 3, 7):
        seen: list[str] = []
        page = await office.inbox("Bob", limit=limit)
        while True:
            seen += subjects(page.messages)
            if page.older_cursor is None:
                break
            page = await office.inbox("Bob", limit=limit, before=page.older_cursor)
        assert seen == names(6, 5, 4, 3, 2, 1, 0)


async def test_a_cursor_goes_forward_oldest_first_to_the_end(office: Office) -> None:
    start = (await office.inbox("Bob")).cursor
    await fill(office, 7)
    for limit in (1, 2, 3, 7, 20):
        seen: list[str] = []
        cursor = start
        for _ in range(10):
            page = await office.inbox("Bob", limit=limit, cursor=cursor)
            assert page.older_cursor is None
            assert len(page.messages) <= limit
            seen += subjects(page.messages)
            cursor = page.cursor
        assert seen == names(0, 1, 2, 3, 4, 5, 6)


async def test_the_cursor_of_the_newest_page_covers_all_that_came_before(office: Office) -> None:
    await fill(office, 5)
    page = await office.inbox("Bob", limit=2)
    assert (await office.inbox("Bob", cursor=page.cursor)).messages == []
    await office.send("Ann", ["Bob"], subject="new")
    assert subjects((await office.inbox("Bob", cursor=page.cursor)).messages) == ["new"]


async def test_the_cursor_of_an_older_page_goes_on_where_the_newer_page_began(office: Office) -> None:
    await fill(office, 6)
    newest = await office.inbox("Bob", limit=2)
    older = await office.inbox("Bob", limit=2, before=newest.older_cursor)
    assert subjects(older.messages) == names(3, 2)
    assert subjects((await office.inbox("Bob", cursor=older.cursor)).messages) == names(4, 5)


async def test_mail_that_arrives_while_paging_back_is_not_shown_but_follows_the_first_cursor(office: Office) -> None:
    await fill(office, 4)
    first = await office.inbox("Bob", limit=2)
    await office.send("Ann", ["Bob"], subject="new")
    second = await office.inbox("Bob", limit=2, before=first.older_cursor)
    assert subjects([*first.messages, *second.messages]) == names(3, 2, 1, 0)
    assert subjects((await office.inbox("Bob", cursor=first.cursor)).messages) == ["new"]


async def test_a_cursor_and_before_exclude_each_other(office: Office) -> None:
    await fill(office, 2)
    page = await office.inbox("Bob", limit=1)
    with pytest.raises(ValidationError):
        await office.inbox("Bob", cursor=page.cursor, before=page.older_cursor)


async def test_bodies_come_when_asked_for(office: Office) -> None:
    await fill(office, 1, body="The text")
    assert (await office.inbox("Bob")).messages[0].body_md is None
    page = await office.inbox("Bob", include_bodies=True)
    assert page.messages[0].body_md == "The text"
    start = await office.inbox("Cid")
    await office.send("Ann", ["Cid"], body="Text two")
    assert (await office.inbox("Cid", cursor=start.cursor)).messages[0].body_md is None
    assert (await office.inbox("Cid", cursor=start.cursor, include_bodies=True)).messages[0].body_md == "Text two"


async def test_a_message_in_an_inbox_says_all_about_itself(office: Office) -> None:
    parent = await office.send("Bob", ["Ann"], thread_id="Feat-1", subject="Plan")
    sent = await office.reply("Ann", parent.message_id, priority="high", ack_required=True)
    acknowledged = await office.acknowledge("Bob", sent.message_id)
    [message] = (await office.inbox("Bob")).messages
    assert (message.message_id, message.thread_id, message.parent_id) == (sent.message_id, "Feat-1", parent.message_id)
    assert (message.sender_name, message.subject, message.kind) == ("Ann", "Re: Plan", "to")
    assert (message.priority, message.ack_required, message.created_at) == ("high", True, sent.created_at)
    assert (message.read_at, message.acknowledged_at) == (acknowledged.read_at, acknowledged.acknowledged_at)


async def test_reading_an_inbox_marks_nothing_read(office: Office) -> None:
    await fill(office, 3)
    for _ in range(2):
        page = await office.inbox("Bob", include_bodies=True)
        assert page.unread_count == 3
        assert all(message.read_at is None for message in page.messages)


@pytest.fixture
async def mixed(office: Office) -> Office:
    """Bob's inbox: S0 low, S1 normal, S2 high, S3 urgent, S4 low; S0 and S3 are read, S1 and S3 are in Feat-1."""
    ids = [
        (
            await office.send(
                "Ann",
                ["Bob"],
                subject=f"S{number}",
                priority=priority,
                thread_id="Feat-1" if number in (1, 3) else None,
            )
        ).message_id
        for number, priority in enumerate(("low", "normal", "high", "urgent", "low"))
    ]
    await office.mark_read("Bob", ids[0], ids[3])
    return office


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({"unread_only": True}, [1, 2, 4]),
    ({"min_priority": "low"}, [0, 1, 2, 3, 4]),
    ({"min_priority": "normal"}, [1, 2, 3]),
    ({"min_priority": "urgent"}, [3]),
    ({"thread_id": "fEAT-1"}, [1, 3]),
    ({"thread_id": "Feat-1", "unread_only": True}, [1]),
    ({"min_priority": "high", "unread_only": True}, [2]),
    ({"min_priority": "urgent", "unread_only": True}, []),
]


@pytest.mark.parametrize("wanted, numbers", FILTERS)
async def test_filters_leave_out_the_rest_in_every_direction(
    mixed: Office, wanted: dict[str, Any], numbers: list[int]
) -> None:
    newest = await mixed.inbox("Bob", **wanted)
    assert subjects(newest.messages) == names(*reversed(numbers))
    assert newest.unread_count == 3
    paged: list[str] = []
    page = await mixed.inbox("Bob", limit=1, **wanted)
    paged += subjects(page.messages)
    while page.older_cursor is not None:
        page = await mixed.inbox("Bob", limit=1, before=page.older_cursor, **wanted)
        paged += subjects(page.messages)
    assert paged == names(*reversed(numbers))


@pytest.mark.parametrize("wanted, numbers", FILTERS)
async def test_what_a_filter_left_out_is_covered_by_the_cursor(
    mixed: Office, wanted: dict[str, Any], numbers: list[int]
) -> None:
    start = await zero_cursor(mixed)
    forward = await mixed.inbox("Bob", cursor=start, **wanted)
    assert subjects(forward.messages) == names(*numbers)
    newest = await mixed.inbox("Bob", **wanted)
    for cursor in (forward.cursor, newest.cursor):
        assert (await mixed.inbox("Bob", cursor=cursor)).messages == []


async def zero_cursor(office: Office) -> str:
    """A cursor before Bob's first message."""
    async with office.app.store.read() as db:
        _, agent = await db.agents.find(office.caller.team_id, office.slug, "Bob")
    assert agent is not None
    return inbox_cursor(office.app.store.identity, agent.id, 0)


async def test_a_full_filtered_page_forward_covers_up_to_its_last_message_only(mixed: Office) -> None:
    start = await zero_cursor(mixed)
    page = await mixed.inbox("Bob", cursor=start, limit=1, min_priority="normal")
    assert subjects(page.messages) == names(1)
    assert subjects((await mixed.inbox("Bob", cursor=page.cursor)).messages) == names(2, 3, 4)


async def test_since_shows_what_was_sent_at_or_after_a_time(office: Office) -> None:
    await fill(office, 3)
    middle = (await office.inbox("Bob")).messages[1].created_at
    assert subjects((await office.inbox("Bob", since=middle)).messages) == names(2, 1)
    assert subjects((await office.inbox("Bob", since=middle + timedelta(microseconds=1))).messages) == names(2)
    assert subjects((await office.inbox("Bob", since="0001-01-01T00:00:00Z")).messages) == names(2, 1, 0)
    assert subjects((await office.inbox("Bob", since="9999-12-31T23:59:59.999999Z")).messages) == []


async def test_an_unknown_thread_is_not_an_empty_one(office: Office) -> None:
    await office.send("Ann", ["Cid"], thread_id="Feat-1")
    with pytest.raises(ThreadNotFound) as missed:
        await office.inbox("Bob", thread_id="Feat-2")
    assert missed.value.data["near"] == ["Feat-1"]
    assert (await office.inbox("Bob", thread_id="feat-1")).messages == []


async def test_unread_count_is_of_the_whole_inbox_on_every_page(office: Office) -> None:
    ids = await fill(office, 5)
    await office.mark_read("Bob", *ids[:2])
    newest = await office.inbox("Bob", limit=1)
    older = await office.inbox("Bob", limit=1, before=newest.older_cursor)
    forward = await office.inbox("Bob", cursor=newest.cursor)
    assert [page.unread_count for page in (newest, older, forward)] == [3, 3, 3]


async def test_a_cursor_of_another_inbox_or_list_is_refused(office: Office) -> None:
    await fill(office, 2)
    await office.send("Ann", ["Cid"])
    foreign = [(await office.inbox("Cid")).cursor, (await office.outbox("Ann", limit=1)).next_cursor]
    own = (await office.inbox("Bob")).cursor
    for cursor in [*foreign, own[:-1], own[1:], own.swapcase(), "A", "not a cursor", "é" * 50, "=" * 2048]:
        for direction in ("cursor", "before"):
            with pytest.raises(InvalidCursor):
                await office.inbox("Bob", **{direction: cursor})
        with pytest.raises(InvalidCursor):
            await office.wait("Bob", cursor=cursor, timeout_seconds=0)


async def test_cursors_of_an_earlier_epoch_have_expired(
    office: Office, database: Database, family: StoreFamily
) -> None:
    await fill(office, 3)
    page = await office.inbox("Bob", limit=1)
    await family.close()
    await database.set_fact("epoch", "another")
    restored = office.at(replace(office.app, store=await family.open()))
    for arguments in ({"cursor": page.cursor}, {"before": page.older_cursor}):
        with pytest.raises(CursorExpired) as expired:
            await restored.inbox("Bob", **arguments)
        assert expired.value.data == {"suggestion": "check_inbox"}
    with pytest.raises(CursorExpired):
        await restored.wait("Bob", cursor=page.cursor, timeout_seconds=0)
    fresh = await restored.inbox("Bob")
    assert (await restored.inbox("Bob", cursor=fresh.cursor)).messages == []


async def test_a_cursor_beyond_the_mailbox_has_expired(office: Office, database: Database) -> None:
    await fill(office, 3)
    newest = await office.inbox("Bob", limit=1)
    await database.execute("DELETE FROM deliveries WHERE position > 1", "UPDATE mailboxes SET position = 1, unread = 1")
    for arguments in ({"cursor": newest.cursor}, {"before": newest.older_cursor}):
        with pytest.raises(CursorExpired) as expired:
            await office.inbox("Bob", **arguments)
        assert expired.value.data == {"suggestion": "check_inbox"}
    with pytest.raises(CursorExpired):
        await office.wait("Bob", cursor=newest.cursor, timeout_seconds=20)
    assert subjects((await office.inbox("Bob")).messages) == names(0)


async def test_an_inbox_is_read_by_its_owner_alone(office: Office) -> None:
    with pytest.raises(AgentNotYours):
        await office.of("somebody").inbox("Bob")
    with pytest.raises(AgentNotFound):
        await office.inbox("Nobody")


async def test_a_page_of_long_bodies_is_cut_and_its_cursor_goes_on_behind_the_cut(office: Office) -> None:
    sent = [(await office.send("Ann", ["Bob"], body=str(number) * 250_000)).message_id for number in range(10)]
    page = await office.inbox("Bob", cursor=await start_of(office, "Bob"), include_bodies=True, limit=100)
    seen = [message.message_id for message in page.messages]
    assert seen == sent[: len(seen)]
    assert 1 <= len(seen) < 10
    rest = await office.inbox("Bob", cursor=page.cursor, include_bodies=True, limit=100)
    assert [message.message_id for message in rest.messages] == sent[len(seen) :]
    newest = await office.inbox("Bob", include_bodies=True, limit=100)
    assert [message.message_id for message in newest.messages] == sent[::-1][: len(newest.messages)]
    assert newest.older_cursor is not None
    older = await office.inbox("Bob", before=newest.older_cursor, include_bodies=True, limit=100)
    assert [message.message_id for message in older.messages] == sent[::-1][len(newest.messages) :]


async def start_of(office: Office, name: str) -> str:
    """A cursor before the first message."""
    first = (await office.inbox(name, limit=1)).cursor
    while (page := await office.inbox(name, before=first, limit=1)).messages:
        first = page.cursor
    return page.cursor


async def test_no_cursor_lies_before_the_beginning(office: Office) -> None:
    empty = await office.inbox("Bob")
    again = await office.inbox("Bob", before=empty.cursor)
    sent = await office.send("Ann", ["Bob"])
    assert [m.message_id for m in (await office.inbox("Bob", cursor=again.cursor)).messages] == [sent.message_id]
