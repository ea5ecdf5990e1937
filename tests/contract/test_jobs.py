"""Rows of background work, on both engines: who has a job, what a fence is for, and what becomes of failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from agent_mail_core.job_queue import JobKind
from agent_mail_core.jobs import NOW, Job, Jobs, LeaseLost
from agent_mail_core.ports import App
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.office import TEAM

LEASE = timedelta(seconds=30)
KINDS: list[JobKind] = ["archive", "summary"]


async def want(app: App, subject_id: int, kind: JobKind = "archive", after: timedelta = NOW) -> None:
    async with app.store.write() as db:
        await db.jobs.want(kind, subject_id, TEAM, after)


async def claim(app: App, kinds: list[JobKind] = KINDS) -> Job | None:
    async with app.store.write() as db:
        return await db.jobs.claim(kinds, LEASE)


async def claimed(app: App) -> Job:
    job = await claim(app)
    assert job is not None
    return job


async def finish(app: App, job: Job, again_after: timedelta | None = None) -> bool:
    async with app.store.write() as db:
        return await db.jobs.finish(job, again_after)


async def counts(app: App) -> dict[str, tuple[int, int, int]]:
    async with app.store.read() as db:
        return {figures.kind: (figures.waiting, figures.running, figures.dead) for figures in await db.jobs.figures()}


async def expire(database: Database) -> None:
    """The time of all leases is over."""
    await database.age("jobs", LEASE, "run_at", "leased_until")


async def test_of_twenty_workers_that_look_at_once_one_gets_the_job(app: App, family: StoreFamily) -> None:
    apps = [app, *[replace(app, store=await family.open()) for _ in range(3)]]
    await want(app, 7)
    found = await asyncio.gather(*(claim(apps[number % 4]) for number in range(20)))
    assert [(job.kind, job.subject_id, job.attempt) for job in found if job] == [("archive", 7, 1)]


async def test_twenty_workers_share_twenty_jobs_out_among_them(app: App, family: StoreFamily) -> None:
    apps = [app, *[replace(app, store=await family.open()) for _ in range(3)]]
    for subject_id in range(20):
        await want(app, subject_id)
    rounds = [await asyncio.gather(*(claim(apps[number % 4]) for number in range(20))) for _ in range(20)]
    subjects = [job.subject_id for found in rounds for job in found if job]
    assert sorted(subjects) == list(range(20))


async def test_jobs_are_taken_in_the_order_in_which_they_became_due(app: App) -> None:
    await want(app, 1)
    await want(app, 2, kind="summary")
    await want(app, 3, after=timedelta(hours=1))
    await want(app, 4, kind="outbox")
    assert [(await claimed(app)).subject_id for _ in range(2)] == [1, 2]
    assert await claim(app) is None


async def test_what_is_done_is_gone_and_what_was_wanted_meanwhile_comes_again(app: App) -> None:
    await want(app, 7)
    job = await claimed(app)
    await want(app, 7)
    assert await claim(app) is None, "it is being done"
    assert await finish(app, job)
    again = await claimed(app)
    assert again.fence > job.fence
    assert again.attempt == 1
    assert not await finish(app, again)
    assert await counts(app) == {}


async def test_what_was_wanted_meanwhile_may_gather_first(app: App, database: Database) -> None:
    await want(app, 7)
    job = await claimed(app)
    await want(app, 7)
    async with app.store.write() as db:
        assert await db.jobs.finish(job, timedelta(minutes=5), timedelta(minutes=1))
    assert await claim(app) is None
    await database.age("jobs", timedelta(minutes=1), "run_at")
    assert await claim(app) is not None


async def test_what_always_comes_again_does_so_at_its_time(app: App, database: Database) -> None:
    await want(app, 7)
    assert not await finish(app, await claimed(app), timedelta(minutes=5))
    assert await claim(app) is None
    await database.age("jobs", timedelta(minutes=5), "run_at")
    job = await claimed(app)
    await want(app, 7)
    assert await finish(app, job, timedelta(minutes=5))
    assert await claim(app) is not None, "it was wanted while it ran"


async def test_wanting_it_sooner_brings_it_forward_and_later_does_not_put_it_off(app: App) -> None:
    await want(app, 7, after=timedelta(hours=1))
    assert await claim(app) is None
    await want(app, 7)
    await want(app, 7, after=timedelta(hours=1))
    assert await claim(app) is not None


async def test_an_expired_lease_lets_another_worker_in_and_keeps_the_first_from_writing(
    app: App, database: Database
) -> None:
    await want(app, 7)
    first = await claimed(app)
    await expire(database)
    second = await claimed(app)
    assert (second.subject_id, second.attempt) == (7, 2)
    assert second.fence > first.fence
    await refused(app, first)
    async with app.store.write() as db:
        await db.jobs.hold(second)
        await db.jobs.renew(second, LEASE)
    assert not await finish(app, second)


async def test_whose_lease_expired_writes_nothing_even_if_nobody_came(app: App, database: Database) -> None:
    await want(app, 7)
    job = await claimed(app)
    await expire(database)
    await refused(app, job)
    assert await counts(app) == {"archive": (0, 1, 0)}


async def refused(app: App, job: Job) -> None:
    """None of what a job's worker may do is possible with it any more."""

    async def try_to(do: Callable[[Jobs], Awaitable[object]]) -> None:
        async with app.store.write() as db:
            await db.jobs.want("summary", 1, TEAM)
            await do(db.jobs)

    for do in (
        lambda jobs: jobs.hold(job),
        lambda jobs: jobs.renew(job, LEASE),
        lambda jobs: jobs.finish(job),
        lambda jobs: jobs.finish(job, NOW),
        lambda jobs: jobs.postpone(job, None, NOW, 0),
        lambda jobs: jobs.bury(job, "no"),
    ):
        with pytest.raises(LeaseLost):
            await try_to(do)
    assert "summary" not in await counts(app), "what stood before it is undone too"


async def test_a_fence_of_a_subject_whose_row_was_gone_meanwhile_is_not_used_again(app: App) -> None:
    await want(app, 7)
    first = await claimed(app)
    await finish(app, first)
    await want(app, 7)
    second = await claimed(app)
    assert second.fence != first.fence
    await refused(app, first)


async def test_nobody_takes_a_job_while_a_transaction_of_its_worker_holds_it(app: App, family: StoreFamily) -> None:
    other = replace(app, store=await family.open())
    lease = timedelta(seconds=1)
    await want(app, 7)
    job = await claimed(app)

    is_held = asyncio.Event()

    async def look_until_it_would_be_due() -> list[Job | None]:
        await is_held.wait()
        end = asyncio.get_running_loop().time() + 1.2 * lease.total_seconds()
        found: list[Job | None] = []
        while asyncio.get_running_loop().time() < end:
            found.append(await claim(other))
        return found

    looking = asyncio.create_task(look_until_it_would_be_due())
    async with app.store.write() as db:
        await db.jobs.renew(job, lease)
    async with app.store.write() as db:
        await db.jobs.hold(job)
        is_held.set()
        await asyncio.wait({looking}, timeout=1.1 * lease.total_seconds())
        assert not looking.done() or set(looking.result()) == {None}
        await db.jobs.want("outbox", 1, TEAM)
    await looking
    assert (await counts(app))["outbox"] == (1, 0, 0), "it was stored, though the lease expired meanwhile"
    taken = [found for found in looking.result() if found] or [await claimed(other)]
    assert taken[0].fence > job.fence


async def test_a_failed_job_waits_for_its_time_though_it_is_wanted(app: App, database: Database) -> None:
    await want(app, 7)
    job = await claimed(app)
    async with app.store.write() as db:
        await db.jobs.postpone(job, "disk full", timedelta(minutes=1), job.attempt)
    await want(app, 7)
    assert await claim(app) is None
    await database.age("jobs", timedelta(minutes=1), "run_at")
    assert (await claimed(app)).attempt == 2


async def test_a_job_given_back_is_taken_at_once_and_has_not_been_tried(app: App) -> None:
    await want(app, 7)
    job = await claimed(app)
    async with app.store.write() as db:
        await db.jobs.postpone(job, None, NOW, job.attempt - 1)
    assert (await claimed(app)).attempt == 1


async def test_dead_jobs_are_listed_retried_and_dropped_by_their_team_alone(app: App, database: Database) -> None:
    other = await database.add_team("other")
    for subject_id in (3, 1, 2):
        await want(app, subject_id)
        job = await claimed(app)
        async with app.store.write() as db:
            await db.jobs.bury(job, f"no {job.subject_id}")
    await want(app, 1)
    assert await claim(app) is None, "the dead stay dead"
    assert await counts(app) == {"archive": (0, 0, 3)}
    async with app.store.read() as db:
        assert await db.jobs.dead(other, None, 10) == []
        first = await db.jobs.dead(TEAM, None, 2)
        rest = await db.jobs.dead(TEAM, (first[-1].kind, first[-1].subject_id), 2)
    assert [(job.subject_id, job.attempts, job.last_error) for job in first + rest] == [
        (1, 1, "no 1"),
        (2, 1, "no 2"),
        (3, 1, "no 3"),
    ]
    async with app.store.write() as db:
        for team_id, kind, one in ((other, "archive", 1), (other, "archive", None), (TEAM, "summary", None)):
            assert await db.jobs.retry(team_id, kind, one) == []
            assert await db.jobs.drop(team_id, kind, one) == []
        assert await db.jobs.retry(TEAM, "archive", 9) == []
        assert await db.jobs.retry(TEAM, "archive", 1) == [1]
        assert await db.jobs.retry(TEAM, "archive", 1) == [], "it is alive"
        assert await db.jobs.drop(TEAM, "archive", 1) == [], "it is alive"
        assert await db.jobs.drop(TEAM, "archive", 2) == [2]
    job = await claimed(app)
    assert (job.subject_id, job.attempt) == (1, 1)
    assert await counts(app) == {"archive": (0, 1, 1)}
    async with app.store.write() as db:
        assert await db.jobs.retry(TEAM, "archive", None) == [3]


async def test_figures_tell_how_long_the_oldest_has_waited(app: App, database: Database) -> None:
    await want(app, 1)
    await want(app, 2, after=timedelta(hours=2))
    await database.age("jobs", timedelta(minutes=10), "run_at")
    async with app.store.read() as db:
        (figures,) = await db.jobs.figures()
    assert (figures.kind, figures.waiting, figures.running, figures.dead) == ("archive", 2, 0, 0)
    assert 600 <= figures.oldest_due_seconds < 660
    await claimed(app)
    async with app.store.read() as db:
        (figures,) = await db.jobs.figures()
    assert figures.oldest_due_seconds == 0
