"""Sweeps: what has to be done now and then, whoever asked for it or nobody. Each is a job that comes again.

So one worker at a time does each of them. They go in small transactions, judge by the database's time, and may stop
anywhere: what is left is found by the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from agent_mail_core.agents import OVERSEER, SERVICE_OWNER, SYSTEM
from agent_mail_core.attachments import sweep_unlinked
from agent_mail_core.embedding_jobs import sweep_embeddings, want_newest_embedded
from agent_mail_core.event_feed import events_topic
from agent_mail_core.events import ARCHIVE_TOPIC, NewEvent
from agent_mail_core.idempotency import KEPT_FOR
from agent_mail_core.ids import AgentId, MessageId, ProjectId, TeamId
from agent_mail_core.job_queue import Wake
from agent_mail_core.jobs import KINDS, Job
from agent_mail_core.lease_ends import close_expired
from agent_mail_core.leases import insist, leases_topic
from agent_mail_core.ports import App, Caller, Role, Transaction, inbox_topics
from agent_mail_core.posts import Post, indexed, send_post
from agent_mail_core.project_deletion import sweep_deleted
from agent_mail_core.retention import sweep_retention
from agent_mail_core.webhook_jobs import want_webhooks

NEWEST_OUTBOX_ROWS = 1000
OUTBOX_WINDOW, OUTBOX_WINDOWS = 5000, 20
PROJECTS_AT_ONCE, LEASES_AT_ONCE = 100, 100
KEYS_AT_ONCE, KEY_STEPS = 1000, 10
ATTACHMENTS_AT_ONCE = 100
PURGE_STEPS = 10
MESSAGES_AT_ONCE = 1000

SOON = timedelta(milliseconds=200)
"""When a sweep goes on that has left something."""


@dataclass(frozen=True, slots=True)
class OutboxSlice:
    """Projects of which a window of the outbox tells."""

    projects: list[tuple[ProjectId, TeamId]]
    last_id: int | None
    """Where the next window begins; None: this was the last one."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A recipient, not by bcc, who owes an acknowledgement for too long."""

    message_id: MessageId
    team_id: TeamId
    project_id: ProjectId
    """The recipient's."""
    project_slug: str
    agent_id: AgentId
    agent_name: str


@dataclass(frozen=True, slots=True)
class OverdueSlice:
    """What is overdue among some messages."""

    begin: MessageId
    end: MessageId
    """Of the last message looked at; `begin` when there was none."""
    owed: list[Overdue]


class Sweeps(Protocol):
    """Store of what sweeps look for."""

    async def newest_outbox(self, topic: str, limit: int) -> list[tuple[ProjectId, TeamId]]:
        """Projects of the newest rows of a topic."""
        ...

    async def outbox(self, topic: str, after: int, limit: int) -> OutboxSlice:
        """Projects of the next rows of a topic, in order of their ids."""
        ...

    async def expired_leases(self, limit: int) -> list[tuple[ProjectId, TeamId]]:
        """Projects that have reservations or slot leases whose time is over and that nobody has closed."""
        ...

    async def forget_keys(self, older_than: timedelta, limit: int) -> int:
        """Remove idempotency keys that are older; how many."""
        ...

    async def overdue(self, older_than: timedelta, limit: int) -> OverdueSlice:
        """The next messages that are older and were not escalated, in order, and who owes acknowledgements of them."""
        ...

    async def escalated(self, found: OverdueSlice) -> bool:
        """All messages up to its end have been escalated. False, unless its begin is still where they end."""
        ...


# --- finding what followers have to do --------------------------------------------------------------------------------


def events_were_added(app: App) -> None:
    """Tell the followers of the events that there are new ones: call it after the commit of whatever may add some.

    Costs next to nothing, so the server calls it in one place after every write (`dispatch.perform`).
    """
    app.jobs.wake("outbox", 0)


async def look_into_outbox(app: App, job: Job) -> None:
    """The job behind `events_were_added`: only what came last, so that it stays cheap when much is left undone."""
    async with app.store.read() as db:
        projects = await db.sweeps.newest_outbox(ARCHIVE_TOPIC, NEWEST_OUTBOX_ROWS)
    await _want_archives(app, projects)
    await want_webhooks(app)
    await want_newest_embedded(app)


async def sweep_outbox(app: App) -> bool:
    """Find the projects whose events wait for the archive, though nobody may have told of them."""
    after = 0
    for _ in range(OUTBOX_WINDOWS):
        async with app.store.read() as db:
            window = await db.sweeps.outbox(ARCHIVE_TOPIC, after, OUTBOX_WINDOW)
        await _want_archives(app, window.projects)
        if window.last_id is None:
            break
        after = window.last_id
    return False


async def sweep_webhooks(app: App) -> bool:
    """Find the webhooks that have events before them, though nobody may have told of them."""
    await want_webhooks(app)
    return False


async def _want_archives(app: App, projects: list[tuple[ProjectId, TeamId]]) -> None:
    if not projects:
        return
    async with app.store.write() as db:
        for project_id, team_id in sorted(projects):  # in one order, so that nobody waits for each other
            await db.jobs.want("archive", project_id, team_id, KINDS["archive"].gathers)
    for project_id, _ in projects:
        app.jobs.wake("archive", project_id)


# --- ending what is over ----------------------------------------------------------------------------------------------


async def sweep_leases(app: App) -> bool:
    """Close leases whose time is over, and wake who waits for them."""
    async with app.store.read() as db:
        projects = await db.sweeps.expired_leases(PROJECTS_AT_ONCE)
    has_more = len(projects) == PROJECTS_AT_ONCE
    for project_id, team_id in projects:

        async def close(project_id: ProjectId = project_id, team_id: TeamId = team_id) -> int:
            async with app.store.write() as db:
                return await close_expired(db, team_id, project_id, LEASES_AT_ONCE)

        ended = await insist(close)
        has_more = has_more or ended >= LEASES_AT_ONCE
        if ended:
            await app.wakeups.publish([leases_topic(project_id), events_topic(project_id)])
            events_were_added(app)
    return has_more


async def sweep_idempotency_keys(app: App) -> bool:
    """Forget the answers of retries that nobody will make any more."""
    for _ in range(KEY_STEPS):
        async with app.store.write() as db:
            gone = await db.sweeps.forget_keys(KEPT_FOR, KEYS_AT_ONCE)
        if gone < KEYS_AT_ONCE:
            return False
    return True


async def sweep_attachments(app: App) -> bool:
    """Remove what was uploaded and linked to no message."""
    return await sweep_unlinked(app, ATTACHMENTS_AT_ONCE) >= ATTACHMENTS_AT_ONCE


async def sweep_deleted_projects(app: App) -> bool:
    """Purge some rows of deleted projects."""
    return await sweep_deleted(app, PURGE_STEPS) > 0


# --- overdue acknowledgements -----------------------------------------------------------------------------------------


async def sweep_overdue(app: App) -> bool:
    """Escalate acknowledgements that are owed for too long, once per recipient: by event, log and mail to Overseer.

    Messages are looked at in their order, each once, when it has become old enough. How far that has come is stored
    with the events and the mail, so that nothing is told twice or left out.
    """
    async with app.store.read() as db:
        found = await db.sweeps.overdue(timedelta(seconds=app.settings.ack_overdue_seconds), MESSAGES_AT_ONCE)
    if found.begin == found.end:
        return False
    async with app.store.write() as db:
        if not await db.sweeps.escalated(found):
            return True
        await db.events.add(
            *(
                NewEvent("message.overdue", owed.team_id, owed.project_id, owed.agent_id, owed.message_id)
                for owed in found.owed
            )
        )
        told = [await _tell_overseer(db, owed) for owed in _by_project(found.owed)]
    for owed in found.owed:
        logging.getLogger("agent_mail.overdue").warning(
            "acknowledgement overdue",
            extra={"message_id": owed.message_id, "agent_id": owed.agent_id, "project_id": owed.project_id},
        )
    if found.owed:
        topics = {events_topic(owed.project_id) for owed in found.owed}
        await app.wakeups.publish([*topics, *inbox_topics([agent_id for ids in told for agent_id in ids])])
        events_were_added(app)
    return True


def _by_project(owed: Sequence[Overdue]) -> list[list[Overdue]]:
    grouped: dict[ProjectId, list[Overdue]] = {}
    for item in owed:
        grouped.setdefault(item.project_id, []).append(item)
    return [grouped[project_id] for project_id in sorted(grouped)]


async def _tell_overseer(db: Transaction, owed: Sequence[Overdue]) -> Sequence[AgentId]:
    """One mail from System to the Overseer of a project about all that its agents owe; whose inboxes have news."""
    first = owed[0]
    caller = Caller(first.team_id, SERVICE_OWNER, Role.admin, "sweep")
    lines = [f"- {item.agent_name} has not acknowledged message {item.message_id}." for item in owed]
    about = f"{len(owed)} acknowledgement{'s' if len(owed) > 1 else ''} overdue"
    post = Post("escalate", SYSTEM, about, await indexed("\n".join(lines)), to=(OVERSEER,), is_of_service=True)
    return (await send_post(db, caller, first.project_slug, post)).mailboxes


# --- all of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sweep:
    """One of them."""

    run: Callable[[App], Awaitable[bool]]
    """Does a part of it; whether something is left."""
    every: timedelta


SWEEPS: Mapping[int, Sweep] = {
    1: Sweep(sweep_outbox, timedelta(seconds=5)),
    2: Sweep(sweep_leases, timedelta(seconds=10)),
    3: Sweep(sweep_idempotency_keys, timedelta(minutes=1)),
    4: Sweep(sweep_attachments, timedelta(minutes=5)),
    5: Sweep(sweep_deleted_projects, timedelta(seconds=30)),
    6: Sweep(sweep_overdue, timedelta(seconds=30)),
    7: Sweep(sweep_webhooks, timedelta(seconds=5)),
    8: Sweep(sweep_retention, timedelta(minutes=10)),
    9: Sweep(sweep_embeddings, timedelta(seconds=15)),
}
"""By the subject's id of their jobs, which is stored: a number is never given to another sweep."""

ALWAYS: list[Wake] = [("sweep", number) for number in SWEEPS]

UNKNOWN_AGAIN = timedelta(minutes=1)


async def sweep(app: App, job: Job) -> timedelta:
    """The job of every sweep."""
    found = SWEEPS.get(job.subject_id)
    if found is None:  # of a newer version, whose workers will come to it
        return UNKNOWN_AGAIN
    return SOON if await found.run(app) else found.every
