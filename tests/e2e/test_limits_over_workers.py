"""Rate limits over real workers: what is granted in any window while more is asked than the limit allows (SPEC §6).

Windows of four seconds: `python -m loadtests.limits` measures the true budgets, which takes minutes.
"""

from dataclasses import replace

import pytest

from agent_mail_core.limits import Budget
from loadtests.limits import Asked, count, measure

TRIES = 3
BUDGET = Budget("reads", 10, window_seconds=1)


def steadily(grants: set[int]) -> list[Asked]:
    """Three seconds of a request every 1/100 s, of which those of these numbers were granted."""
    return [Asked(number / 100, number / 100, number / 100 + 0.001, 0, number in grants) for number in range(300)]


@pytest.mark.postgres
@pytest.mark.valkey
@pytest.mark.parametrize("name, workers", [("reads", 2), ("team", 3)])
def test_any_window_under_demand_grants_the_limit_over_all_workers(name: str, workers: int) -> None:
    """Short windows feel every pause of a busy machine, which has three tries; a limit that is not shared, or is kept
    by the clock's windows, fails in each.
    """
    tries = []
    for _ in range(TRIES):
        tries.append(measure(name, "400/4 seconds", workers, windows=2.5))
        if tries[-1].holds and all(tries[-1].by_worker):
            return
    raise AssertionError([found.line() for found in tries])


def test_a_limit_that_is_kept_is_said_to_hold() -> None:
    found = count(BUDGET, "10/second", 1, steadily({100 * second + 3 * n for second in range(3) for n in range(10)}))
    assert (found.least, found.most) == (1.0, 1.0)
    assert found.holds


def test_windows_that_are_fixed_are_found_out() -> None:
    """Twice the limit where two windows of a clock meet."""
    found = count(BUDGET, "10/second", 1, steadily({*range(90, 100), *range(100, 110), *range(200, 210)}))
    assert found.most == 2.0
    assert not found.holds


def test_a_limit_that_grants_too_little_is_found_out() -> None:
    found = count(BUDGET, "10/second", 1, steadily({*range(10), *range(120, 130), *range(240, 250)}))
    assert found.least == 0
    assert not found.holds


def test_while_requests_are_late_nothing_is_said_from_below() -> None:
    asked = [replace(each, due=each.due - 0.1) if each.sent > 1 else each for each in steadily(set(range(10)))]
    assert count(BUDGET, "10/second", 1, asked).windows < 20
