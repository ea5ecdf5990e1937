"""What of the memory half a clock moved by hand shows, and waiters. What both halves do is in test_cluster_ports.py."""

import pytest

from agent_mail_cluster.memory import sessions as memory_sessions
from agent_mail_cluster.memory import stream_log as memory_stream_log
from agent_mail_cluster.memory.sessions import MemorySessions
from agent_mail_cluster.memory.stream_log import MemoryStreamLog
from agent_mail_cluster.memory.subscriptions import MemorySubscriptions
from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_core.clock import SystemClock
from agent_mail_core.error_suggestions import SUGGESTIONS
from agent_mail_core.errors import TooManyWaiters, Unavailable
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.sessions import MAX_SESSIONS_A_PRINCIPAL
from agent_mail_core.stream_log import EVENT_COST, MAX_EVENTS, MAX_OWNER_BYTES

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


# --- stream logs and subscriptions -----------------------------------------------------------------------------------


async def test_a_log_and_subscriptions_that_are_not_used_take_no_memory(clock: Hand) -> None:
    log = MemoryStreamLog(clock, MemoryWakeups(), int(TTL))
    subscriptions = MemorySubscriptions(clock, MemoryWakeups(), TTL)
    for number in range(50):
        await log.append(f"s{number}", b"x")
        await subscriptions.add(f"s{number}", "uri")
    clock.time += TTL * 0.9
    await log.append("s7", b"y")
    assert await subscriptions.uris("s7") == {"uri"}
    clock.time += TTL * 0.9
    assert len((await log.read_after("s7", None)).events) == 2
    assert await subscriptions.uris("s7") == {"uri"}
    assert await subscriptions.uris("s8") == frozenset()
    assert (len(log), len(subscriptions)) == (1, 1)
    clock.time += TTL
    assert (await log.read_after("s7", None)).events == []
    assert await subscriptions.uris("s7") == frozenset()
    assert (len(log), len(subscriptions)) == (0, 0)


async def test_logs_of_all_owners_together_are_bounded(clock: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_stream_log, "MAX_BYTES", 1000)
    log = MemoryStreamLog(clock, MemoryWakeups(), int(TTL))
    for number in range(50):
        await log.append(f"s{number}:1", b"x" * 300)
        assert log.size <= 1000
    assert (await log.read_after("s46:1", None)).events == []
    assert len((await log.read_after("s49:1", None)).events) == 1
    for number in range(MAX_EVENTS + 5):
        await log.append("s:1", b"%d" % (number % 10))
    assert log.size <= 1000
    await log.drop("s")
    clock.time += TTL
    await log.append("t:1", b"")
    assert (len(log), log.size) == (1, 0)


async def test_an_owner_may_append_again_when_its_logs_are_gone(clock: Hand) -> None:
    log = MemoryStreamLog(clock, MemoryWakeups(), int(TTL))
    piece = b"x" * (MAX_OWNER_BYTES - EVENT_COST)
    await log.append("s:1", piece)
    with pytest.raises(Unavailable):
        await log.append("s:2", b"")
    clock.time += TTL
    await log.append("s:2", piece)


# --- waiters ----------------------------------------------------------------------------------------------------------


async def test_a_team_has_a_limited_number_of_places() -> None:
    waiters = MemoryWaiters(2)
    async with waiters.place(TEAM), waiters.place(TEAM):
        with pytest.raises(TooManyWaiters) as refused:
            async with waiters.place(TEAM):
                raise AssertionError("there was a place")
        assert refused.value.data == {"limit": 2, "suggestion": SUGGESTIONS["too_many_waiters"]}
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
