"""Background work: rows that say what is to be done, and the rules by which one of them is done.

A worker that takes a job holds it by a lease with a fence; every transaction of the job's handler that writes begins
with `jobs.hold(job)`, so that a worker which lost its lease (it was paused, or cut off) writes nothing. Every handler
is safe to run twice: a worker may die after its last commit and before the job is finished.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias

from agent_mail_core.errors import AgentMailError, Unavailable
from agent_mail_core.ids import TeamId
from agent_mail_core.job_queue import JobKind
from agent_mail_core.leases import insist
from agent_mail_core.ports import App, Store, Transaction

LEASE = timedelta(seconds=15)
"""How long a worker that died keeps its jobs from others. One that lives renews its leases three times as often."""

MOST_ATTEMPTS = 12
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=10)
ERROR_LENGTH = 500

STOP_PATIENCE = 1.0
"""Seconds in which a handler that was cancelled should end."""

NOW = timedelta(0)


@dataclass(frozen=True, slots=True)
class KindRules:
    """How a kind of work is done."""

    time_limit: timedelta
    """Of one attempt."""
    is_lasting: bool = False
    """There will always be such work: it is never dead, only later."""
    is_made_by_wakes: bool = False
    """It has no row until somebody says that there is work."""
    most_at_once: int | None = None
    """Of a worker's places, for work that mostly waits for others; None: all of them."""
    gathers: timedelta = NOW
    """How long it waits for more once it is wanted, where much at once costs little more than one."""


KINDS: Mapping[JobKind, KindRules] = {
    "outbox": KindRules(
        timedelta(seconds=30), is_lasting=True, is_made_by_wakes=True, gathers=timedelta(milliseconds=100)
    ),
    # A commit writes every folder above what is new. Ten busy projects, 4,000 messages: 31 commits each instead of 256,
    # and twice as many messages a second, as there was processor time left for them.
    "archive": KindRules(timedelta(minutes=30), gathers=timedelta(milliseconds=500)),
    "summary": KindRules(timedelta(minutes=2), most_at_once=2),
    "webhook": KindRules(timedelta(minutes=2), is_lasting=True, most_at_once=2),
    "embedding": KindRules(timedelta(minutes=2), most_at_once=2),
    "sweep": KindRules(timedelta(minutes=1), is_lasting=True),
}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the worker holds it that has taken it."""

    kind: JobKind
    subject_id: int
    team_id: TeamId | None
    """None: work of no team, such as a sweep."""
    fence: int
    attempt: int
    """1 for the first one since it was last done."""


@dataclass(frozen=True, slots=True)
class DeadJobRecord:
    """A job that failed too often."""

    kind: str
    subject_id: int
    attempts: int
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KindFigures:
    """How much work of a kind there is."""

    kind: str
    waiting: int
    """Due and not begun, or to be tried again later."""
    running: int
    dead: int
    oldest_due_seconds: float
    """How long the oldest one has been due and not begun; 0: none is."""


class LeaseLost(Exception):
    """The job belongs to another worker by now, or to nobody: write nothing, and end."""


class Jobs(Protocol):
    """Store of background work. One row for each kind and subject; time is the database's."""

    async def want(self, kind: JobKind, subject_id: int, team_id: TeamId | None = None, after: timedelta = NOW) -> None:
        """There is work: do it after so long, or once more when it is being done now.

        A job that waits for its next attempt after a failure keeps its time, and a dead one stays dead. Wake the queue
        after the commit.
        """
        ...

    async def claim(self, kinds: list[JobKind], lease: timedelta) -> Job | None:
        """Take the job of these kinds that has been due for longest; None when none is due.

        Due are those whose time has come, and those whose worker's lease has expired. Atomic: a job is never had by two
        workers. The fence is one that the subject never had before.
        """
        ...

    async def renew(self, job: Job, lease: timedelta) -> None:
        """Hold it for so long from now on. Raises LeaseLost."""
        ...

    async def hold(self, job: Job) -> None:
        """Nobody else takes the job before this transaction has ended. Raises LeaseLost.

        The first statement of each of a handler's transactions that write.
        """
        ...

    async def finish(self, job: Job, again_after: timedelta | None = None, wanted_after: timedelta = NOW) -> bool:
        """It is done, and to be done again after so long; None: its row goes. Raises LeaseLost.

        Wanted again while it ran, it is due after `wanted_after` instead: True.
        """
        ...

    async def postpone(self, job: Job, error: str | None, after: timedelta, attempts: int) -> None:
        """It is not done: due again after so long, with so many attempts behind it. Raises LeaseLost."""
        ...

    async def bury(self, job: Job, error: str) -> None:
        """It is dead: nobody takes it until it is retried. Raises LeaseLost."""
        ...

    async def dead(self, team_id: TeamId, after: tuple[str, int] | None, limit: int) -> list[DeadJobRecord]:
        """A team's dead jobs, by kind and subject."""
        ...

    async def retry(self, team_id: TeamId, kind: str, subject_id: int | None) -> list[int]:
        """Make a team's dead jobs of a kind, or the one of a subject, due now, as if never tried; their subjects."""
        ...

    async def drop(self, team_id: TeamId, kind: str, subject_id: int | None) -> list[int]:
        """Forget them; their subjects."""
        ...

    async def figures(self) -> list[KindFigures]:
        """Of each kind of which there is any work."""
        ...


async def work_at_hand(store: Store) -> list[KindFigures]:
    """How much there is to do, for those who watch."""
    async with store.read() as db:
        return await db.jobs.figures()


Handler: TypeAlias = Callable[[App, Job], Awaitable[timedelta | None]]
"""Does a job, or as much of it as should be done at once; after how long it is to be done again (None: when wanted)."""

Handlers: TypeAlias = Mapping[JobKind, Handler]

Outcome = Literal["done", "failed", "dead", "lost", "given_back"]
"""Lost: its lease went to another worker, or the database did not take the outcome; it will be done again."""


@dataclass(frozen=True, slots=True)
class Performed:
    """What came of one attempt."""

    outcome: Outcome
    error: BaseException | None = None


async def perform(app: App, handlers: Handlers, job: Job) -> Performed:
    """Do a job that was claimed, and store what came of it. Raises nothing but CancelledError.

    Cancelled, it gives the job back, for another worker to take at once.
    """
    rules = KINDS[job.kind]
    if job.attempt > MOST_ATTEMPTS and not rules.is_lasting:
        return await _settled(app, "dead", _Undone("its workers ended while they did it"), _burial(job, "no outcome"))
    try:
        again_after = await _attempt(app, handlers[job.kind], job, rules.time_limit)
    except asyncio.CancelledError:
        await _settled(app, "given_back", None, lambda db: db.jobs.postpone(job, None, NOW, job.attempt - 1))
        raise
    except LeaseLost as error:
        return Performed("lost", error)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is stored with the job
        return await _failed(app, job, error, rules)
    return await _done(app, job, again_after)


async def _done(app: App, job: Job, again_after: timedelta | None) -> Performed:
    async def finish(db: Transaction) -> None:
        await db.jobs.finish(job, again_after, KINDS[job.kind].gathers)

    return await _settled(app, "done", None, finish)


async def _failed(app: App, job: Job, error: Exception, rules: KindRules) -> Performed:
    """Later again; or never, when it has failed too often. A part that is away is no reason to give up."""
    is_patient = rules.is_lasting or isinstance(error, Unavailable)
    said = f"{type(error).__name__}: {error}"[:ERROR_LENGTH].replace("\x00", "")
    if job.attempt >= MOST_ATTEMPTS and not is_patient:
        return await _settled(app, "dead", error, _burial(job, said))
    attempts = min(job.attempt, MOST_ATTEMPTS - 1)
    return await _settled(
        app, "failed", error, lambda db: db.jobs.postpone(job, said, pause_after(job.attempt), attempts)
    )


def _burial(job: Job, said: str) -> Callable[[Transaction], Awaitable[None]]:
    return lambda db: db.jobs.bury(job, said)


async def _settled(
    app: App, outcome: Outcome, error: BaseException | None, store: Callable[[Transaction], Awaitable[None]]
) -> Performed:
    """The outcome, stored. When it cannot be, the lease expires, and the job is done again."""

    async def write() -> None:
        async with app.store.write() as db:
            await store(db)

    try:
        await insist(write)
    except (LeaseLost, AgentMailError) as lost:
        return Performed("lost", error or lost)
    return Performed(outcome, error)


class _Undone(Exception):
    """No attempt came to an end."""


def pause_after(attempt: int) -> timedelta:
    """How long to wait after so many failures: doubled each time, and between half of that and all of it."""
    longest = min(FIRST_PAUSE * 2.0 ** min(attempt - 1, 20), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret


async def _attempt(app: App, handler: Handler, job: Job, time_limit: timedelta) -> timedelta | None:
    """What the handler answers, while its lease is renewed; it is cancelled when the lease is lost, or time is up."""
    work = asyncio.ensure_future(handler(app, job))
    renewal = asyncio.create_task(_keep(app, job))
    try:
        await asyncio.wait({work, renewal}, timeout=time_limit.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if renewal.done():
            renewal.result()  # raises LeaseLost
        raise TimeoutError(f"not done within {time_limit.total_seconds():.0f} s")
    finally:
        work.cancel()
        renewal.cancel()
        await asyncio.wait({work, renewal}, timeout=STOP_PATIENCE)


async def _keep(app: App, job: Job) -> None:
    """Renew the lease until cancelled. Raises LeaseLost, and nothing else."""
    while True:
        await asyncio.sleep(LEASE.total_seconds() / 3)
        with suppress(AgentMailError):  # the database is away, or the handler's transaction holds the row just now
            async with app.store.write() as db:
                await db.jobs.renew(job, LEASE)
