"""The archive seen from a server of a cluster: it opens no repository, a job worker looks for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from agent_mail_core.archive import (
    ANSWER_SECONDS,
    ArchivedFile,
    ArchivedInbox,
    ArchivePlace,
    ArchiveReader,
    LogSlice,
)
from agent_mail_core.archive_errors import ArchiveUnavailable
from agent_mail_core.archive_questions import (
    ArchiveQuestion,
    AskInbox,
    AskLog,
    AskShow,
    Wanted,
    file_found,
    inbox_found,
    log_found,
    open_answer,
    seal_question,
)
from agent_mail_core.ports import StoreIdentity
from agent_mail_core.questions import Questions

T = TypeVar("T")


class RemoteArchive(ArchiveReader):
    """Asks, and waits for at most `timeout` seconds."""

    def __init__(self, questions: Questions, identity: StoreIdentity, timeout: float = ANSWER_SECONDS) -> None:
        self._questions = questions
        self._identity = identity
        self._timeout = timeout

    async def log(
        self, place: ArchivePlace, begin: str | None, path: str | None, until: datetime | None, limit: int
    ) -> LogSlice:
        return await self._ask(place, AskLog(begin=begin, path=path, until=until, limit=limit), log_found)

    async def show(
        self, place: ArchivePlace, commit: str | None, at: datetime | None, path: str, after: str | None, limit: int
    ) -> ArchivedFile | None:
        wanted = AskShow(commit=commit, at=at, path=path, after=after, limit=limit)
        return await self._ask(place, wanted, file_found)

    async def inbox(
        self, place: ArchivePlace, folder: str, commit: str | None, at: datetime | None, below: str | None, limit: int
    ) -> ArchivedInbox | None:
        wanted = AskInbox(folder=folder, commit=commit, at=at, below=below, limit=limit)
        return await self._ask(place, wanted, inbox_found)

    async def _ask(self, place: ArchivePlace, wanted: Wanted, read: Callable[[Any], T]) -> T:
        question = ArchiveQuestion(project_id=place.project_id, wanted=wanted)
        sealed = await self._questions.ask(seal_question(self._identity, question), self._timeout)
        answer = open_answer(self._identity, question, sealed) if sealed is not None else None
        if answer is None:
            raise ArchiveUnavailable(
                "No job worker has answered about the archive; mail is all there.",
                suggestion="get_thread or check_inbox, or ask again later",
            )
        if answer.refusal is not None:
            raise answer.refusal.error()
        return read(answer.found)
