"""Threads: listed by their last message, read from their first, and known by their key in any case."""

from typing import Any

import pytest

from agent_mail_core.errors import AgentNotFound, InvalidCursor, ProjectNotFound, ThreadNotFound
from agent_mail_core.ports import Role
from tests.contract.office import Office, pages, subjects


async def test_a_thread_says_all_about_itself(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], thread_id="Feat-1", subject="Plan", bcc=["Dot"])
    last = await office.send("Cid", ["Ann"], thread_id="FEAT-1", subject="Other")
    [listed] = (await office.threads()).threads
    assert (listed.thread_id, listed.project_slug, listed.subject) == ("Feat-1", "office", "Plan")
    assert listed.participants == ["Ann", "Bob", "Cid"]
    assert (listed.message_count, listed.last_message_id) == (2, last.message_id)
    assert (listed.created_at, listed.last_message_at) == (first.created_at, last.created_at)
    assert (await office.thread("feat-1")).thread == listed


async def test_participants_are_listed_by_name_whoever_wrote_first(office: Office) -> None:
    for name in ("zoe", "Ada", "bert"):
        await office.register(name)
    await office.send("zoe", ["bert"], cc=["Ada"], thread_id="Feat-1")
    participants = (await office.thread("Feat-1")).thread.participants
    assert sorted(participants, key=str.lower) == ["Ada", "bert", "zoe"]
    assert participants == ["Ada", "bert", "zoe"]


async def test_threads_are_listed_by_their_last_message_newest_first_page_by_page(office: Office) -> None:
    for number in range(6):
        await office.send("Ann", ["Bob"], thread_id=f"T{number}")
    await office.send("Ann", ["Bob"], thread_id="T2")
    expected = ["T2", "T5", "T4", "T3", "T1", "T0"]
    for limit in (1, 2, 6, 100):
        listed = [thread.thread_id async for page in pages(office.threads, limit=limit) for thread in page.threads]
        assert listed == expected


async def test_a_thread_that_moves_up_while_paging_hides_no_other(office: Office) -> None:
    for number in range(6):
        await office.send("Ann", ["Bob"], thread_id=f"T{number}")
    seen: list[str] = []
    async for page in pages(office.threads, limit=2):
        seen += [thread.thread_id for thread in page.threads]
        await office.send("Ann", ["Bob"], thread_id="T0")
    assert {"T1", "T2", "T3", "T4", "T5"} <= set(seen)


async def test_threads_of_an_agent_are_those_that_it_takes_part_in(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="T1")
    await office.send("Bob", ["Cid"], thread_id="T2")
    await office.send("Cid", ["Dot"], cc=["Bob"], thread_id="T3")
    await office.send("Cid", ["Dot"], thread_id="T4")
    assert [t.thread_id for t in (await office.threads(agent_name="bob")).threads] == ["T3", "T2", "T1"]
    for limit in (1, 2):
        listed = [
            thread.thread_id
            async for page in pages(office.threads, agent_name="Cid", limit=limit)
            for thread in page.threads
        ]
        assert listed == ["T4", "T3", "T2"]
    with pytest.raises(AgentNotFound):
        await office.threads(agent_name="Nobody")


@pytest.mark.parametrize(
    "query, expected",
    [
        ("FEAT", ["feat-2", "Feat-1"]),
        ("cache", ["feat-2"]),
        ("100%", ["x.1"]),
        ("%", ["x.1"]),
        ("_", []),
        ("feat*", []),
        ("' OR '1'='1", []),
        ("", ["x.1", "feat-2", "Feat-1"]),
    ],
)
async def test_a_query_is_a_piece_of_key_or_subject_and_no_pattern(
    office: Office, query: str, expected: list[str]
) -> None:
    await office.send("Ann", ["Bob"], thread_id="Feat-1", subject="The plan")
    await office.send("Ann", ["Bob"], thread_id="feat-2", subject="The Cache")
    await office.send("Ann", ["Bob"], thread_id="x.1", subject="100% done")
    assert [thread.thread_id for thread in (await office.threads(query=query)).threads] == expected


async def test_thread_cursors_of_other_filters_are_refused(office: Office) -> None:
    for number in range(2):
        await office.send("Ann", ["Bob"], thread_id=f"T{number}")
    await office.ensure("second")
    cursor = (await office.threads(limit=1)).next_cursor
    assert cursor is not None
    others: list[dict[str, Any]] = [{"agent_name": "Ann"}, {"query": "T"}]
    for other in others:
        with pytest.raises(InvalidCursor):
            await office.threads(cursor=cursor, **other)
    with pytest.raises(InvalidCursor):
        await Office(office.app, office.caller, "second").threads(cursor=cursor)
    with pytest.raises(InvalidCursor):
        await office.threads(cursor=cursor[:-1])


# --- get_thread -------------------------------------------------------------------------------------------------------


async def test_a_thread_is_read_oldest_first_page_by_page(office: Office) -> None:
    for number in range(7):
        await office.send("Ann", ["Bob"], thread_id="Feat-1", subject=f"S{number}", body=f"B{number}")
        await office.send("Ann", ["Bob"], thread_id="Feat-2")
    for limit in (1, 3, 7, 100):
        read = [m async for page in pages(office.thread, thread_id="FEAT-1", limit=limit) for m in page.messages]
        assert subjects(read) == [f"S{number}" for number in range(7)]
        assert [message.body_md for message in read] == [f"B{number}" for number in range(7)]
        assert all(message.thread_id == "Feat-1" for message in read)


async def test_what_is_added_while_paging_comes_at_the_end(office: Office) -> None:
    for number in range(3):
        await office.send("Ann", ["Bob"], thread_id="Feat-1", subject=f"S{number}")
    seen: list[str] = []
    async for page in pages(office.thread, thread_id="Feat-1", limit=1):
        seen += subjects(page.messages)
        if len(seen) == 1:
            await office.send("Ann", ["Bob"], thread_id="Feat-1", subject="S3")
    assert seen == ["S0", "S1", "S2", "S3"]


async def test_a_thread_may_be_read_without_bodies_and_shows_recipients_and_their_state(office: Office) -> None:
    sent = await office.send("Ann", ["Bob"], cc=["Cid"], thread_id="Feat-1")
    await office.acknowledge("Cid", sent.message_id)
    [message] = (await office.thread("Feat-1", include_bodies=False)).messages
    assert message.body_md is None
    assert [(r.name, r.kind, r.read_at is not None, r.acknowledged_at is not None) for r in message.recipients] == [
        ("Bob", "to", False, False),
        ("Cid", "cc", True, True),
    ]


async def test_reading_a_thread_marks_nothing_read_and_is_open_to_the_project(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="Feat-1")
    assert len((await office.of("somebody", Role.reader).thread("Feat-1")).messages) == 1
    assert (await office.inbox("Bob")).unread_count == 1


async def test_threads_of_two_projects_with_one_key_are_two(office: Office) -> None:
    await office.ensure("second")
    second = Office(office.app, office.caller, "second")
    await second.register("Ann")
    await office.send("Ann", ["Bob"], thread_id="Feat-1", subject="here")
    await second.send("Ann", ["Ann"], thread_id="FEAT-1", subject="there")
    assert subjects((await office.thread("feat-1")).messages) == ["here"]
    assert subjects((await second.thread("feat-1")).messages) == ["there"]


async def test_an_unknown_thread_is_named_with_near_ones(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="Feat-123")
    with pytest.raises(ThreadNotFound) as missed:
        await office.thread("feat-124")
    assert missed.value.data == {"thread_id": "feat-124", "near": ["Feat-123"], "suggestion": "list_threads"}
    with pytest.raises(ThreadNotFound) as missed:
        await office.thread("zzz")
    assert missed.value.data == {"thread_id": "zzz", "suggestion": "list_threads"}
    with pytest.raises(ProjectNotFound):
        await Office(office.app, office.caller, "elsewhere").thread("Feat-123")


@pytest.mark.parametrize(
    "key", ["' OR 1=1 --", "%", "*", "list", "Feat-123@elsewhere", "Feat-123@", "Fe\u0131t", "F" * 128]
)
async def test_a_strange_key_is_just_unknown(office: Office, key: str) -> None:
    await office.send("Ann", ["Bob"], thread_id="Feat-123")
    with pytest.raises(ThreadNotFound):
        await office.thread(key)


async def test_the_cursor_of_another_thread_is_refused(office: Office) -> None:
    for key in ("Feat-1", "Feat-1", "Feat-2"):
        await office.send("Ann", ["Bob"], thread_id=key)
    cursor = (await office.thread("Feat-1", limit=1)).next_cursor
    assert cursor is not None
    with pytest.raises(InvalidCursor):
        await office.thread("Feat-2", cursor=cursor)
