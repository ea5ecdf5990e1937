"""Races: many callers at once, on one worker and on two workers with stores of their own on one database."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import pytest

from agent_mail_core.delivery import SentMessage
from agent_mail_core.errors import (
    AgentMailError,
    AgentNameTaken,
    IdempotencyConflict,
    RecipientsRefused,
    RecipientsUnknown,
    SlugTaken,
    TransactionConflict,
)
from agent_mail_core.ports import App
from tests.contract.databases import Database
from tests.contract.office import Office, caller, subjects

T = TypeVar("T")


async def insisting(call: Callable[[], Awaitable[T]]) -> T:
    """The answer, after as many tries as a server gives a transaction that lost a race."""
    for _ in range(3):
        try:
            return await call()
        except TransactionConflict:
            continue
    return await call()


async def outcomes(calls: Sequence[Coroutine[Any, Any, T]]) -> tuple[list[T], list[AgentMailError]]:
    """What calls that start together answer, and how they fail; an error that is none of ours ends the test."""
    answers: list[T] = []
    errors: list[AgentMailError] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, AgentMailError):
            errors.append(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            answers.append(outcome)
    return answers, errors


@pytest.fixture
def offices(workers: list[App], office: Office) -> Callable[[int], Office]:
    """The office as the n-th caller meets it: the workers take turns."""
    return lambda number: office.at(workers[number % len(workers)])


async def row_counts(database: Database) -> dict[str, int]:
    return {table: len(rows) for table, rows in (await database.dump()).items()}


Offices = Callable[[int], Office]


async def test_50_sends_with_one_key_store_one_message(offices: Offices, database: Database) -> None:
    sends = [offices(n).send("Ann", ["Bob"], cc=["Cid"], idempotency_key="k", thread_id="Feat-1") for n in range(50)]
    answers, errors = await outcomes(sends)
    assert errors == []
    assert len({answer.message_id for answer in answers}) == 1
    assert Counter(answer.replayed for answer in answers) == {False: 1, True: 49}
    assert len({answer.model_copy(update={"replayed": False}).model_dump_json() for answer in answers}) == 1
    counts = await row_counts(database)
    assert (counts["messages"], counts["deliveries"], counts["idempotency_keys"], counts["threads"]) == (1, 2, 1, 1)
    assert (await offices(0).inbox("Bob")).unread_count == 1


async def test_20_sends_with_one_key_and_other_content_store_one_message(offices: Offices, database: Database) -> None:
    answers, errors = await outcomes(
        [offices(n).send("Ann", ["Bob"], subject=f"S{n}", idempotency_key="k") for n in range(20)]
    )
    assert len(answers) == 1
    assert {type(error) for error in errors} == {IdempotencyConflict}
    assert (await row_counts(database))["messages"] == 1


async def test_20_registrations_of_one_name_make_one_agent(offices: Offices, database: Database) -> None:
    calls = [insisting(partial(offices(n).register, "eve" if n % 2 else "Eve")) for n in range(20)]
    answers, errors = await outcomes(calls)
    assert errors == []
    assert sum(answer.created for answer in answers) == 1
    assert len({(answer.agent.name, answer.agent.registered_at) for answer in answers}) == 1
    counts = await row_counts(database)
    assert (counts["agents"], counts["mailboxes"]) == (7, 7)  # with Ann, Bob, Cid and Dot, Overseer and System
    kinds = Counter(event.kind for event in await database.events())
    assert (kinds["agent.registered"], kinds["agent.updated"]) == (5, 19)


async def test_of_20_principals_that_want_one_name_one_gets_it(offices: Offices) -> None:
    calls = [insisting(partial(offices(n).of(f"p{n}").register, "Eve")) for n in range(20)]
    answers, errors = await outcomes(calls)
    assert [answer.created for answer in answers] == [True]
    assert {type(error) for error in errors} == {AgentNameTaken}


async def test_20_registrations_without_a_name_make_20_agents(offices: Offices) -> None:
    calls = [insisting(offices(n).register) for n in range(20)]
    answers, errors = await outcomes(calls)
    assert errors == []
    assert len({answer.agent.name.lower() for answer in answers}) == 20


async def test_20_registrations_with_one_key_make_one_agent(offices: Offices) -> None:
    calls = [insisting(partial(offices(n).register, idempotency_key="k")) for n in range(20)]
    answers, errors = await outcomes(calls)
    assert errors == []
    assert len({answer.agent.name for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert (await offices(0).project()).agent_count == 5


async def test_20_calls_for_one_key_make_one_project(offices: Offices, database: Database) -> None:
    calls = [insisting(partial(offices(n).ensure, "/code/shop")) for n in range(20)]
    answers, errors = await outcomes(calls)
    assert errors == []
    assert sum(answer.created for answer in answers) == 1
    assert len({answer.project for answer in answers}) == 1
    assert (await row_counts(database))["projects"] == 2
    assert Counter(event.kind for event in await database.events())["project.created"] == 2


async def test_20_keys_that_want_one_slug_all_get_a_project(offices: Offices) -> None:
    """None of them is that slug: it would be refused if it came late."""
    keys = [f"{'Shop' if n % 2 else 'SHOP'}{'!' * (n // 2)}" for n in range(20)]
    calls = [insisting(partial(offices(n).ensure, key)) for n, key in enumerate(keys)]
    answers, errors = await outcomes(calls)
    assert errors == []
    assert len({answer.project.slug for answer in answers}) == 20
    assert [answer.project.human_key for answer in answers] == keys
    assert sum(answer.project.slug == "shop" for answer in answers) == 1


async def test_of_10_keys_with_one_explicit_slug_one_gets_it(offices: Offices) -> None:
    calls = [insisting(partial(offices(n).ensure, f"key {n}", slug="shop")) for n in range(10)]
    answers, errors = await outcomes(calls)
    assert [answer.project.slug for answer in answers] == ["shop"]
    assert {type(error) for error in errors} == {SlugTaken}


async def test_30_sends_into_a_new_thread_make_one_thread(offices: Offices) -> None:
    spellings = ["Feat-1", "FEAT-1", "feat-1"]
    answers, errors = await outcomes(
        [offices(n).send("Ann", ["Bob"], thread_id=spellings[n % 3], subject=f"S{n}") for n in range(30)]
    )
    assert errors == []
    assert len({answer.thread_id for answer in answers}) == 1
    shown = await offices(0).thread("feat-1", limit=100)
    assert shown.thread.message_count == len(shown.messages) == 30
    last = max(answers, key=lambda answer: answer.message_id)
    assert (shown.thread.last_message_id, shown.thread.last_message_at) == (last.message_id, last.created_at)
    assert shown.thread.subject == shown.messages[0].subject


async def test_a_reader_that_follows_its_cursor_sees_every_message_once_and_in_order(offices: Offices) -> None:
    writers, each = 16, 125

    async def write(writer: int) -> None:
        for number in range(each):
            to = ["Bob", "Cid"] if number % 2 else ["Cid", "Bob"]
            await offices(writer).send("Ann", to, subject=f"{writer}:{number}", body="", thread_id=f"T{writer}")

    async def follow(reader: Office, is_paging: bool) -> list[str]:
        seen: list[str] = []
        cursor = start
        while len(seen) < writers * each:
            answer = await reader.wait("Bob", cursor=cursor, timeout_seconds=50)
            assert not answer.timed_out
            seen += subjects(answer.messages)
            cursor = answer.cursor
            while is_paging:
                page = await reader.inbox("Bob", cursor=cursor, limit=7)
                seen += subjects(page.messages)
                cursor = page.cursor
                if not page.messages:
                    break
        return seen

    start = (await offices(0).inbox("Bob")).cursor
    async with asyncio.timeout(200):
        readers = [
            asyncio.create_task(follow(offices(1), False)),
            asyncio.create_task(follow(offices(0), True)),
        ]
        await asyncio.gather(*(write(writer) for writer in range(writers)))
        waited, paged = await asyncio.gather(*readers)
    assert waited == paged
    assert sorted(waited) == sorted(f"{writer}:{number}" for writer in range(writers) for number in range(each))
    for writer in range(writers):
        own = [int(subject.partition(":")[2]) for subject in waited if subject.startswith(f"{writer}:")]
        assert own == list(range(each))
    assert (await offices(0).inbox("Cid")).unread_count == writers * each
    again: list[str] = []
    cursor = start
    while len(again) < len(waited):
        page = await offices(0).inbox("Bob", cursor=cursor, limit=100)
        again += subjects(page.messages)
        cursor = page.cursor
    assert again == waited


async def test_marking_the_same_messages_at_once_keeps_unread_exact(offices: Offices, database: Database) -> None:
    dice = random.Random(7)
    ids = [(await offices(0).send("Ann", ["Bob", "Cid"], ack_required=True)).message_id for _ in range(40)]

    async def mark(number: int) -> None:
        office = offices(number)
        agent = ("Bob", "Cid")[number % 2]
        for _ in range(5):
            some = dice.sample(ids[:30], 10)
            if number % 3:
                await insisting(partial(office.mark_read, agent, *some))
            else:
                await insisting(partial(office.acknowledge, agent, some[0]))

    async def send(number: int) -> None:
        for _ in range(5):
            await offices(number).send("Ann", ["Cid", "Bob"])

    async with asyncio.timeout(60):
        await asyncio.gather(*(mark(number) for number in range(20)), *(send(number) for number in range(4)))
    for agent in ("Bob", "Cid"):
        unread = await offices(0).inbox(agent, unread_only=True, limit=100)
        assert unread.unread_count == len(unread.messages)
        everything = await offices(0).inbox(agent, limit=100)
        read = [message for message in everything.messages if message.read_at is not None]
        assert len(everything.messages) == 60
        assert unread.unread_count == 60 - len(read)
        assert len(read) >= 10
    kinds = Counter((event.kind, event.agent_id, event.message_id) for event in await database.events())
    assert all(count == 1 for (kind, _, _), count in kinds.items() if kind in ("message.read", "message.acknowledged"))


async def test_sends_to_overlapping_recipients_in_any_order_all_arrive(offices: Offices) -> None:
    dice = random.Random(11)
    names = ["Ann", "Bob", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal"]
    for name in names[4:]:
        await offices(0).register(name)
    plans = [dice.sample(names, dice.randint(2, 8)) for _ in range(240)]
    sends = [
        offices(n).send(dice.choice(names), plan[:1], cc=plan[1:-1], bcc=plan[-1:], thread_id=f"T{dice.randrange(5)}")
        for n, plan in enumerate(plans)
    ]
    async with asyncio.timeout(60):
        answers, errors = await outcomes(sends)
    assert errors == []
    assert len({answer.message_id for answer in answers}) == len(plans)
    for name in names:
        expected = sum(name in plan for plan in plans)
        shown = await offices(0).whois(name)
        received = (await offices(0).inbox(name)).unread_count
        assert (shown.received_count, received) == (expected, expected)
    threads = (await offices(0).threads()).threads
    assert sum(thread.message_count for thread in threads) == len(plans)


async def test_sends_marks_and_registrations_at_once_never_stand_in_each_others_way(offices: Offices) -> None:
    first = (await offices(0).send("Ann", ["Bob", "Cid", "Dot"])).message_id

    async def work(number: int) -> None:
        office = offices(number)
        for turn in range(4):
            await office.send("Bob", ["Dot", "Cid", "Ann"], thread_id="T1")
            await insisting(partial(office.mark_read, "Cid", first))
            await insisting(partial(office.register, "Ann", model=f"m-{turn}"))
            await insisting(partial(office.update, "Bob", task_description=str(number)))
            await office.reply("Cid", first)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(12)))
    assert (await offices(0).thread("T1")).thread.message_count == 48
    assert (await offices(0).inbox("Ann")).unread_count == 96


async def test_once_retiring_has_answered_no_mail_is_delivered(offices: Offices) -> None:
    retired = asyncio.Event()
    refused = 0

    async def write(number: int) -> int:
        nonlocal refused
        delivered = 0
        for _ in range(200):
            after = retired.is_set()
            try:
                await offices(number).send("Ann", ["Cid", "Bob"])
            except RecipientsRefused:
                refused += 1
                return delivered
            assert not after, "sent after the retirement had answered"
            delivered += 1
        return delivered

    writers = [asyncio.create_task(write(number)) for number in range(8)]
    await offices(0).wait("Bob")
    await insisting(partial(offices(1).retire, "Bob"))
    retired.set()
    received = (await offices(0).whois("Bob")).received_count
    delivered = sum(await asyncio.gather(*writers))
    assert refused == 8
    assert (await offices(0).whois("Bob")).received_count == received == delivered
    assert (await offices(0).whois("Cid")).received_count == delivered


async def test_a_refused_send_among_many_harms_no_other(offices: Offices, database: Database) -> None:
    sends = [offices(n).send("Ann", ["Bob", "Nobody"] if n % 3 == 0 else ["Bob"], subject=f"S{n}") for n in range(60)]
    answers, errors = await outcomes(sends)
    assert len(answers) == 40
    assert [type(error) for error in errors] == [RecipientsUnknown] * 20
    counts = await row_counts(database)
    assert (counts["messages"], counts["deliveries"], counts["threads"]) == (40, 40, 40)
    arrived = {message.subject for message in (await offices(0).inbox("Bob", limit=100)).messages}
    assert arrived == {f"S{n}" for n in range(60) if n % 3}


async def test_a_cancelled_send_is_stored_whole_or_not_at_all_and_its_key_answers_the_retry(
    offices: Offices, database: Database
) -> None:
    def send(number: int) -> Awaitable[SentMessage]:
        return offices(number).send("Ann", ["Bob", "Cid"], subject=f"S{number}", idempotency_key=f"k{number}")

    calls = [asyncio.ensure_future(send(number)) for number in range(60)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in calls[::2]:
        call.cancel()
    first = await asyncio.gather(*calls, return_exceptions=True)
    again = await asyncio.gather(*(send(number) for number in range(60)))
    for before, after in zip(first, again, strict=True):
        if isinstance(before, SentMessage):
            assert (after.replayed, after.message_id) == (True, before.message_id)
        else:
            assert isinstance(before, asyncio.CancelledError)
    counts = await row_counts(database)
    assert (counts["messages"], counts["deliveries"], counts["idempotency_keys"]) == (60, 120, 60)
    assert (await offices(0).inbox("Bob")).unread_count == 60
    assert sum(event.kind == "message.sent" for event in await database.events()) == 60


async def test_two_teams_that_send_at_once_get_their_own_mail(offices: Offices, database: Database) -> None:
    team = await database.add_team("rivals")
    theirs = Office(offices(0).app, caller("rival", team_id=team), "office")
    await theirs.ensure("office")
    await theirs.register("Ann")
    await theirs.register("Bob")
    sends = []
    for number in range(40):
        sends.append(offices(number).send("Ann", ["Bob"], subject="ours", idempotency_key=f"k{number}"))
        sends.append(
            theirs.at(offices(number).app).send("Ann", ["Bob"], subject="theirs", idempotency_key=f"k{number}")
        )
    answers, errors = await outcomes(sends)
    assert errors == []
    assert not any(answer.replayed for answer in answers)
    for office, subject in ((offices(0), "ours"), (theirs, "theirs")):
        assert subjects((await office.inbox("Bob", limit=100)).messages) == [subject] * 40
