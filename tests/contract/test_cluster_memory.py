"""Sessions, wake-ups and waiters as their ports promise. The Redis half will run the same tests."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from agent_mail_cluster.memory import sessions as memory_sessions
from agent_mail_cluster.memory.sessions import MemorySessions
from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import TooManyWaiters
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.sessions import MAX_SESSIONS_A_PRINCIPAL

TEAM, OTHER_TEAM = TeamId(1), TeamId(2)
ANN, BOB = Principal("token:1"), Principal("token:2")
PARAMS = {"clientInfo": {"name": "test", "version": "1"}}
TTL = 100.0


class Hand(SystemClock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def microseconds(self) -> int:
        return int(self.time * 1_000_000)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def sessions(clock: Hand) -> MemorySessions:
    return MemorySessions(clock, TTL)


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_got_as_it_was_created(sessions: MemorySessions) -> None:
    session = await sessions.create(TEAM, ANN, "2025-11-25", PARAMS)
    assert await sessions.get(session.id) == session
    assert (session.team_id, session.principal, session.protocol_version) == (TEAM, ANN, "2025-11-25")
    assert session.client_params == PARAMS


async def test_ids_cannot_be_guessed(sessions: MemorySessions) -> None:
    ids = {(await sessions.create(TEAM, ANN, "2025-11-25", PARAMS)).id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(session_id) == 32 and session_id.isascii() for session_id in ids)


@pytest.mark.parametrize("session_id", ["", "nope", "\x00", "x" * 100_000, "ü\u2028"])
async def test_an_unknown_id_is_none(sessions: MemorySessions, session_id: str) -> None:
    assert await sessions.get(session_id) is None
    await sessions.delete(session_id)


async def test_a_deleted_session_is_none_and_deleting_twice_is_fine(sessions: MemorySessions) -> None:
    session = await sessions.create(TEAM, ANN, "2025-11-25", PARAMS)
    await sessions.delete(session.id)
    await sessions.delete(session.id)
    assert await sessions.get(session.id) is None
    assert len(sessions) == 0


async def test_use_keeps_a_session_and_disuse_ends_it(sessions: MemorySessions, clock: Hand) -> None:
    used = await sessions.create(TEAM, ANN, "2025-11-25", PARAMS)
    unused = await sessions.create(TEAM, ANN, "2025-11-25", PARAMS)
    for _ in range(5):
        clock.time += TTL * 0.9
        assert await sessions.get(used.id) == used
    assert await sessions.get(unused.id) is None
    assert len(sessions) == 1
    clock.time += TTL
    assert await sessions.get(used.id) is None
    assert len(sessions) == 0


async def test_what_expires_takes_no_memory(sessions: MemorySessions, clock: Hand) -> None:
    for number in range(50):
        await sessions.create(TEAM, Principal(f"token:{number}"), "2025-11-25", PARAMS)
    clock.time += TTL
    await sessions.create(TEAM, ANN, "2025-11-25", PARAMS)
    assert len(sessions) == 1
    assert len(sessions._by_owner) == 1


async def test_past_the_limit_the_principals_oldest_ends(
    sessions: MemorySessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_SESSIONS_A_PRINCIPAL == 10_000
    monkeypatch.setattr(memory_sessions, "MAX_SESSIONS_A_PRINCIPAL", 3)
    bobs = await sessions.create(TEAM, BOB, "2025-11-25", PARAMS)
    other_teams = await sessions.create(OTHER_TEAM, ANN, "2025-11-25", PARAMS)
    anns = [await sessions.create(TEAM, ANN, "2025-11-25", PARAMS) for _ in range(5)]
    assert [await sessions.get(session.id) is not None for session in anns] == [False, False, True, True, True]
    assert await sessions.get(bobs.id) is not None
    assert await sessions.get(other_teams.id) is not None


# --- wake-ups ---------------------------------------------------------------------------------------------------------


async def test_a_publication_wakes_every_listener_of_its_topic() -> None:
    wakeups = MemoryWakeups()
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(wakeups.subscribe("inbox:1")) for _ in range(3)]
        stranger = await stack.enter_async_context(wakeups.subscribe("inbox:2"))
        waits = [asyncio.create_task(listener.wait(5)) for listener in listeners]
        await asyncio.sleep(0)
        await wakeups.publish(["inbox:1", "inbox:3"])
        assert await asyncio.gather(*waits) == [True, True, True]
        assert await stranger.wait(0) is False


async def test_what_is_published_between_waits_is_not_missed() -> None:
    wakeups = MemoryWakeups()
    async with wakeups.subscribe("inbox:1") as news:
        await wakeups.publish(["inbox:1"])
        await wakeups.publish(["inbox:1"])
        assert await news.wait(5) is True
        assert await news.wait(0) is False
        await wakeups.publish(["inbox:1"])
        assert await news.wait(0) is True


async def test_what_was_published_before_wakes_nobody() -> None:
    wakeups = MemoryWakeups()
    await wakeups.publish(["inbox:1"])
    async with wakeups.subscribe("inbox:1") as news:
        assert await news.wait(0.01) is False


async def test_a_wait_that_times_out_can_be_repeated() -> None:
    wakeups = MemoryWakeups()
    async with wakeups.subscribe("inbox:1") as news:
        assert await news.wait(0.01) is False
        waiting = asyncio.create_task(news.wait(5))
        await asyncio.sleep(0)
        await wakeups.publish(["inbox:1"])
        assert await waiting is True


async def test_a_topic_without_listeners_takes_no_memory() -> None:
    wakeups = MemoryWakeups()
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


# --- waiters ----------------------------------------------------------------------------------------------------------


async def test_a_team_has_a_limited_number_of_places() -> None:
    waiters = MemoryWaiters(2)
    async with waiters.place(TEAM), waiters.place(TEAM):
        with pytest.raises(TooManyWaiters) as refused:
            async with waiters.place(TEAM):
                raise AssertionError("there was a place")
        assert refused.value.data == {"limit": 2, "suggestion": "check_inbox"}
        async with waiters.place(OTHER_TEAM):
            assert waiters.waiting == 3
    async with waiters.place(TEAM):
        assert waiters.waiting == 1
    assert waiters.waiting == 0


async def test_a_place_is_free_again_however_the_wait_ended() -> None:
    waiters = MemoryWaiters(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with waiters.place(TEAM):
                raise ZeroDivisionError
    assert waiters.waiting == 0
    assert not waiters._waiting
