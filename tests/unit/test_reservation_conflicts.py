"""Who stands in the way of a reservation, from what overlaps and how things are."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import pytest

from agent_mail_core.globs import compile_pattern
from agent_mail_core.ids import AgentId, ProjectId, ReservationId
from agent_mail_core.leases import Ticket
from agent_mail_core.reservation_conflicts import CONFLICTS_SHOWN, Judgement, judge
from agent_mail_core.reservation_overlaps import Overlaps, Wanted, wanted_of
from agent_mail_core.reservations import ReservationRecord, ReservedPattern, Snapshot
from agent_mail_core.time_slices import SLICE_SECONDS, in_slices

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ASKER, HOLDER, RIVAL = AgentId(1), AgentId(2), AgentId(3)


def record(number: int, pattern: str, agent_id: AgentId = HOLDER, **more: Any) -> ReservationRecord:
    fields: dict[str, Any] = {
        "agent_name": f"A{agent_id}",
        "is_literal": False,
        "is_exclusive": True,
        "is_advisory": False,
        "reason": None,
        "fence": number,
        "granted_at": NOW - timedelta(hours=1),
        "renewed_at": NOW - timedelta(hours=1),
        "expires_at": NOW + timedelta(minutes=number),
        "released_at": None,
        "release_kind": None,
        "released_by": None,
        "release_reason": None,
        "seen_at": NOW,
        **more,
    }
    return ReservationRecord(ReservationId(number), ProjectId(1), agent_id, pattern=pattern, **fields)


def wanted(*patterns: str, is_exclusive: bool = True) -> Wanted:
    return Wanted(tuple(compile_pattern(pattern) for pattern in patterns), is_exclusive)


def ticket(number: int, asked: Wanted, agent_id: AgentId = RIVAL) -> Ticket:
    return Ticket(number, agent_id, f"A{agent_id}", asked.canonical())


def judged(
    asked: Wanted,
    *records: ReservationRecord,
    tickets: tuple[Ticket, ...] = (),
    own: Ticket | None = None,
    is_advisory: bool = False,
) -> Judgement:
    overlaps = Overlaps(ASKER, asked)
    rows = [ReservedPattern(one.id, one.agent_id, one.pattern, one.is_literal) for one in records]
    overlaps.learn_now(Snapshot(1, rows, list(tickets), len(rows)))
    return judge(asked, is_advisory, overlaps, {one.id: one for one in records}, own)


@pytest.mark.parametrize(
    "theirs, asks_exclusive, is_advisory, is_refused, is_listed",
    [
        ({}, True, False, True, True),
        ({}, False, False, True, True),
        ({"is_exclusive": False}, True, False, True, True),
        ({"is_exclusive": False}, False, False, False, False),
        ({"is_advisory": True}, True, False, False, True),
        ({}, True, True, False, True),
        ({"agent_id": ASKER}, True, False, False, False),
        ({"expires_at": NOW}, True, False, False, False),
        ({"released_at": NOW - timedelta(seconds=1)}, True, False, False, False),
        ({"pattern": "lib/**"}, True, False, False, False),
    ],
)
def test_what_refuses_and_what_is_only_listed(
    theirs: dict[str, Any], asks_exclusive: bool, is_advisory: bool, is_refused: bool, is_listed: bool
) -> None:
    held = record(7, **{"pattern": "src/**", **theirs})
    judgement = judged(wanted("src/a.py", is_exclusive=asks_exclusive), held, is_advisory=is_advisory)
    assert (bool(judgement.refused), bool(judgement.conflicts)) == (is_refused, is_listed)
    assert judgement.next_change == (timedelta(minutes=7) if is_refused else None)
    assert judgement.holding == ({held.id} if is_refused else set())


def test_only_the_patterns_in_question_are_refused() -> None:
    judgement = judged(wanted("a", "b", "c"), record(1, "b"), record(2, "c/x"))
    assert judgement.refused == {1, 2}
    assert judgement.next_change == timedelta(minutes=1)


FREED: dict[str, Any] = {"released_at": NOW - timedelta(seconds=2)}


@pytest.mark.parametrize(
    "theirs, is_kept",
    [
        (wanted("src"), True),
        (wanted("src", is_exclusive=False), True),
        (wanted("lib"), False),  # does not overlap with what is asked for
        (wanted("src/b.py"), False),
        (wanted("src", "held"), False),  # not all of it is free
    ],
)
def test_what_was_freed_is_kept_for_who_came_before(theirs: Wanted, is_kept: bool) -> None:
    records = (record(1, "src", **FREED), record(2, "held"))
    judgement = judged(wanted("src/a.py"), *records, tickets=(ticket(5, theirs),))
    assert bool(judgement.refused) == is_kept
    if is_kept:
        assert [(one.holder, one.queued) for one in judgement.conflicts] == [("A3", True)]
        assert judgement.next_change == timedelta(seconds=3)


def test_it_is_kept_neither_for_long_nor_from_who_came_earlier_nor_from_who_shares() -> None:
    theirs = ticket(5, wanted("src"))
    long_ago = record(1, "src", released_at=NOW - timedelta(seconds=5))
    assert not judged(wanted("src"), long_ago, tickets=(theirs,)).refused
    freed = record(1, "src", **FREED)
    assert not judged(wanted("src"), freed, tickets=(theirs,), own=ticket(4, wanted("src"), ASKER)).refused
    assert judged(wanted("src"), freed, tickets=(theirs,), own=ticket(6, wanted("src"), ASKER)).refused
    sharing = wanted("src", is_exclusive=False)
    assert not judged(sharing, freed, tickets=(ticket(5, sharing),)).refused
    expired = record(1, "src", expires_at=NOW - timedelta(seconds=1))
    assert judged(wanted("src"), expired, tickets=(theirs,)).refused


def test_only_so_many_conflicts_are_described() -> None:
    judgement = judged(wanted("**"), *(record(n, f"f{n}") for n in range(1, CONFLICTS_SHOWN + 31)))
    assert (len(judgement.conflicts), judgement.more_conflicts) == (CONFLICTS_SHOWN, 30)


def test_what_came_since_is_learnt_in_addition() -> None:
    asked = wanted("src/**")
    overlaps = Overlaps(ASKER, asked)
    rows = [ReservedPattern(ReservationId(n), HOLDER, f"src/{n}", False) for n in range(1, 40)]
    theirs = ticket(5, wanted("src/3", "src/30"))
    overlaps.learn_now(Snapshot(1, rows[:20], [theirs], 20))
    assert overlaps.newest == 20
    overlaps.learn_now(Snapshot(2, rows[20:], [theirs], 39))
    assert overlaps.newest == 39
    assert overlaps.ids() == [row.id for row in rows]
    assert [sorted(rival.touched) for rival in overlaps.rivals] == [[3, 30]]
    overlaps.learn_now(Snapshot(3, [], [], 39))
    assert overlaps.rivals == []


def test_the_same_wish_has_the_same_text() -> None:
    assert wanted("a", "b").canonical() == wanted("b", "a").canonical()
    assert wanted("a").canonical() != wanted("a", is_exclusive=False).canonical()
    assert json.loads(wanted("ä").canonical())["patterns"] == [["ä", True]]
    assert wanted_of(ticket(1, wanted("a", "b*"))) == wanted("a", "b*")


def steps_of(count: int, taken: Callable[[], object]) -> Iterator[None]:
    for _ in range(count):
        end = perf_counter() + SLICE_SECONDS / 2
        while perf_counter() < end:
            pass
        taken()
        yield


async def test_long_computations_let_others_run_after_each_slice() -> None:
    turn = asyncio.Lock()
    taken = 0
    most = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    async def other() -> None:
        nonlocal taken, most
        while not done.is_set():
            taken = 0
            await asyncio.sleep(0)
            most = max(most, taken)

    done = asyncio.Event()
    computations = [asyncio.create_task(in_slices(steps_of(30, count), turn)) for _ in range(3)]
    await asyncio.sleep(0)  # each begins with a slice
    watcher = asyncio.create_task(other())
    await asyncio.gather(*computations)
    done.set()
    await watcher
    assert 1 <= most <= 3
    assert not turn.locked()


async def test_a_short_computation_does_not_wait_for_the_end_of_a_long_one() -> None:
    turn = asyncio.Lock()
    ended: list[int] = []

    async def compute(count: int) -> None:
        await in_slices(steps_of(count, lambda: None), turn)
        ended.append(count)

    long = [asyncio.create_task(compute(300)) for _ in range(2)]
    for _ in range(5):  # each of them goes on after its first slice
        await asyncio.sleep(0)
    await compute(10)
    assert ended == [10]
    for task in long:
        task.cancel()
    await asyncio.gather(*long, return_exceptions=True)
    assert not turn.locked()
