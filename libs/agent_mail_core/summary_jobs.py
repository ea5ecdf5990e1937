"""The job that makes a thread's summary.

It goes on from the notes kept with the earlier one when all messages that they cover are still there; else it begins
anew. Both come to the same, because a note depends on its message alone, and because which notes count depends on the
thread alone: its first message and as many of the newest as MOST_MESSAGES and MOST_CHARACTERS allow.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from agent_mail_core.errors import Unavailable
from agent_mail_core.events import NewEvent
from agent_mail_core.ids import MessageId, ThreadId
from agent_mail_core.jobs import Job
from agent_mail_core.ports import App, Transaction
from agent_mail_core.summaries import (
    MOST_CHARACTERS,
    MOST_MESSAGES,
    KeptNotes,
    MessageNotes,
    NewSummary,
    SourceMessage,
    SummaryContent,
    SummarySource,
    SummaryThread,
    summaries_topic,
)

NOTES_VERSION = 1
"""Raise it when the rules that take notes change: what others have noted is then read anew."""


async def summarize(app: App, job: Job) -> None:
    """Bring the summary of the thread `job.subject_id` up to its last message. A thread that is gone needs none."""
    if app.summarizer is None:
        raise Unavailable("No summaries are made in this process.")
    async with app.store.read() as db:
        thread = await db.summaries.thread(ThreadId(job.subject_id))
        if thread is None:
            return
        earlier = await _earlier(db, thread)
        messages = await _messages(db, thread, earlier)
    if earlier and not messages:
        await app.wakeups.publish([summaries_topic(thread.team_id)])
        return
    notes = counting([*earlier, *await app.summarizer.note(messages)])
    if not notes:
        return
    participants = await _participants(app, thread)
    engine, digest = await app.summarizer.digest(SummarySource(thread, participants, notes))
    content = SummaryContent(
        digest=digest, messages_read=len(notes), cut_bodies=sum(message.is_cut for message in notes)
    )
    kept = KeptNotes(version=NOTES_VERSION, notes=notes)
    summary = NewSummary(
        thread_id=thread.id,
        engine=engine,
        up_to_message_id=thread.last_message_id,
        message_count=thread.message_count,
        content=content.model_dump_json(),
        notes=kept.model_dump_json(),
        is_anew=not earlier,
    )
    async with app.store.write() as db:
        await db.jobs.hold(job)
        if await db.summaries.keep(summary):
            await db.events.add(_summarized(thread, summary))
    await app.wakeups.publish([summaries_topic(thread.team_id)])


async def _earlier(db: Transaction, thread: SummaryThread) -> list[MessageNotes]:
    """The notes to go on from; none when they were discarded, or retention removed messages that they cover."""
    summary = (await db.summaries.get([thread.id])).get(thread.id)
    if summary is None or summary.is_discarded:
        return []
    newer = await db.summaries.count_messages(thread.id, summary.up_to_message_id, thread.last_message_id)
    if summary.message_count + newer != thread.message_count:
        return []
    try:
        notes = KeptNotes.model_validate_json(await db.summaries.notes(thread.id) or "")
    except ValidationError:  # another version's
        return []
    return notes.notes if notes.version == NOTES_VERSION else []


async def _messages(db: Transaction, thread: SummaryThread, earlier: Sequence[MessageNotes]) -> list[SourceMessage]:
    """The messages to read, oldest first."""
    if earlier:
        after = MessageId(earlier[-1].message_id)
        return await db.summaries.newest_messages(thread.id, after, thread.last_message_id, MOST_MESSAGES)
    first = await db.summaries.first_message(thread.id)
    if first is None:
        return []
    return [first, *await db.summaries.newest_messages(thread.id, first.id, thread.last_message_id, MOST_MESSAGES - 1)]


async def _participants(app: App, thread: SummaryThread) -> list[str]:
    async with app.store.read() as db:
        return (await db.threads.participants([thread.id])).get(thread.id, [])


def counting(notes: Sequence[MessageNotes]) -> list[MessageNotes]:
    """Those that a summary rests on: the first one, and as many of the newest as there is room for."""
    if not notes:
        return []
    first, rest = notes[0], notes[1:]
    room = MOST_CHARACTERS - first.characters
    begin = len(rest)
    while begin > 0 and len(rest) - begin < MOST_MESSAGES - 1 and rest[begin - 1].characters <= room:
        begin -= 1
        room -= rest[begin].characters
    return [first, *rest[begin:]]


def _summarized(thread: SummaryThread, summary: NewSummary) -> NewEvent:
    data = {
        "thread_id": thread.key,
        "engine": summary.engine,
        "up_to_message_id": summary.up_to_message_id,
        "message_count": summary.message_count,
    }
    return NewEvent("thread.summarized", thread.team_id, thread.project_id, data=data)
