"""Retention: mail that is too old, or more than a project keeps, goes for good. Off unless it is set (SPEC §7).

A message goes with its deliveries, read or not, its words in the search index and its place in pending
acknowledgements; a thread with its last message, unless a review of it is open; events some days later. Positions and
ids are never given again, so cursors stay right. Nothing goes that the archive has not got, that is younger than an
hour, or that a project on legal hold has a part in. Git is never rewritten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Protocol

from agent_mail_core.ids import MessageId, ProjectId, TeamId, ThreadId
from agent_mail_core.leases import insist
from agent_mail_core.ports import App

LEAST_AGE = timedelta(hours=1)
"""Of what goes because there is too much: who reads its inbox now and then has seen it."""

LEAST_AGE_OF_EVENTS = timedelta(days=7)
"""Whoever follows them, such as a webhook that fails, has so long."""

ROWS_AT_ONCE = 200
"""Messages and deliveries in a transaction, which holds their threads and mailboxes. After it as much time is left to
others as it took."""

STEPS = 20
PROJECTS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What may go."""

    age: timedelta | None
    """What is older."""
    most_messages: int | None
    """What a project has beyond so many, the oldest."""
    waits_for_archive: bool
    """Only what is in the archive."""


@dataclass(frozen=True, slots=True)
class Removed:
    """One step through the messages of a project."""

    messages: int
    threads: Sequence[ThreadId]
    """Those that lost some."""
    next: MessageId | None
    """Where the next step begins; None: what follows stays."""


@dataclass(frozen=True, slots=True)
class LegalHoldRecord:
    """A project of which nothing may go."""

    project_slug: str
    reason: str | None
    placed_by: str
    placed_at: datetime


class Retention(Protocol):
    """Store of what may go. A hold that was placed is seen by every removal that commits later."""

    async def due(self, policy: RetentionPolicy, after: ProjectId, limit: int) -> list[ProjectId]:
        """Projects above `after`, by id, that seem to have something to remove: too old, or too much."""
        ...

    async def remove(self, project_id: ProjectId, policy: RetentionPolicy, after: MessageId, limit: int) -> Removed:
        """Look at a project's oldest messages above `after`, and remove those that may go.

        At most `limit` messages and deliveries are looked at, one message in any case. In the same transaction unread
        counts, threads, their participants and their summaries are put right.
        """
        ...

    async def discard_summaries(self, thread_ids: Sequence[ThreadId]) -> None:
        """Have no summary of these threads tell of messages that were removed in an earlier transaction.

        One that is being made now is made again.
        """
        ...

    async def hold(self, project_id: ProjectId, reason: str | None, placed_by: str) -> bool:
        """Let nothing of the project go; False when it was on hold, whose reason is then the new one."""
        ...

    async def lift(self, project_id: ProjectId) -> bool:
        """The hold is over; False when there was none."""
        ...

    async def holds(self, team_id: TeamId, after_slug: str | None, limit: int) -> list[LegalHoldRecord]:
        """A team's projects on hold, by slug."""
        ...


def policy_of(app: App) -> RetentionPolicy | None:
    """As the settings say; None: everything is kept."""
    settings = app.settings
    if settings.retention_days is None and settings.retention_messages is None:
        return None
    age = timedelta(days=settings.retention_days) if settings.retention_days is not None else None
    return RetentionPolicy(age, settings.retention_messages, app.archive is not None)


async def sweep_retention(app: App) -> bool:
    """Remove what may go, in at most so many STEPS; whether something is left."""
    policy = policy_of(app)
    if policy is None:
        return False
    steps, after = STEPS, ProjectId(0)
    while True:
        async with app.store.read() as db:
            projects = await db.retention.due(policy, after, PROJECTS_A_PAGE)
        for project_id in projects:
            steps = await _sweep_project(app, policy, project_id, steps)
            if steps == 0:
                return True
        if len(projects) < PROJECTS_A_PAGE:
            return False
        after = projects[-1]


async def _sweep_project(app: App, policy: RetentionPolicy, project_id: ProjectId, steps: int) -> int:
    """How many of the steps are left; 0: there may be more to do."""
    gone, begin = 0, MessageId(0)
    while steps > 0:
        removed = await _remove(app, policy, project_id, begin)
        gone += removed.messages
        steps -= removed.messages > 0
        if removed.next is None:
            break
        begin = removed.next
    events = ROWS_AT_ONCE if policy.age is not None else 0
    forgotten = 0
    while steps > 0 and events == ROWS_AT_ONCE and policy.age is not None:
        events = await _forget(app, project_id, max(policy.age, LEAST_AGE_OF_EVENTS))
        forgotten += events
        steps -= events > 0
    if gone or forgotten:
        logging.getLogger("agent_mail.retention").info(
            "removed by retention", extra={"project_id": project_id, "messages": gone, "events": forgotten}
        )
    return steps


async def _remove(app: App, policy: RetentionPolicy, project_id: ProjectId, after: MessageId) -> Removed:
    async def write() -> Removed:
        async with app.store.write() as db:
            return await db.retention.remove(project_id, policy, after, ROWS_AT_ONCE)

    async def discard() -> None:
        async with app.store.write() as db:
            await db.retention.discard_summaries(removed.threads)

    began = perf_counter()
    removed = await insist(write)
    if removed.threads:
        await insist(discard)
        await asyncio.sleep(perf_counter() - began)
    return removed


async def _forget(app: App, project_id: ProjectId, age: timedelta) -> int:
    async def write() -> int:
        async with app.store.write() as db:
            return await db.events.forget(project_id, age, ROWS_AT_ONCE)

    return await insist(write)
