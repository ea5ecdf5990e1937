"""Limits as the port promises, in memory and on Redis with three workers."""

import asyncio
import bisect
import random
import time
from collections.abc import AsyncIterator

import pytest
import redis

from agent_mail_cluster.memory.limits import MemoryLimits
from agent_mail_core.limits import Budget, Limits, parse_budget
from tests.contract.clusters import redis_workers, until

BOTH = ["memory", pytest.param("redis", marks=pytest.mark.valkey)]


@pytest.fixture(params=BOTH)
async def limits(request: pytest.FixtureRequest) -> AsyncIterator[list[Limits]]:
    """What the workers of one cluster have; in memory there is one."""
    if request.param == "memory":
        yield [MemoryLimits()]
        return
    url = request.getfixturevalue("valkey_url")
    async with redis_workers(url, 3) as workers:
        for worker in workers:
            await worker.limits.take(Budget("warm-up", 1000), "k")
            assert worker.limits.workers == 3
        yield [worker.limits for worker in workers]
    with redis.Redis.from_url(url) as client:
        client.flushdb()


async def test_a_limit_is_granted_once_over_all_workers(limits: list[Limits]) -> None:
    budget = Budget("reads", 30)
    answers = [await limits[turn % len(limits)].take(budget, "ann") for turn in range(40)]
    assert [answer.is_granted for answer in answers] == [True] * 30 + [False] * 10
    assert [answer.limit for answer in answers] == [30] * 40
    assert [answer.remaining for answer in answers] == [*range(29, -1, -1), *[0] * 10]
    assert all(55 < answer.reset_after_seconds <= 60 for answer in answers)


async def test_keys_and_budgets_are_counted_apart(limits: list[Limits]) -> None:
    for budget in (Budget("reads", 2), Budget("writes", 2)):
        for key in ("ann", "bob", "jwt:https://issuer|é\n\x00\ud800", "x" * 5000, ""):
            answers = [(await limits[0].take(budget, key)).is_granted for _ in range(3)]
            assert answers == [True, True, False]


async def test_of_takers_at_the_same_time_exactly_so_many_are_granted(limits: list[Limits]) -> None:
    budget = Budget("reads", 50)
    answers = await asyncio.gather(*[limits[turn % len(limits)].take(budget, "ann") for turn in range(200)])
    assert sum(answer.is_granted for answer in answers) == 50


async def test_a_taker_that_was_cancelled_leaves_what_it_would_have_got(limits: list[Limits]) -> None:
    budget = Budget("reads", 10)
    takers = [asyncio.create_task(limits[0].take(budget, "ann")) for _ in range(5)]
    await asyncio.sleep(0)
    for taker in takers:
        taker.cancel()
    await asyncio.wait(takers)
    cancelled = sum(taker.cancelled() for taker in takers)
    answers = [await limits[0].take(budget, "ann") for _ in range(12)]
    assert sum(answer.is_granted for answer in answers) == 10 - (5 - cancelled)


async def test_after_the_wait_that_a_refusal_names_one_is_granted(limits: list[Limits]) -> None:
    budget = Budget("reads", 3, window_seconds=1)
    for _ in range(3):
        assert (await limits[0].take(budget, "ann")).is_granted
    refused = await limits[0].take(budget, "ann")
    assert not refused.is_granted
    assert 0.5 < refused.reset_after_seconds <= 1
    await asyncio.sleep(refused.reset_after_seconds + 0.01)
    assert (await limits[0].take(budget, "ann")).is_granted


async def test_any_window_under_demand_grants_the_limit(limits: list[Limits]) -> None:
    window, budgets = 3.0, [Budget(f"reads-{limit}", limit, window_seconds=3) for limit in (100, 1000, 6000)]
    granted: dict[int, list[float]] = {budget.limit: [] for budget in budgets}
    began = time.monotonic()

    async def demand(mine: Limits, budget: Budget, rate: float) -> None:
        """Ask at a steady rate, all that is due at once."""
        asked = 0
        while (now := time.monotonic()) - began < 3.5 * window:
            due = int((now - began) * rate) - asked
            asked += due
            for _ in range(due):
                if (await mine.take(budget, "ann")).is_granted:
                    granted[budget.limit].append(time.monotonic())
            await asyncio.sleep(random.uniform(0.001, 0.01))

    # Three times the limit in all, unevenly.
    shares = [1.5, 1.0, 0.5] if len(limits) == 3 else [3.0]
    demands = [
        demand(mine, budget, share * budget.limit / window)
        for budget in budgets
        for mine, share in zip(limits, shares, strict=True)
    ]
    await asyncio.gather(*demands)
    for limit, times in granted.items():
        starts = [began + step * 0.05 for step in range(int(2.5 * window / 0.05))]
        counts = [bisect.bisect_left(times, start + window) - bisect.bisect_left(times, start) for start in starts]
        assert 0.95 * limit <= min(counts), (limit, counts)
        assert max(counts) <= 1.05 * limit, (limit, counts)


async def test_very_many_keys_take_bounded_memory() -> None:
    limits = MemoryLimits(max_keys=100)
    for number in range(1000):
        await limits.take(Budget("reads", 2), f"k{number}")
    assert len(limits) == 100


@pytest.mark.valkey
async def test_very_many_keys_take_bounded_memory_beside_redis(valkey_url: str) -> None:
    async with redis_workers(valkey_url, 1) as (worker,):
        worker.limits._max_keys = 100
        for number in range(1000):
            await worker.limits.take(Budget("reads", 2), f"k{number}")
        assert len(worker.limits) <= 100


@pytest.mark.valkey
async def test_flushed_limits_begin_anew_and_scripts_are_loaded_again(valkey_url: str) -> None:
    budget = Budget("reads", 1)
    with redis.Redis.from_url(valkey_url) as client:
        async with redis_workers(valkey_url, 2) as (one, two):
            assert (await one.limits.take(budget, "ann")).is_granted
            client.flushall()
            client.script_flush()
            assert (await two.limits.take(budget, "ann")).is_granted
            assert not two.limits.is_local
            assert (await one.limits.take(budget, "bob")).is_granted
            assert not (await two.limits.take(budget, "bob")).is_granted
        client.flushall()
    with redis.Redis.from_url(valkey_url) as client:
        await until(lambda: client.dbsize() == 0)


def test_a_rate_is_read() -> None:
    assert parse_budget("reads", "100/minute") == Budget("reads", 100, 60)
    assert parse_budget("logins", " 6000/hour ") == Budget("logins", 6000, 3600)
    assert parse_budget("team", "500/5 minutes") == Budget("team", 500, 300)
    for text in (
        "",
        "100",
        "0/minute",
        "-1/minute",
        "1/fortnight",
        "1.5/second",
        "٣/second",
        "100 / minute",
        "1/0 days",
    ):
        with pytest.raises(ValueError, match="must be like"):
            parse_budget("reads", text)
