"""Doing jobs, on both engines: what becomes of one that fails, hangs, loses its lease or is stopped in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from agent_mail_cluster.memory.job_queue import MemoryJobQueue
from agent_mail_core import job_runner, jobs
from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.job_queue import JobKind
from agent_mail_core.job_runner import JobRunner
from agent_mail_core.jobs import LEASE, MOST_ATTEMPTS, Handler, Job, KindRules, Performed, pause_after, perform
from agent_mail_core.ports import App
from tests.contract.clusters import until
from tests.contract.conftest import StoreFamily
from tests.contract.databases import Database
from tests.contract.office import TEAM


async def want(app: App, subject_id: int, kind: JobKind = "archive") -> None:
    async with app.store.write() as db:
        await db.jobs.want(kind, subject_id, TEAM)


async def claimed(app: App, kind: JobKind = "archive") -> Job:
    async with app.store.write() as db:
        job = await db.jobs.claim([kind], LEASE)
    assert job is not None
    return job


async def counts(app: App) -> dict[str, tuple[int, int, int]]:
    async with app.store.read() as db:
        return {figures.kind: (figures.waiting, figures.running, figures.dead) for figures in await db.jobs.figures()}


def failing(error: Exception) -> Handler:
    async def handler(app: App, job: Job) -> None:
        raise error

    return handler


async def test_what_a_handler_raises_is_tried_again_with_growing_pauses_until_the_job_is_dead(
    app: App, database: Database
) -> None:
    await want(app, 7)
    outcomes = []
    for attempt in range(1, MOST_ATTEMPTS + 1):
        job = await claimed(app)
        assert job.attempt == attempt
        outcomes.append((await perform(app, {"archive": failing(ValueError("no\x00way"))}, job)).outcome)
        await database.age("jobs", pause_after(1000) * 2, "run_at")
    assert outcomes == ["failed"] * (MOST_ATTEMPTS - 1) + ["dead"]
    assert await counts(app) == {"archive": (0, 0, 1)}
    async with app.store.read() as db:
        (dead,) = await db.jobs.dead(TEAM, None, 10)
    assert (dead.attempts, dead.last_error) == (MOST_ATTEMPTS, "ValueError: noway")


def test_pauses_double_from_half_a_second_to_ten_minutes() -> None:
    for attempt, longest in ((1, 1.0), (2, 2.0), (5, 16.0), (10, 512.0), (11, 600.0), (10_000, 600.0)):
        pauses = [pause_after(attempt).total_seconds() for _ in range(100)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
        assert len(set(pauses)) > 50, "they are spread"


async def test_a_part_that_is_away_kills_no_job(app: App, database: Database) -> None:
    await want(app, 7)
    for _ in range(MOST_ATTEMPTS + 3):
        performed = await perform(app, {"archive": failing(DatabaseUnavailable())}, await claimed(app))
        assert performed.outcome == "failed"
        await database.age("jobs", pause_after(1000) * 2, "run_at")


async def test_a_job_that_ends_its_workers_is_dead_in_the_end(app: App, database: Database) -> None:
    await want(app, 7)
    for _ in range(MOST_ATTEMPTS):
        await claimed(app)
        await database.age("jobs", LEASE, "run_at", "leased_until")

    async def handler(app: App, job: Job) -> None:
        raise AssertionError("it is not to be tried")

    assert (await perform(app, {"archive": handler}, await claimed(app))).outcome == "dead"


async def test_a_sweep_never_dies(app: App, database: Database) -> None:
    await want(app, 7, "sweep")
    for _ in range(MOST_ATTEMPTS + 3):
        job = await claimed(app, "sweep")
        assert (await perform(app, {"sweep": failing(ValueError("no"))}, job)).outcome == "failed"
        await database.age("jobs", pause_after(1000) * 2, "run_at")


async def test_an_attempt_has_a_time_limit(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KINDS", {"archive": KindRules(timedelta(milliseconds=50))})
    await want(app, 7)
    hanging = Hanging()
    performed = await perform(app, {"archive": hanging}, await claimed(app))
    assert performed.outcome == "failed"
    assert isinstance(performed.error, TimeoutError)
    assert hanging.was_cancelled


@dataclass
class Hanging:
    """A handler that does not end by itself."""

    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    was_cancelled: bool = False

    async def __call__(self, app: App, job: Job) -> None:
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def test_a_lease_is_renewed_while_the_handler_runs(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = timedelta(seconds=0.6)
    monkeypatch.setattr(jobs, "LEASE", lease)
    await want(app, 7)
    async with app.store.write() as db:
        job = await db.jobs.claim(["archive"], lease)
    assert job is not None
    is_over = asyncio.Event()

    async def handler(app: App, job: Job) -> None:
        await is_over.wait()
        async with app.store.write() as db:
            await db.jobs.hold(job)

    doing = asyncio.create_task(perform(app, {"archive": handler}, job))
    await asyncio.wait({doing}, timeout=2 * lease.total_seconds())
    async with app.store.write() as db:
        assert await db.jobs.claim(["archive"], lease) is None
    is_over.set()
    assert (await doing).outcome == "done"


async def test_who_loses_the_lease_is_stopped_and_stores_nothing(
    app: App, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LEASE", timedelta(seconds=0.3))
    await want(app, 7)
    hanging = Hanging()
    doing = asyncio.create_task(perform(app, {"archive": hanging}, await claimed(app)))
    await hanging.has_begun.wait()
    await database.age("jobs", LEASE, "run_at", "leased_until")
    other = await claimed(app)
    assert (await doing).outcome == "lost"
    assert hanging.was_cancelled
    async with app.store.write() as db:
        await db.jobs.hold(other)


async def test_a_paused_worker_writes_nothing_once_its_lease_is_over(app: App, database: Database) -> None:
    await want(app, 7)

    async def handler(app: App, job: Job) -> None:
        await database.age("jobs", LEASE, "run_at", "leased_until")  # it stood still for so long
        async with app.store.write() as db:
            await db.jobs.hold(job)
            await db.jobs.want("summary", 1, TEAM)

    assert (await perform(app, {"archive": handler}, await claimed(app))).outcome == "lost"
    assert await counts(app) == {"archive": (0, 1, 0)}


# --- the runner -------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """What a runner reports."""

    lines: list[tuple[str, int, str]] = field(default_factory=list)

    def __call__(self, job: Job, performed: Performed, seconds: float) -> None:
        self.lines.append((job.kind, job.subject_id, performed.outcome))


@asynccontextmanager
async def running(runner: JobRunner, patience: float = 1.0) -> AsyncIterator[None]:
    runner.start()
    try:
        yield
    finally:
        await runner.stop(patience)


async def test_what_is_due_is_found_without_being_told(app: App) -> None:
    async def handler(app: App, job: Job) -> None:
        if job.subject_id == 1:
            async with app.store.write() as db:
                await db.jobs.want("archive", 2, TEAM)

    log = Log()
    await want(app, 1)
    async with running(JobRunner(app, {"archive": handler}, log)):
        await until(lambda: len(log.lines) == 2)
    assert log.lines == [("archive", 1, "done"), ("archive", 2, "done")]
    assert await counts(app) == {}


async def test_what_gathers_is_looked_for_when_it_has(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """First wanted by somebody who tells of it, then again by the job itself."""
    monkeypatch.setattr(job_runner, "LOOK_SECONDS", 1000)
    gathers = jobs.KINDS["archive"].gathers

    async def handler(app: App, job: Job) -> None:
        if not log.lines:
            async with app.store.write() as db:
                await db.jobs.want("archive", 7, TEAM, gathers)

    log = Log()
    runner = JobRunner(app, {"archive": handler}, log)
    async with running(runner):
        async with app.store.write() as db:
            await db.jobs.want("archive", 7, TEAM, gathers)
        for _ in range(3):
            await runner.woken("archive", 7)
        await until(lambda: len(log.lines) == 2)
    assert log.lines == [("archive", 7, "done")] * 2


async def test_what_gathers_for_long_holds_up_nothing_else(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "LOOK_SECONDS", 1000)
    rules = {**jobs.KINDS, "archive": KindRules(timedelta(minutes=30), gathers=timedelta(hours=1))}
    monkeypatch.setattr(job_runner, "KINDS", rules)

    async def handler(app: App, job: Job) -> None:
        return None

    log = Log()
    runner = JobRunner(app, {"archive": handler, "outbox": handler}, log)
    async with running(runner):
        await runner.woken("archive", 7)
        await runner.woken("outbox", 0)
        await until(lambda: log.lines == [("outbox", 0, "done")])
        await want(app, 7)
        await runner.woken("archive", 7)
        await until(lambda: ("archive", 7, "done") in log.lines)


async def test_no_more_than_so_many_jobs_run_at_once_and_none_is_left(app: App) -> None:
    most = now = 0
    is_full = asyncio.Event()

    async def handler(app: App, job: Job) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        if now == 3:
            is_full.set()
        await is_full.wait()
        now -= 1

    for subject_id in range(20):
        await want(app, subject_id)
    log = Log()
    async with running(JobRunner(app, {"archive": handler}, log, at_once=3)):
        await until(lambda: len(log.lines) == 20)
    assert sorted(line[1] for line in log.lines) == list(range(20))
    assert most == 3


async def test_work_that_waits_for_others_leaves_places_to_the_rest(app: App) -> None:
    waits, may_end = 0, asyncio.Event()

    async def waiting(app: App, job: Job) -> None:
        nonlocal waits
        waits += 1
        await may_end.wait()

    async def quick(app: App, job: Job) -> None:
        return None

    for subject_id in range(5):
        await want(app, subject_id, "webhook")
    for subject_id in range(5):
        await want(app, subject_id)
    log = Log()
    async with running(JobRunner(app, {"webhook": waiting, "archive": quick}, log, at_once=3)):
        await until(lambda: len(log.lines) == 5)
        assert {line[0] for line in log.lines} == {"archive"}
        assert waits == jobs.KINDS["webhook"].most_at_once == 2
        may_end.set()
        await until(lambda: len(log.lines) == 10)


async def test_a_wake_is_answered_at_once_and_again_for_what_came_meanwhile(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "LOOK_SECONDS", 60.0)
    queue = MemoryJobQueue()
    woken_app = replace(app, jobs=queue)
    times: list[float] = []

    async def handler(app: App, job: Job) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            await runner.woken("outbox", 0)

    log = Log()
    runner = JobRunner(woken_app, {"outbox": handler}, log)
    async with running(runner):
        hearing = asyncio.create_task(queue.consume(runner.woken))
        await asyncio.sleep(0)
        for _ in range(1000):
            woken_app.jobs.wake("outbox", 0)
        await until(lambda: len(log.lines) == 2)
        woken_app.jobs.wake("outbox", 0)
        await until(lambda: len(log.lines) == 3)
        hearing.cancel()
        await asyncio.wait({hearing})
    assert len(times) == 3
    assert await counts(app) == {}


async def test_stopping_lets_short_jobs_end_and_gives_long_ones_back(app: App, family: StoreFamily) -> None:
    may_end = asyncio.Event()
    hanging = Hanging()

    async def handler(app: App, job: Job) -> None:
        if job.subject_id == 1:
            await hanging(app, job)
        await may_end.wait()

    for subject_id in (1, 2):
        await want(app, subject_id)
    log = Log()
    runner = JobRunner(app, {"archive": handler}, log)
    runner.start()
    await until(lambda: hanging.has_begun.is_set())
    await want(app, 3)
    asyncio.get_running_loop().call_later(0.1, may_end.set)
    began = asyncio.get_running_loop().time()
    await runner.stop(0.5)
    assert asyncio.get_running_loop().time() - began < 2
    assert {(line[1], line[2]) for line in log.lines} >= {(1, "given_back"), (2, "done")}
    assert hanging.was_cancelled
    other = replace(app, store=await family.open())
    again = await claimed(other)
    assert again.attempt == 1, "at once, and not counted"


async def test_work_that_there_always_is_gets_its_rows(app: App) -> None:
    log = Log()

    async def handler(app: App, job: Job) -> timedelta:
        return timedelta(hours=1)

    async with running(JobRunner(app, {"sweep": handler}, log, always=[("sweep", 1), ("sweep", 2)])):
        await until(lambda: len(log.lines) == 2)
    assert await counts(app) == {"sweep": (2, 0, 0)}
    async with running(JobRunner(app, {"sweep": handler}, log, always=[("sweep", 1), ("sweep", 2)])):
        await until(lambda: len(log.lines) == 4)
