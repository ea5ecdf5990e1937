"""Keeping archives up to date: the job of one project, and making an archive anew.

One step is a batch of events, a commit, and then the database's record of it. A crash between the two leaves the copy
one commit ahead, which says itself how far it goes and is accepted. A copy that lacks the recorded commit is fetched
from the remote, or made again from the events. The record is only ever moved on from the commit that this worker built
on, so of two workers one finds that it is no longer the writer.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from time import perf_counter

from agent_mail_core.archive import (
    MOST_BYTES,
    MOST_EVENTS,
    Archive,
    ArchiveBatch,
    ArchivedMessage,
    ArchivePlace,
    ArchiveState,
    ArchiveTip,
)
from agent_mail_core.archive_copies import SHARE_IT, has_to_share
from agent_mail_core.archive_errors import ArchiveMoved, ArchiveUnavailable
from agent_mail_core.events import FIRST_POSITION, EventEntry, EventFilter, EventPosition
from agent_mail_core.giving_way import give_way
from agent_mail_core.ids import MessageId, ProjectId
from agent_mail_core.jobs import NOW, Job
from agent_mail_core.ports import App

log = logging.getLogger(__name__)

MOST_COMMITS = 20
"""In one run of the job; then others that are due have their turn."""

PLACES_A_PAGE = 500

Progress = Callable[[int], None]
"""Told how many events are in the archive."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """An archive that was made anew."""

    archived_events: int
    is_same: bool | None
    """Whether it has the files that it had, when they are known."""


async def archive_project(app: App, job: Job) -> timedelta | None:
    """Bring a project's archive up to its newest event, and the remote up to the archive. Safe to run twice.

    What is written meanwhile is for the next run, or a busy project would never let go. After MOST_COMMITS it is to be
    done again.
    """
    archive = the_archive(app)
    async with app.store.read() as db:
        place = await db.archives.place(ProjectId(job.subject_id))
        state = await db.archives.get(ProjectId(job.subject_id))
    if place is None:
        return None
    state = await agreed(app, archive, place, state, job)
    for _ in range(MOST_COMMITS):
        began = perf_counter()
        batch = await next_batch(app, place, state.position if state is not None else FIRST_POSITION)
        if batch is None:
            break
        tip = await archive.commit(place, state.head if state is not None else None, batch)
        state = await _record(app, place, state, tip, job)
        await give_way(app, perf_counter() - began)
        if not batch.is_cut:
            break
    else:
        return NOW
    if state is not None and state.pushed_head != state.head:
        pushed = await archive.push(place)
        if pushed is not None:
            async with app.store.write() as db:
                await db.jobs.hold(job)
                await db.archives.record_push(place.project_id, pushed)
    return None


def the_archive(app: App) -> Archive:
    """The app's archive, or ArchiveUnavailable."""
    if app.archive is None:
        raise ArchiveUnavailable("This server keeps no archive.")
    return app.archive


async def archived_places(app: App, wanted: str | None) -> AsyncIterator[ArchivePlace]:
    """The archives that there are; those of `wanted`, a slug or `team/slug`. For the command line, past all teams."""
    after = ProjectId(0)
    while True:
        async with app.store.read() as db:
            places = await db.archives.archived(after, PLACES_A_PAGE)
        for place in places:
            if wanted in (None, place.slug, f"{place.team_name}/{place.slug}"):
                yield place
        if len(places) < PLACES_A_PAGE:
            return
        after = places[-1].project_id


async def next_batch(app: App, place: ArchivePlace, after: EventPosition) -> ArchiveBatch | None:
    """The next events and what they point at, as many as one commit takes; None when there are none yet."""
    async with app.store.read() as db:
        found = await db.events.after(after, EventFilter(project_id=place.project_id), MOST_EVENTS)
        if not found.entries:
            return None
        sizes = await db.archives.sizes(_sent(found.entries))
        events = _fitting(found.entries, sizes)
        messages = await db.archives.messages(_sent(events))
        contents = {}
        for file in {file.sha256: file for message in messages for file in message.attachments}.values():
            content = await db.attachments.content(file.id)
            if content is not None:
                contents[file.sha256] = content
    by_id: dict[MessageId, ArchivedMessage] = {message.id: message for message in messages}
    is_cut = found.has_more or len(events) < len(found.entries)
    return ArchiveBatch(place.project_id, place.slug, app.store.identity.epoch, events, by_id, contents, is_cut)


def _sent(events: Sequence[EventEntry]) -> list[MessageId]:
    return [event.message_id for event in events if event.kind == "message.sent" and event.message_id is not None]


def _fitting(events: Sequence[EventEntry], sizes: dict[MessageId, int]) -> list[EventEntry]:
    """As many of the events as have MOST_BYTES together; the first one in any case."""
    fit: list[EventEntry] = []
    size = 0
    for event in events:
        if event.kind == "message.sent" and event.message_id is not None:
            size += sizes.get(event.message_id, 0)
        if fit and size > MOST_BYTES:
            break
        fit.append(event)
    return fit


async def _record(
    app: App, place: ArchivePlace, before: ArchiveState | None, tip: ArchiveTip, job: Job | None
) -> ArchiveState:
    """Let the database know; ArchiveMoved when it says meanwhile that the archive is elsewhere."""
    pushed = before.pushed_head if before is not None else None
    state = ArchiveState(tip.commit, tip.tree, tip.position, tip.archived_events, pushed)
    async with app.store.write() as db:
        if job is not None:
            await db.jobs.hold(job)
        if not await db.archives.record(place.project_id, before.head if before is not None else None, state):
            raise ArchiveMoved
    return state


# --- a copy that is not as recorded -----------------------------------------------------------------------------------


async def agreed(
    app: App, archive: Archive, place: ArchivePlace, state: ArchiveState | None, job: Job, is_fetched: bool = False
) -> ArchiveState | None:
    """Make the copy on this disk and the record agree; the record as it is then."""
    tip = await archive.tip(place)
    head = state.head if state is not None else None
    if (tip.commit if tip is not None else None) == head:
        return state
    if tip is not None and (head is None or await archive.holds(place, head)):
        if tip.epoch == app.store.identity.epoch:
            return await _record(app, place, state, tip, job)
        # The database was restored to an earlier state: what the copy has beyond that did not happen.
        log.warning("archive %s goes on from %s: the database was restored", place.slug, head)
        await archive.turn_back(place, head)
        return state
    assert state is not None or tip is None
    if state is None:
        return None
    if not is_fetched and await archive.fetch(place):
        return await agreed(app, archive, place, state, job, is_fetched=True)
    if is_fetched and tip is not None and tip.epoch == app.store.identity.epoch:
        # Its worker recorded commits and died before the remote had them. They are made again on what the remote has.
        log.warning("archive %s goes on from %s: the remote has not got %s", place.slug, tip.commit, head)
        tip, state = await _caught_up(app, archive, place, state, tip, None)
        assert tip is not None
        return await _record(app, place, state, tip, job)
    why = f"; {SHARE_IT}" if has_to_share(app) else ""
    log.warning("archive %s is made anew: its commit %s is not here%s", place.slug, head, why)
    rebuilt, state = await _made_anew(app, archive, place, state, job, None)
    if rebuilt.is_same is False:
        log.warning("archive %s, made anew, differs from what it was: events or messages have been removed", place.slug)
    return state


async def rebuild(app: App, place: ArchivePlace, progress: Progress | None = None) -> Rebuilt:
    """Make an archive anew from the events that there are, up to where it was, then put it in place."""
    async with app.store.read() as db:
        state = await db.archives.get(place.project_id)
    rebuilt, _ = await _made_anew(app, the_archive(app), place, state, None, progress)
    return rebuilt


async def _made_anew(
    app: App,
    archive: Archive,
    place: ArchivePlace,
    state: ArchiveState | None,
    job: Job | None,
    progress: Progress | None,
) -> tuple[Rebuilt, ArchiveState | None]:
    await archive.begin_anew(place)
    tip, state = await _caught_up(app, archive, replace(place, is_anew=True), state, None, progress)
    if tip is None:
        return Rebuilt(0, None), state
    await archive.swap(place)
    is_same = tip.tree == state.tree if state is not None else None
    return Rebuilt(tip.archived_events, is_same), await _record(app, place, state, tip, job)


async def _caught_up(
    app: App,
    archive: Archive,
    place: ArchivePlace,
    state: ArchiveState | None,
    tip: ArchiveTip | None,
    progress: Progress | None,
) -> tuple[ArchiveTip | None, ArchiveState | None]:
    """Add commits on `tip` until it has all that is recorded; the tip then, and the record."""
    while True:
        batch = await next_batch(app, place, tip.position if tip is not None else FIRST_POSITION)
        if batch is not None and state is not None:  # what came later is the ordinary job's
            batch = replace(batch, events=[event for event in batch.events if event.position <= state.position])
        if batch is None or not batch.events:
            async with app.store.read() as db:
                now = await db.archives.get(place.project_id)
            if now == state:
                return tip, state
            state = now  # the job went on meanwhile: so does this
            continue
        tip = await archive.commit(place, tip.commit if tip is not None else None, batch)
        if progress is not None:
            progress(tip.archived_events)
