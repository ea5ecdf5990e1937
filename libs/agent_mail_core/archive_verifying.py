"""Comparing an archive with the database: each event exactly once, each message as its row says, no bcc.

What retention has removed from the database is in the archive alone; that is counted, and no difference.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import blake2b

from agent_mail_core.archive import Archive, ArchivePlace, ArchiveState
from agent_mail_core.archive_files import event_line, folder_of, message_files
from agent_mail_core.archive_names import agent_folder, attachment_path, mark_path, message_name, month
from agent_mail_core.archiving import the_archive
from agent_mail_core.events import FIRST_POSITION, EventEntry, EventFilter
from agent_mail_core.ids import AgentId, MessageId
from agent_mail_core.messages import RecipientState
from agent_mail_core.ports import App

PAGE = 500
Pending = tuple[str, MessageId, AgentId | None]
"""An event that is still to be archived: kind, message, and whose, but for message.sent."""

MOST_BYTES = 8 * 1024 * 1024


@dataclass
class Verdict:
    """What was compared, and how it differs."""

    events: int = 0
    messages: int = 0
    archive_alone: int = 0
    """Events that the database no longer has."""
    not_yet: int = 0
    """Events that are still to be archived."""
    differences: list[str] = field(default_factory=list)
    """The first thousand."""

    def differs(self, text: str) -> None:
        """Note a difference."""
        if len(self.differences) < 1000:
            self.differences.append(text)


async def verify(app: App, place: ArchivePlace) -> Verdict:
    """Compare one project's archive, as far as it is recorded, with what the database holds."""
    archive = the_archive(app)
    verdict = Verdict()
    async with app.store.read() as db:
        state = await db.archives.get(place.project_id)
    tip = await archive.tip(place)
    if state is None or tip is None:
        if state is not None or tip is not None:
            verdict.differs("the database and the disk do not agree whether there is an archive")
        return verdict
    if (tip.commit, tip.tree, tip.position) != (state.head, state.tree, state.position):
        verdict.differs(f"the tip is {tip.commit}, recorded is {state.head}")
        return verdict
    archived = await _archived_events(archive, place, verdict)
    if len(archived) != state.archived_events:
        verdict.differs(f"{state.archived_events} events are recorded, the lists hold {len(archived)}")
    await _count_commits(archive, place, state, verdict)
    pending = await _compare_events(app, place, state, archived, verdict)
    await _compare_messages(app, archive, place, pending, verdict)
    return verdict


async def _archived_events(archive: Archive, place: ArchivePlace, verdict: Verdict) -> dict[int, bytes]:
    """A digest of each event in the lists, by its id."""
    found: dict[int, bytes] = {}
    after = ""
    while files := await archive.contents(place, "events", after, MOST_BYTES):
        for path, content in files:
            for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
                event_id = _event_id(line)
                if event_id is None:
                    verdict.differs(f"{path}: line {number} is no event")
                    continue
                if event_id in found:
                    verdict.differs(f"event {event_id} is twice in {path}")
                found[event_id] = _digest(line + b"\n")
        after = files[-1][0]
    verdict.events = len(found)
    return found


def _event_id(line: bytes) -> int | None:
    try:
        event_id = json.loads(line)["event_id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return event_id if type(event_id) is int else None


async def _count_commits(archive: Archive, place: ArchivePlace, state: ArchiveState, verdict: Verdict) -> None:
    counted, begin = 0, state.head
    while True:
        part = await archive.log(place, begin, None, None, 1000)
        counted += sum(commit.event_count for commit in part.commits)
        if part.next_commit is None:
            break
        begin = part.next_commit
    if counted != state.archived_events:
        verdict.differs(f"{state.archived_events} events are recorded, the commits say {counted}")


async def _compare_events(
    app: App, place: ArchivePlace, state: ArchiveState, archived: dict[int, bytes], verdict: Verdict
) -> set[Pending]:
    """Each event that the database has; those about messages that are not archived yet."""
    pending: set[Pending] = set()
    seen = 0
    async for event in _events(app, place):
        if event.position > state.position:
            verdict.not_yet += 1
            if event.message_id is not None:
                pending.add((event.kind, event.message_id, None if event.kind == "message.sent" else event.agent_id))
            continue
        seen += 1
        digest = archived.get(event.position.event_id)
        if digest is None:
            verdict.differs(f"event {event.position.event_id} ({event.kind}) is not in the archive")
        elif digest != _digest(event_line(event).encode()):
            verdict.differs(f"event {event.position.event_id} ({event.kind}) is another one in the archive")
    verdict.archive_alone = max(0, len(archived) - seen)
    async with app.store.read() as db:
        forgotten = await db.events.forgotten()
    if verdict.archive_alone and forgotten == FIRST_POSITION:
        verdict.differs(f"{verdict.archive_alone} events of the archive are not in the database")
    return pending


async def _events(app: App, place: ArchivePlace) -> AsyncIterator[EventEntry]:
    position = FIRST_POSITION
    while True:
        async with app.store.read() as db:
            found = await db.events.after(position, EventFilter(project_id=place.project_id), PAGE)
        for event in found.entries:
            yield event
        position = found.position
        if not found.has_more:
            return


async def _compare_messages(
    app: App, archive: Archive, place: ArchivePlace, pending: set[Pending], verdict: Verdict
) -> None:
    after = MessageId(0)
    while True:
        async with app.store.read() as db:
            ids = await db.archives.message_ids(place.project_id, after, PAGE)
            compared = [message_id for message_id in ids if ("message.sent", message_id, None) not in pending]
            messages = await db.archives.messages(compared)
            states = await db.messages.recipients(compared)
        expected: dict[str, bytes | None] = {}
        folders: dict[tuple[MessageId, int], str] = {}
        for message in messages:
            files, links = message_files(message, place.project_id)
            expected |= files
            expected |= {path: target.encode() for path, target in links.items()}
            folders |= {(message.id, who.agent_id): folder_of(who, place.project_id) for who in message.recipients}
            name = f"{month(message.created_at)}/{message_name(message.id, message.subject, message.created_at)}"
            for state in states:
                if state.message_id == message.id and state.kind == "bcc":
                    folder = agent_folder(state.name, place.project_id, place.slug, place.project_id)
                    expected.setdefault(f"{folder}/inbox/{name}", None)
        for path, found in zip(expected, await archive.read(place, list(expected)), strict=True):
            if found != expected[path]:
                verdict.differs(f"{path}: {'missing' if found is None else 'not as the database says'}")
        attached = list({attachment_path(file.sha256) for message in messages for file in message.attachments})
        for path, found in zip(attached, await archive.read(place, attached), strict=True):
            if found is None:
                verdict.differs(f"{path}: missing")
        await _compare_marks(archive, place, states, folders, pending, verdict)
        verdict.messages += len(messages)
        if len(ids) < PAGE:
            return
        after = ids[-1]


async def _compare_marks(
    archive: Archive,
    place: ArchivePlace,
    states: list[RecipientState],
    folders: dict[tuple[MessageId, int], str],
    pending: set[Pending],
    verdict: Verdict,
) -> None:
    """What the recipients have read and acknowledged. Of a bcc nothing may be told."""
    wanted: dict[str, bool] = {}
    for state in states:
        folder = folders.get((state.message_id, state.agent_id))
        is_bcc = folder is None
        if folder is None:
            folder = agent_folder(state.name, place.project_id, place.slug, place.project_id)
        for mark, at in (("read", state.read_at), ("acknowledged", state.acknowledged_at)):
            path = mark_path(state.message_id, folder.removeprefix("agents/"), mark)
            if is_bcc:
                wanted.setdefault(path, False)
            elif at is not None and (f"message.{mark}", state.message_id, state.agent_id) not in pending:
                wanted[path] = True
    for (path, is_wanted), found in zip(wanted.items(), await archive.read(place, list(wanted)), strict=True):
        if found is None and is_wanted:
            verdict.differs(f"{path}: missing")
        elif found is not None and not is_wanted:
            verdict.differs(f"{path}: tells of a bcc")


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=12).digest()
