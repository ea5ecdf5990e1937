"""summarize_thread: asking for summaries, waiting for them, and what is shown of them (SPEC §7).

A call asks for the job that `summary_jobs` does and waits for its outcome; a summary that covers the thread to its last
message needs neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import Field

from agent_mail_core.addresses import seen_from
from agent_mail_core.agents import acting_agent
from agent_mail_core.errors import ThreadNotFound
from agent_mail_core.fields import AgentName, Line, ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, ThreadId
from agent_mail_core.leases import insist
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import ProjectRecord, the_project
from agent_mail_core.summaries import (
    ActionItem,
    Digest,
    KeyMessage,
    Remark,
    SummaryContent,
    SummaryRecord,
    summaries_topic,
)
from agent_mail_core.threads import ThreadRecord, the_addressed_thread

LOOK_AGAIN_SECONDS = 1.0
"""A lost wake-up delays a waiting call by so much."""


NOT_ALL_YOURS = "Not all messages of this thread are to or from you: get_thread with agent_name shows those that are."

R = TypeVar("R", Remark, ActionItem, KeyMessage)

NOTHING = Digest(participants=[], decisions=[], open_questions=[], action_items=[], key_messages=[], text="")


class SummarizeThread(Request):
    project_slug: ProjectRef
    thread_ids: list[Line] = Field(min_length=1, max_length=20)
    agent_name: AgentName | None = Field(None, description="Yours; needed for KEY@slug")
    refresh: bool = Field(False, description="Make it anew even if nothing has changed")
    wait_seconds: float = Field(10, ge=0, le=50, allow_inf_nan=False, description="Then the last one is answered")


class ThreadSummary(Result):
    """A thread's summary, at least its last one.

    `ready`: it covers all messages. `pending`: the one asked for is being made; call again. `stale`: it was made for
    this call, and newer messages have come since.
    """

    thread_id: str
    status: Literal["ready", "stale", "pending"]
    engine: str | None = None
    """Which made it; None: there is none yet."""
    up_to_message_id: int | None = None
    made_at: datetime | None = None
    message_count: int = 0
    """Up to there."""
    messages_read: int = 0
    """Of them: in a long thread the first one and the newest."""
    cut_bodies: int = 0
    """Of those, how many were read only in part, for their length."""
    participants: list[str]
    decisions: list[Remark]
    open_questions: list[Remark]
    action_items: list[ActionItem]
    key_messages: list[KeyMessage]
    text: str


class SummaryRefusal(Result):
    """A thread that has no summary, and why."""

    thread_id: str
    code: str
    message: str
    near: list[str] | None = None
    """Ids of threads that may have been meant."""


class ThreadSummaries(Result):
    summaries: list[ThreadSummary]
    errors: list[SummaryRefusal]


async def summarize_thread(app: App, caller: Caller, request: SummarizeThread) -> ThreadSummaries:
    """Summarize threads: decisions, open questions, action items with owners, key messages, and a short text."""
    threads: dict[ThreadId, ThreadRecord] = {}
    homes: dict[ThreadId, ProjectRecord] = {}
    errors: list[SummaryRefusal] = []
    async with app.store.read() as db:
        project, reader = await _reader(app, db, caller, request)
        for key in dict.fromkeys(request.thread_ids):
            try:
                home, thread = await the_addressed_thread(db, caller, project, key, reader)
                if not await may_be_summed_up(db, project, thread, reader):
                    raise ThreadNotFound(NOT_ALL_YOURS)
                threads[thread.id], homes[thread.id] = thread, home
            except ThreadNotFound as error:
                near = error.data.get("near")
                errors.append(SummaryRefusal(thread_id=key, code=error.code, message=error.message, near=near))
    found = await summaries_of(app, caller, list(threads.values()), request.wait_seconds, is_refresh=request.refresh)
    summaries = []
    async with app.store.read() as db:
        for thread, summary in zip(threads.values(), found, strict=True):
            shown = summary_seen_from(project, homes[thread.id], summary)
            if await may_be_summed_up(db, project, thread, reader):  # as it is now: it may sum up what came meanwhile
                summaries.append(shown)
            else:
                errors.append(
                    SummaryRefusal(thread_id=shown.thread_id, code=ThreadNotFound.code, message=NOT_ALL_YOURS)
                )
    return ThreadSummaries(summaries=summaries, errors=errors)


async def _reader(
    app: App, db: Transaction, caller: Caller, request: SummarizeThread
) -> tuple[ProjectRecord, AgentId | None]:
    if request.agent_name is None:
        return await the_project(db, caller, request.project_slug), None
    actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
    return actor.project, actor.agent.id


async def may_be_summed_up(db: Transaction, asked: ProjectRecord, thread: ThreadRecord, reader: AgentId | None) -> bool:
    """Whether the reader may know all of it: of another project's, every message is its own (SPEC 3.3 rule 7)."""
    if thread.project_id == asked.id:
        return True
    return reader is not None and await db.threads.share(thread.id, reader) == "all"


def summary_seen_from(asked: ProjectRecord, home: ProjectRecord, summary: ThreadSummary) -> ThreadSummary:
    """The summary with key and names as the project that was asked writes them; its text quotes the thread as it is."""

    def seen(text: str) -> str:
        return seen_from(asked.slug, home.slug, text)

    def said(remark: R) -> R:
        return remark.model_copy(update={"sender_name": seen(remark.sender_name)})

    return summary.model_copy(
        update={
            "thread_id": seen(summary.thread_id),
            "participants": [seen(name) for name in summary.participants],
            "decisions": [said(remark) for remark in summary.decisions],
            "open_questions": [said(remark) for remark in summary.open_questions],
            "action_items": [
                said(item).model_copy(update={"owner": seen(item.owner) if item.owner else None})
                for item in summary.action_items
            ],
            "key_messages": [said(message) for message in summary.key_messages],
        }
    )


async def summaries_of(
    app: App, caller: Caller, threads: Sequence[ThreadRecord], wait: float, is_refresh: bool
) -> list[ThreadSummary]:
    """The threads' summaries, those that are missing asked for and waited for, at most so many seconds."""
    ids = [thread.id for thread in threads]
    known = await _known(app, ids)
    wanted = [thread for thread in threads if is_refresh or not _is_current(thread, known.get(thread.id))]
    if not wanted:
        return [_shown(thread, known.get(thread.id)) for thread in threads]
    if wait <= 0:
        await _ask_for(app, caller, wanted, is_refresh)
    else:
        async with app.waiters.place(caller.team_id), app.wakeups.subscribe(summaries_topic(caller.team_id)) as news:
            await _ask_for(app, caller, wanted, is_refresh)
            deadline = asyncio.get_running_loop().time() + wait
            while (remaining := deadline - asyncio.get_running_loop().time()) > 0 and not app.is_draining():
                known = await _known(app, ids)
                if all(_is_current(thread, known.get(thread.id)) for thread in threads):
                    break
                await news.wait(min(remaining, LOOK_AGAIN_SECONDS))
    known = await _known(app, ids)
    return [_shown(thread, known.get(thread.id)) for thread in threads]


async def _known(app: App, thread_ids: Sequence[ThreadId]) -> dict[ThreadId, SummaryRecord]:
    async with app.store.read() as db:
        return await db.summaries.get(thread_ids)


async def _ask_for(app: App, caller: Caller, threads: Sequence[ThreadRecord], is_refresh: bool) -> None:
    async def write() -> None:
        async with app.store.write() as db:
            for thread in sorted(threads, key=lambda each: each.id):
                await db.jobs.want("summary", thread.id, caller.team_id)  # the handler locks the job first, too
                if is_refresh:
                    await db.summaries.discard(thread.id)

    await insist(write)
    for thread in threads:
        app.jobs.wake("summary", thread.id)


def _is_current(thread: ThreadRecord, summary: SummaryRecord | None) -> bool:
    """Whether it covers at least the messages that the thread had when the caller asked."""
    return summary is not None and not summary.is_discarded and summary.up_to_message_id >= thread.last_message_id


def _shown(thread: ThreadRecord, summary: SummaryRecord | None) -> ThreadSummary:
    if summary is None:
        return ThreadSummary(thread_id=thread.key, status="pending", **_fields(NOTHING))
    content = SummaryContent.model_validate_json(summary.content)
    covers_all = summary.up_to_message_id >= summary.last_message_id
    return ThreadSummary(
        thread_id=thread.key,
        status="pending" if not _is_current(thread, summary) else "ready" if covers_all else "stale",
        engine=summary.engine,
        up_to_message_id=summary.up_to_message_id,
        made_at=summary.made_at,
        message_count=summary.message_count,
        messages_read=content.messages_read,
        cut_bodies=content.cut_bodies,
        **_fields(content.digest),
    )


def _fields(digest: Digest) -> dict[str, Any]:
    return {name: getattr(digest, name) for name in Digest.model_fields}
