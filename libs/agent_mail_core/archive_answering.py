"""A job worker's part of archive_log and archive_show in a cluster: answering what servers ask about its repositories.

Only a worker whose copy has the recorded commit answers. When nobody has it, the archive job is wanted: whoever takes
that holds its lease, and first makes its copy equal to the record (`archiving.agreed`), so that reading never writes.
"""

from __future__ import annotations

from agent_mail_core.archive import Archive, ArchivePlace, ArchiveState
from agent_mail_core.archive_errors import ArchiveCommitNotFound, ArchiveUnavailable
from agent_mail_core.archive_questions import (
    ArchiveAnswer,
    ArchiveQuestion,
    AskInbox,
    AskLog,
    AskShow,
    as_json,
    open_question,
    refusal_of,
    seal_answer,
)
from agent_mail_core.errors import AgentMailError
from agent_mail_core.ids import ProjectId
from agent_mail_core.ports import App, StoreIdentity
from agent_mail_core.questions import Asked


async def answer_archive(app: App, asked: Asked) -> bytes | None:
    """The answer to a server's question; None when it is none of ours, or others can answer it better."""
    question = open_question(app.store.identity, asked.question)
    if question is None or app.archive is None:
        return None
    try:
        async with app.store.read() as db:
            place = await db.archives.place(ProjectId(question.project_id))
            state = await db.archives.get(ProjectId(question.project_id))
        if place is None:
            return None
        if not await _has(app.archive, place, state):
            await _want_it(app, place, asked)
            return None
        if not await asked.take():
            return None
        return await _answer(app.archive, app.store.identity, place, question)
    except AgentMailError:  # the database, Redis or this worker's disk is away: it is asked again
        return None


async def _has(archive: Archive, place: ArchivePlace, state: ArchiveState | None) -> bool:
    return state is None or await archive.has_come_to(place, state.head)


async def _want_it(app: App, place: ArchivePlace, asked: Asked) -> None:
    """Nobody has answered the first time: have somebody make a copy."""
    if asked.is_again and await asked.take():
        async with app.store.write() as db:
            await db.jobs.want("archive", place.project_id, place.team_id)
        app.jobs.wake("archive", place.project_id)


async def _answer(archive: Archive, identity: StoreIdentity, place: ArchivePlace, question: ArchiveQuestion) -> bytes:
    try:
        found = as_json(question.wanted, await _found(archive, place, question.wanted))
        return seal_answer(identity, ArchiveAnswer(id=question.id, found=found))
    except (ArchiveCommitNotFound, ArchiveUnavailable) as error:
        return seal_answer(identity, ArchiveAnswer(id=question.id, refusal=refusal_of(error)))


async def _found(archive: Archive, place: ArchivePlace, wanted: AskLog | AskShow | AskInbox) -> object:
    match wanted:
        case AskLog():
            return await archive.log(place, wanted.begin, wanted.path, wanted.until, wanted.limit)
        case AskShow():
            return await archive.show(place, wanted.commit, wanted.at, wanted.path, wanted.after, wanted.limit)
        case AskInbox():
            return await archive.inbox(place, wanted.folder, wanted.commit, wanted.at, wanted.below, wanted.limit)
