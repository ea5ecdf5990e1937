"""Sessions, wake-ups, stream logs, replies, signals and subscriptions as their ports promise, in memory and on Redis.

There are two workers: on Redis each with connections of its own, in memory both are the one that there is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import redis

from agent_mail_core.errors import Limited, Unavailable
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.signals import Signal
from agent_mail_core.stream_log import MAX_EVENTS, MAX_OWNER_BYTES, StreamEvent
from agent_mail_core.subscriptions import MAX_SUBSCRIPTIONS, subscriptions_topic
from tests.contract.clusters import Worker, memory_worker, redis_workers, until

TEAM, OTHER_TEAM = TeamId(1), TeamId(2)
ANN, BOB = Principal("token:1"), Principal("jwt:https://issuer|Bób\n\u2028")
PARAMS = {"clientInfo": {"name": "tést", "version": "1"}, "capabilities": {}}

Pair = tuple[Worker, Worker]


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.valkey)])
async def workers(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """Two workers."""
    if request.param == "memory":
        worker = memory_worker()
        yield worker, worker
        return
    url = request.getfixturevalue("valkey_url")
    async with redis_workers(url, 2) as (one, two):
        yield one, two
    with redis.Redis.from_url(url) as client:
        client.flushdb()


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_got_anywhere_as_it_was_created(workers: Pair) -> None:
    for principal in (ANN, BOB):
        session = await workers[0].sessions.create(TEAM, principal, "2025-11-25", PARAMS)
        assert (session.team_id, session.principal, session.protocol_version) == (TEAM, principal, "2025-11-25")
        for worker in (*workers, *workers):
            assert await worker.sessions.get(session.id) == session


async def test_session_ids_cannot_be_guessed(workers: Pair) -> None:
    ids = {(await workers[0].sessions.create(TEAM, ANN, "2025-11-25", PARAMS)).id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(session_id) == 32 and session_id.isascii() for session_id in ids)


@pytest.mark.parametrize("session_id", ["", "nope", "\x00", "x" * 100_000, "ü\u2028", "\ud800", "x" * 32])
async def test_an_unknown_session_is_none(workers: Pair, session_id: str) -> None:
    assert await workers[0].sessions.get(session_id) is None
    await workers[0].sessions.delete(session_id)


async def test_a_deleted_session_ends_everywhere_within_a_second(workers: Pair) -> None:
    session = await workers[0].sessions.create(TEAM, ANN, "2025-11-25", PARAMS)
    assert await workers[1].sessions.get(session.id) == session
    await workers[0].sessions.delete(session.id)
    assert await workers[0].sessions.get(session.id) is None

    async def has_ended() -> bool:
        return await workers[1].sessions.get(session.id) is None

    await until(has_ended, patience=1)
    await workers[1].sessions.delete(session.id)


# --- wake-ups ---------------------------------------------------------------------------------------------------------


async def test_a_publication_wakes_every_listener_of_its_topic(workers: Pair) -> None:
    async with AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(worker.wakeups.subscribe("inbox:1")) for worker in (*workers, *workers)
        ]
        stranger = await stack.enter_async_context(workers[1].wakeups.subscribe("inbox:2"))
        waits = [asyncio.create_task(listener.wait(5)) for listener in listeners]
        await asyncio.sleep(0)
        await workers[0].wakeups.publish(["inbox:1", "inbox:3"])
        assert await asyncio.gather(*waits) == [True] * 4
        assert await stranger.wait(0.02) is False


async def test_what_is_published_between_waits_is_not_missed(workers: Pair) -> None:
    async with workers[0].wakeups.subscribe("inbox:1") as here, workers[1].wakeups.subscribe("inbox:1") as there:
        for _ in range(20):
            await workers[0].wakeups.publish(["inbox:1"])
            assert await here.wait(0) is True
            assert await there.wait(5) is True
        assert await here.wait(0.02) is False
        assert await there.wait(0.02) is False


async def test_a_wait_that_times_out_can_be_repeated(workers: Pair) -> None:
    async with workers[1].wakeups.subscribe("inbox:1") as news:
        assert await news.wait(0.01) is False
        waiting = asyncio.create_task(news.wait(5))
        await asyncio.sleep(0)
        await workers[0].wakeups.publish(["inbox:1"])
        assert await waiting is True


async def test_a_topic_without_listeners_is_forgotten(workers: Pair) -> None:
    wakeups = workers[0].wakeups
    async with wakeups.subscribe("inbox:1"), wakeups.subscribe("inbox:1"):
        assert wakeups.topics == {"inbox:1"}
    assert wakeups.topics == frozenset()

    async def wait() -> None:
        async with wakeups.subscribe("inbox:2") as news:
            await news.wait(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert wakeups.topics == frozenset()


# --- stream logs ------------------------------------------------------------------------------------------------------


async def test_a_stream_resumes_on_another_worker(workers: Pair) -> None:
    here, there = workers[0].stream_log, workers[1].stream_log
    ids = [await here.append("s:1", b"%d \xff\n" % number) for number in range(5)]
    assert len(set(ids)) == 5
    page = await there.read_after("s:1", ids[1])
    assert page.events == [StreamEvent(ids[number], b"%d \xff\n" % number) for number in (2, 3, 4)]
    assert (page.is_ended, page.has_gap) == (False, False)
    assert (await there.read_after("s:1", ids[4])).events == []
    assert (await there.read_after("s:2", None)).events == []
    await there.end("s:1")
    page = await here.read_after("s:1", ids[3])
    assert [event.id for event in page.events] == [ids[4]]
    assert (page.is_ended, page.has_gap) == (True, False)


async def test_a_reader_reaches_the_end_page_by_page(workers: Pair) -> None:
    log = workers[0].stream_log
    ids = [await log.append("s:1", b"x") for _ in range(230)]
    await log.end("s:1")
    read: list[str] = []
    page = await log.read_after("s:1", None)
    while not page.is_ended:
        assert page.events
        read += [event.id for event in page.events]
        page = await log.read_after("s:1", read[-1])
        assert not page.has_gap
    assert read + [event.id for event in page.events] == ids


async def test_a_log_keeps_the_newest_events_and_tells_of_a_gap(workers: Pair) -> None:
    log = workers[0].stream_log
    first = await log.append("s:1", b"first")
    ids = [await log.append("s:1", b"x") for _ in range(MAX_EVENTS)]
    page = await log.read_after("s:1", first)
    assert page.has_gap
    assert page.events[0].id == ids[0]
    await log.drop("s")
    await log.drop("s")
    page = await log.read_after("s:1", ids[-1])
    assert (page.events, page.is_ended, page.has_gap) == ([], False, True)
    later = await log.append("s:1", b"later")
    page = await log.read_after("s:1", ids[-1])
    assert [event.id for event in page.events] == [later]
    assert page.has_gap


async def test_an_end_may_be_an_event(workers: Pair) -> None:
    first = await workers[0].stream_log.append("s:1", b"first")
    await workers[0].stream_log.end("s:1", b"last")
    page = await workers[1].stream_log.read_after("s:1", first)
    assert ([event.data for event in page.events], page.is_ended) == ([b"last"], True)
    assert (await workers[1].stream_log.read_after("s:1", page.events[0].id)).events == []


async def test_an_owner_has_a_budget_of_bytes_for_all_logs_on_all_workers(workers: Pair) -> None:
    piece = b"x" * (MAX_OWNER_BYTES // 8)
    for number in range(7):
        await workers[number % 2].stream_log.append(f"s:{number}", piece)
    for worker in workers:
        with pytest.raises(Unavailable):
            await worker.stream_log.append("s:8", piece)
        await worker.stream_log.append("s:9", b"small")
        await worker.stream_log.end("s:1", b"the end is free")
        await worker.stream_log.append("other:1", piece)
    assert (await workers[1].stream_log.read_after("s:8", None)).events == []


async def test_all_logs_of_an_owner_are_dropped_and_its_budget_is_free(workers: Pair) -> None:
    here, there = workers[0].stream_log, workers[1].stream_log
    for number in range(7):
        await here.append(f"s:{number}", b"x" * (MAX_OWNER_BYTES // 8))
    await here.append("s2:1", b"another's")
    await there.drop("s")
    for number in range(7):
        assert (await here.read_after(f"s:{number}", None)).events == []
    assert len((await here.read_after("s2:1", None)).events) == 1
    for number in range(7):
        await here.append(f"s:{number}", b"x" * (MAX_OWNER_BYTES // 8))


@pytest.mark.parametrize("event_id", ["", "x", "1", "-", "1-1\n", "9" * 30 + "-0", "$", "(1-1"])
async def test_after_what_is_no_event_id_all_there_is_is_read(workers: Pair, event_id: str) -> None:
    known = await workers[0].stream_log.append("s:1", b"x")
    page = await workers[0].stream_log.read_after("s:1", event_id)
    assert ([event.id for event in page.events], page.has_gap) == ([known], True)


async def test_appending_and_ending_wake_listeners_anywhere(workers: Pair) -> None:
    async with workers[1].stream_log.listen("s:1") as news:
        await workers[0].stream_log.append("s:1", b"x")
        assert await news.wait(5)
        await workers[0].stream_log.end("s:1")
        assert await news.wait(5)


# --- replies ----------------------------------------------------------------------------------------------------------


async def test_a_reply_reaches_the_worker_that_waits(workers: Pair) -> None:
    reply = {"jsonrpc": "2.0", "id": "x", "result": {"text": "é"}}
    for worker in workers:
        with workers[0].replies.expect("s1") as expected, workers[0].replies.expect("s1") as other:
            assert expected.request_id != other.request_id
            waiting = asyncio.create_task(expected.wait(5))
            assert await worker.replies.deliver("s1", expected.request_id, reply) is True
            assert await waiting == reply
            assert await other.wait(0.01) is None


async def test_only_the_sessions_own_client_can_reply(workers: Pair) -> None:
    with workers[0].replies.expect("s1") as expected:
        await workers[1].replies.deliver("s2", expected.request_id, {"result": 1})
        await workers[0].replies.deliver("s2", expected.request_id, {"result": 1})
        assert await expected.wait(0.05) is None


@pytest.mark.parametrize("request_id", [None, 1, 1.5, True, [], {}, "", "1", "x.1", "0" * 16 + ".1", "é" * 16 + ".1"])
async def test_a_reply_to_nobody_is_dropped(workers: Pair, request_id: object) -> None:
    assert await workers[0].replies.deliver("s1", request_id, {}) is False


async def test_a_reply_that_comes_too_late_is_dropped(workers: Pair) -> None:
    with workers[0].replies.expect("s1") as expected:
        pass
    assert await workers[0].replies.deliver("s1", expected.request_id, {}) is False


# --- signals ----------------------------------------------------------------------------------------------------------


async def test_a_signal_reaches_every_worker_once(workers: Pair) -> None:
    heard: list[Signal] = []
    also_heard: list[Signal] = []
    workers[0].signals.listen(heard.append)
    workers[1].signals.listen(also_heard.append)
    sent = [
        Signal("cancelled", "s1", 7),
        Signal("cancelled", "s1", "7"),
        Signal("ended", "s1"),
        Signal("taken", "s", "a"),
    ]
    for signal in sent:
        await workers[0].signals.send(signal)
    assert heard == sent
    await until(lambda: also_heard == sent)
    await workers[1].signals.send(sent[0])
    await until(lambda: len(heard) == 5)
    await asyncio.sleep(0.02)
    assert (len(heard), len(also_heard)) == (5, 5)


# --- subscriptions ----------------------------------------------------------------------------------------------------


async def test_subscriptions_are_seen_by_every_worker(workers: Pair) -> None:
    here, there = workers[0].subscriptions, workers[1].subscriptions
    assert await here.uris("s1") == frozenset()
    async with workers[1].wakeups.subscribe(subscriptions_topic("s1")) as news:
        await here.add("s1", "agentmail://é")
        await here.add("s1", "agentmail://é")
        assert await news.wait(5)
        await here.add("s1", "b")
        assert await there.uris("s1") == {"agentmail://é", "b"}
        assert await there.uris("s2") == frozenset()
        await there.remove("s1", "b")
        await there.remove("s1", "b")
        assert await news.wait(5)
        assert await here.uris("s1") == {"agentmail://é"}
    await here.drop("s1")
    await here.drop("s1")
    assert await there.uris("s1") == frozenset()


async def test_a_session_has_a_limited_number_of_subscriptions(workers: Pair) -> None:
    subscriptions = workers[0].subscriptions
    for number in range(MAX_SUBSCRIPTIONS):
        await subscriptions.add("s1", f"u{number}")
    await subscriptions.add("s1", "u0")
    with pytest.raises(Limited):
        await subscriptions.add("s1", "one more")
    assert len(await subscriptions.uris("s1")) == MAX_SUBSCRIPTIONS
    await subscriptions.remove("s1", "u0")
    await subscriptions.add("s1", "one more")
