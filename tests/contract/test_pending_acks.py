"""Acknowledgements that are still owed: by whom, to whom, and since when."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core.errors import (
    AgentNotYours,
    InvalidCursor,
)
from tests.contract.databases import Database
from tests.contract.office import Office, pages, subjects


def names(*numbers: int) -> list[str]:
    return [f"S{number}" for number in numbers]


async def test_what_is_owed_is_listed_by_each_until_it_acknowledges(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], cc=["Cid"], subject="A1", ack_required=True, thread_id="Feat-1")
    await office.send("Ann", ["Bob"], subject="no need")
    second = await office.send("Cid", ["Bob", "Ann"], subject="A2", ack_required=True, priority="high")
    await office.mark_read("Bob", first.message_id)
    [one, two] = (await office.pending("Bob")).pending
    assert (one.message_id, one.subject, one.thread_id, one.sender_name) == (first.message_id, "A1", "Feat-1", "Ann")
    assert (one.agent_name, one.kind, one.priority, one.created_at) == ("Bob", "to", "normal", first.created_at)
    assert one.read_at is not None
    assert (two.message_id, two.priority, two.read_at) == (second.message_id, "high", None)
    await office.acknowledge("Bob", first.message_id)
    assert subjects((await office.pending("Bob")).pending) == ["A2"]
    owed_to_ann = (await office.pending("Ann", direction="owed_to_me")).pending
    assert [(item.subject, item.agent_name) for item in owed_to_ann] == [("A1", "Cid")]
    owed_to_cid = (await office.pending("Cid", direction="owed_to_me")).pending
    assert [(item.subject, item.agent_name) for item in owed_to_cid] == [("A2", "Ann"), ("A2", "Bob")]


async def test_without_an_agent_the_whole_project_is_listed(office: Office) -> None:
    await office.send("Ann", ["Bob", "Cid"], subject="A1", ack_required=True)
    await office.send("Bob", ["Ann"], subject="A2", ack_required=True)
    await office.ensure("second")
    second = Office(office.app, office.caller, "second")
    await second.register("Ann")
    await second.send("Ann", ["Ann"], subject="elsewhere", ack_required=True)
    listed = (await office.pending()).pending
    assert [(item.subject, item.agent_name) for item in listed] == [("A1", "Bob"), ("A1", "Cid"), ("A2", "Ann")]
    assert subjects((await office.of("somebody").pending()).pending) == ["A1", "A1", "A2"]


async def test_pending_acknowledgements_are_listed_page_by_page(office: Office) -> None:
    for number in range(4):
        await office.send("Ann", ["Bob", "Cid"], bcc=["Dot"], subject=f"S{number}", ack_required=True)
    expected = [(f"S{number}", name) for number in range(4) for name in ("Bob", "Cid")]
    owed = [(f"S{number}", name) for number in range(4) for name in ("Bob", "Cid", "Dot")]
    for limit in (1, 2, 3, 100):
        listed = [item async for page in pages(office.pending, limit=limit) for item in page.pending]
        assert [(item.subject, item.agent_name) for item in listed] == expected
        listed = [
            item
            async for page in pages(office.pending, agent_name="Ann", direction="owed_to_me", limit=limit)
            for item in page.pending
        ]
        assert [(item.subject, item.agent_name) for item in listed] == owed
        listed = [item async for page in pages(office.pending, agent_name="Dot", limit=limit) for item in page.pending]
        assert subjects(listed) == names(0, 1, 2, 3)


async def test_retired_agents_owe_nothing(office: Office) -> None:
    await office.send("Ann", ["Bob", "Cid"], subject="A1", ack_required=True)
    await office.retire("Bob")
    assert [item.agent_name for item in (await office.pending()).pending] == ["Cid"]
    assert [item.agent_name for item in (await office.pending("Ann", direction="owed_to_me")).pending] == ["Cid"]
    await office.register("Bob")
    assert [item.agent_name for item in (await office.pending()).pending] == ["Bob", "Cid"]


async def test_only_what_is_old_enough_is_listed(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"], subject="old", ack_required=True)
    await database.age("messages", timedelta(hours=2))
    await database.age("deliveries", timedelta(hours=2))
    await office.send("Ann", ["Bob"], subject="new", ack_required=True)
    for who in ({}, {"agent_name": "Bob"}, {"agent_name": "Ann", "direction": "owed_to_me"}):
        assert subjects((await office.pending(**who, older_than_seconds=3600)).pending) == ["old"]
        assert subjects((await office.pending(**who, older_than_seconds=3 * 3600)).pending) == []
        assert subjects((await office.pending(**who)).pending) == ["old", "new"]


async def test_pending_cursors_of_other_filters_are_refused(office: Office) -> None:
    await office.send("Ann", ["Bob", "Cid"], ack_required=True)
    cursor = (await office.pending(limit=1)).next_cursor
    assert cursor is not None
    others: list[dict[str, Any]] = [
        {"agent_name": "Bob"},
        {"older_than_seconds": 0},
        {"agent_name": "Ann", "direction": "owed_to_me"},
    ]
    for other in others:
        with pytest.raises(InvalidCursor):
            await office.pending(cursor=cursor, **other)


async def test_owed_to_me_needs_to_know_who_i_am(office: Office) -> None:
    with pytest.raises(ValidationError):
        await office.pending(direction="owed_to_me")
    with pytest.raises(AgentNotYours):
        await office.of("somebody").pending("Ann")
