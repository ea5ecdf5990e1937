"""Who gets a place of a build slot: as many as its capacity, those who came first before others."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_mail_core.acquiring import places
from agent_mail_core.build_slots import SlotLeaseRecord
from agent_mail_core.ids import AgentId, SlotId, SlotLeaseId
from agent_mail_core.leases import Ticket

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def lease(number: int, freed_seconds_ago: float | None = None) -> SlotLeaseRecord:
    released_at = NOW - timedelta(seconds=freed_seconds_ago) if freed_seconds_ago is not None else None
    return SlotLeaseRecord(
        SlotLeaseId(number),
        SlotId(1),
        "ci",
        "build",
        AgentId(number),
        f"A{number}",
        number,
        NOW - timedelta(minutes=5),
        NOW + timedelta(minutes=number),
        released_at,
        NOW,
    )


def ticket(number: int) -> Ticket:
    return Ticket(number, AgentId(100 + number), f"Q{number}", "{}")


@pytest.mark.parametrize(
    "capacity, live, freed, ahead, is_free",
    [
        (1, 0, 0, 0, True),
        (1, 1, 0, 0, False),
        (3, 2, 0, 0, True),
        (1, 0, 1, 0, True),  # freed, and nobody waits
        (1, 0, 1, 1, False),  # freed a moment ago: the head's
        (1, 0, 0, 1, True),  # free for longer: anybody's
        (2, 0, 2, 1, True),  # one for the head, one for who asks
        (2, 0, 2, 2, False),
        (2, 1, 1, 1, False),
        (1, 2, 0, 0, False),  # the capacity was lowered
    ],
)
def test_a_place_is_free_unless_it_is_held_or_kept(
    capacity: int, live: int, freed: int, ahead: int, is_free: bool
) -> None:
    leases = [lease(n) for n in range(1, live + 1)] + [lease(50 + n, 1) for n in range(freed)]
    left = places(capacity, leases, [ticket(n) for n in range(ahead)], None)
    assert (left.is_free, left.place) == (is_free, ahead + 1)


@pytest.mark.parametrize(
    "capacity, live, ahead, passed_over",
    [(1, 0, 0, 0), (1, 0, 1, 1), (1, 0, 2, 2), (3, 1, 1, 0), (3, 1, 2, 1), (3, 3, 0, 1)],
)
def test_who_takes_one_passes_over_those_for_whom_none_is_left(
    capacity: int, live: int, ahead: int, passed_over: int
) -> None:
    left = places(capacity, [lease(n) for n in range(1, live + 1)], [ticket(n) for n in range(ahead)], None)
    assert left.passed_over == passed_over


def test_only_those_who_came_before_are_ahead() -> None:
    queue = [ticket(1), ticket(2), ticket(3)]
    assert [places(1, [lease(9, 1)], queue, own).is_free for own in queue] == [True, False, False]
    assert [places(1, [lease(9, 1)], queue, own).place for own in queue] == [1, 2, 3]


def test_the_next_look_is_when_the_first_lease_ends_or_is_kept_no_longer() -> None:
    assert places(2, [lease(3), lease(2)], [], None).next_change == timedelta(minutes=2)
    assert places(2, [lease(3), lease(9, 4)], [], None).next_change == timedelta(seconds=1)
    assert places(2, [], [], None).next_change is None
