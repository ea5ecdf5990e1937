"""wait_for_messages: at once when there is mail, as soon as some arrives, or empty when the time is over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pydantic import ValidationError

from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_cluster.memory.wakeups import MemoryWakeup, MemoryWakeups
from agent_mail_core import waiting
from agent_mail_core.delivery import SentMessage
from agent_mail_core.errors import AgentNotFound, AgentNotYours, TooManyWaiters
from agent_mail_core.waiting import WaitedMessages
from tests.contract.office import Office, subjects


class Listening(MemoryWakeups):
    """Tells when a call has begun to listen, and counts those that do."""

    def __init__(self, is_deaf: bool = False) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.listeners = 0
        self._is_deaf = is_deaf

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[MemoryWakeup]:
        async with super().subscribe(topic) as news:
            self.listeners += 1
            self.begun.set()
            try:
                yield news
            finally:
                self.listeners -= 1

    async def publish(self, topics: Iterable[str]) -> None:
        if not self._is_deaf:
            await super().publish(topics)


async def begun_to_wait(office: Office, **more: object) -> tuple[Office, "asyncio.Task[WaitedMessages]"]:
    """An office on whose wake-ups Bob has begun to wait, and his call."""
    listening = Listening()
    office = office.at(replace(office.app, wakeups=listening))
    call = asyncio.create_task(office.wait("Bob", **more))
    await listening.begun.wait()
    return office, call


async def test_mail_after_the_cursor_comes_at_once(office: Office) -> None:
    cursor = (await office.inbox("Bob")).cursor
    await office.send("Ann", ["Bob"], subject="S0")
    await office.send("Ann", ["Bob"], subject="S1")
    answer = await office.wait("Bob", cursor=cursor, timeout_seconds=50)
    assert (subjects(answer.messages), answer.timed_out, answer.unread_count) == (["S0", "S1"], False, 2)
    assert (await office.wait("Bob", cursor=answer.cursor, timeout_seconds=0)).messages == []


async def test_mail_after_the_cursor_comes_even_when_it_was_read(office: Office) -> None:
    cursor = (await office.inbox("Bob")).cursor
    sent = await office.send("Ann", ["Bob"])
    await office.mark_read("Bob", sent.message_id)
    answer = await office.wait("Bob", cursor=cursor, timeout_seconds=0)
    assert [message.message_id for message in answer.messages] == [sent.message_id]
    assert answer.unread_count == 0


async def test_without_a_cursor_the_oldest_unread_come_at_once(office: Office) -> None:
    ids = [(await office.send("Ann", ["Bob"], subject=f"S{number}")).message_id for number in range(4)]
    await office.mark_read("Bob", ids[0], ids[2])
    answer = await office.wait("Bob", timeout_seconds=50)
    assert (subjects(answer.messages), answer.timed_out) == (["S1", "S3"], False)
    await office.send("Ann", ["Bob"], subject="S4")
    assert subjects((await office.wait("Bob", cursor=answer.cursor)).messages) == ["S4"]


async def test_more_unread_than_a_page_come_page_after_page(office: Office) -> None:
    for number in range(45):
        await office.send("Ann", ["Bob"], subject=f"S{number}")
    answer = await office.wait("Bob")
    seen = subjects(answer.messages)
    while not answer.timed_out:
        assert len(answer.messages) <= 20
        answer = await office.wait("Bob", cursor=answer.cursor, timeout_seconds=0)
        seen += subjects(answer.messages)
    assert seen == [f"S{number}" for number in range(45)]


async def test_mail_that_arrives_ends_the_wait(office: Office) -> None:
    office, call = await begun_to_wait(office, timeout_seconds=50)
    sent = await office.send("Ann", ["Bob"], body="Now")
    async with asyncio.timeout(1):
        answer = await call
    assert [(message.message_id, message.body_md) for message in answer.messages] == [(sent.message_id, None)]
    assert not answer.timed_out


async def test_mail_as_cc_bcc_and_reply_ends_the_wait_too(office: Office) -> None:
    first = await office.send("Bob", ["Ann"])
    ways: list[Callable[[Office], Awaitable[SentMessage]]] = [
        lambda office: office.send("Ann", ["Cid"], cc=["Bob"]),
        lambda office: office.send("Ann", ["Cid"], bcc=["Bob"]),
        lambda office: office.reply("Ann", first.message_id),
    ]
    for deliver in ways:
        cursor = (await office.inbox("Bob")).cursor
        waiting, call = await begun_to_wait(office, cursor=cursor, timeout_seconds=50)
        await deliver(waiting)
        async with asyncio.timeout(1):
            assert len((await call).messages) == 1


async def test_bodies_come_when_asked_for(office: Office) -> None:
    await office.send("Ann", ["Bob"], body="Now")
    assert (await office.wait("Bob", include_bodies=True)).messages[0].body_md == "Now"


async def test_mail_for_others_and_refused_mail_do_not_end_the_wait(office: Office) -> None:
    office, call = await begun_to_wait(office, timeout_seconds=50)
    await office.send("Ann", ["Cid"])
    await office.send("Bob", ["Ann"])
    assert not call.done()
    await office.send("Ann", ["Bob"], subject="at last")
    async with asyncio.timeout(1):
        assert subjects((await call).messages) == ["at last"]


async def test_without_mail_the_wait_ends_at_its_timeout_with_a_cursor(office: Office) -> None:
    for seconds in (0, 0.05):
        answer = await office.wait("Bob", timeout_seconds=seconds)
        assert (answer.messages, answer.timed_out, answer.unread_count) == ([], True, 0)
    await office.send("Ann", ["Bob"], subject="later")
    assert subjects((await office.wait("Bob", cursor=answer.cursor)).messages) == ["later"]


async def test_what_is_not_important_enough_is_passed_over_and_covered(office: Office) -> None:
    await office.send("Ann", ["Bob"], subject="low", priority="low")
    waiting, call = await begun_to_wait(office, min_priority="high", timeout_seconds=50)
    await waiting.send("Ann", ["Bob"], subject="normal")
    await waiting.send("Ann", ["Bob"], subject="urgent", priority="urgent")
    async with asyncio.timeout(1):
        answer = await call
    assert subjects(answer.messages) == ["urgent"]
    assert (await office.inbox("Bob", cursor=answer.cursor)).messages == []
    timed_out = await office.wait("Cid", min_priority="high", timeout_seconds=0)
    assert timed_out.timed_out


async def test_a_wait_without_cursor_that_timed_out_covers_what_its_filter_left_out(office: Office) -> None:
    await office.send("Ann", ["Bob"], priority="low")
    answer = await office.wait("Bob", min_priority="high", timeout_seconds=0.01)
    assert (answer.messages, answer.timed_out, answer.unread_count) == ([], True, 1)
    assert (await office.inbox("Bob", cursor=answer.cursor)).messages == []


async def test_many_waits_for_one_inbox_all_end(office: Office) -> None:
    calls = [asyncio.create_task(office.wait("Bob", timeout_seconds=50)) for _ in range(20)]
    sent = await office.send("Ann", ["Bob"])
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*calls)
    assert [[message.message_id for message in answer.messages] for answer in answers] == [[sent.message_id]] * 20


async def test_a_lost_wake_up_is_made_good_by_looking_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 0.02)
    deaf = Listening(is_deaf=True)
    office = office.at(replace(office.app, wakeups=deaf))
    call = asyncio.create_task(office.wait("Bob", timeout_seconds=50))
    await deaf.begun.wait()
    await office.send("Ann", ["Bob"], subject="unheard")
    async with asyncio.timeout(5):
        assert subjects((await call).messages) == ["unheard"]


async def test_a_draining_server_lets_its_waits_go(office: Office) -> None:
    draining = office.at(replace(office.app, is_draining=lambda: True))
    async with asyncio.timeout(5):
        answer = await draining.wait("Bob", timeout_seconds=50)
    assert (answer.messages, answer.timed_out) == ([], True)


async def test_past_the_teams_places_a_wait_is_refused_and_places_come_back(office: Office) -> None:
    crowded = office.at(replace(office.app, waiters=MemoryWaiters(1)))
    waiting, call = await begun_to_wait(crowded, timeout_seconds=50)
    with pytest.raises(TooManyWaiters):
        await waiting.wait("Cid", timeout_seconds=0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await waiting.wait("Cid", timeout_seconds=0)).timed_out


async def test_a_cancelled_wait_stops_listening(office: Office) -> None:
    waiting, call = await begun_to_wait(office, timeout_seconds=50)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    wakeups = waiting.app.wakeups
    assert isinstance(wakeups, Listening)
    assert wakeups.listeners == 0


async def test_waiting_holds_no_connection(office: Office) -> None:
    """More calls wait than a store has connections, and reads and writes go on."""
    calls = [asyncio.create_task(office.wait("Bob", timeout_seconds=50)) for _ in range(60)]
    async with asyncio.timeout(10):
        for _ in range(5):
            await office.send("Ann", ["Cid"])
            await office.inbox("Cid")
        assert not any(call.done() for call in calls)
        await office.send("Ann", ["Bob"])
        await asyncio.gather(*calls)


async def test_waiting_is_for_the_owner_of_a_known_agent(office: Office) -> None:
    with pytest.raises(AgentNotYours):
        await office.of("somebody").wait("Bob", timeout_seconds=0)
    with pytest.raises(AgentNotFound):
        await office.wait("Nobody", timeout_seconds=0)


@pytest.mark.parametrize("seconds", [-0.1, 50.1, float("nan"), float("inf")])
async def test_a_wait_is_at_most_50_seconds(office: Office, seconds: float) -> None:
    with pytest.raises(ValidationError):
        await office.wait("Bob", timeout_seconds=seconds)
