"""Questions about archives as bytes: only who has the database's key can make one, or an answer, that is read."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

import pytest

from agent_mail_core import archive_questions
from agent_mail_core.archive import ArchivedEntry, ArchivedFile, LogSlice
from agent_mail_core.archive_errors import ArchiveCommitNotFound, ArchiveUnavailable
from agent_mail_core.archive_questions import (
    ArchiveAnswer,
    ArchiveQuestion,
    AskLog,
    AskShow,
    as_json,
    file_found,
    log_found,
    open_answer,
    open_question,
    refusal_of,
    seal_answer,
    seal_question,
)
from agent_mail_core.errors import MessageNotFound
from agent_mail_core.ports import StoreIdentity

HERE = StoreIdentity("epoch", b"k" * 32)
ELSEWHERE = StoreIdentity("epoch", b"x" * 32)
NOW = datetime(2026, 11, 22, tzinfo=UTC)
SHOW = AskShow(commit=None, at=NOW, path="threads", after="feat-1.md", limit=20)
QUESTION = ArchiveQuestion(project_id=7, wanted=SHOW)


def test_a_question_is_read_as_it_was_asked() -> None:
    assert open_question(HERE, seal_question(HERE, QUESTION)) == QUESTION


def test_no_two_questions_are_the_same() -> None:
    assert ArchiveQuestion(project_id=7, wanted=SHOW).id != QUESTION.id


@pytest.mark.parametrize("position", [0, 15, 16, 40])
def test_an_altered_one_is_none(position: int) -> None:
    sealed = bytearray(seal_question(HERE, QUESTION))
    sealed[position] ^= 1
    assert open_question(HERE, bytes(sealed)) is None


@pytest.mark.parametrize("junk", [b"", b"x", b"x" * 16, b"\0" * 1000, b'{"id": 1}'])
def test_junk_is_none(junk: bytes) -> None:
    assert open_question(HERE, junk) is None
    assert open_answer(HERE, QUESTION, junk) is None


def test_what_was_sealed_elsewhere_or_for_something_else_is_none() -> None:
    sealed = seal_question(HERE, QUESTION)
    assert open_question(ELSEWHERE, sealed) is None
    assert open_answer(HERE, QUESTION, sealed) is None
    answer = seal_answer(HERE, ArchiveAnswer(id=QUESTION.id))
    assert open_question(HERE, answer) is None
    assert open_answer(HERE, ArchiveQuestion(project_id=7, wanted=SHOW), answer) is None
    assert open_answer(HERE, QUESTION, answer) == ArchiveAnswer(id=QUESTION.id)


def test_what_unfolds_to_too_much_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zlib.compress(b" " * 100_000 + QUESTION.model_dump_json().encode())
    sealed = archive_questions._tag(HERE, b"question", packed) + packed
    assert open_question(HERE, sealed) == QUESTION
    monkeypatch.setattr(archive_questions, "MOST_JSON", 50_000)
    assert open_question(HERE, sealed) is None


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "show", "path": "x" * 1025},
        {"kind": "show", "commit": "main"},
        {"kind": "log", "limit": 1001},
        {"kind": "log", "begin": "HEAD~1"},
        {"kind": "push"},
    ],
)
def test_a_question_has_bounds(wanted: dict[str, object]) -> None:
    whole: dict[str, dict[str, object]] = {
        "show": {"commit": None, "at": None, "path": "", "after": None, "limit": 1},
        "log": {"begin": None, "path": None, "until": None, "limit": 1},
    }
    asked = {**whole.get(str(wanted["kind"]), {}), **wanted}
    with pytest.raises(ValueError, match="validation error"):
        ArchiveQuestion.model_validate({"project_id": 7, "wanted": asked})


def test_what_was_found_comes_back_as_it_was() -> None:
    found = ArchivedFile("c" * 40, NOW, "threads", None, None, [ArchivedEntry("a.md", "link")], True)
    assert file_found(as_json(SHOW, found)) == found
    assert file_found(as_json(SHOW, None)) is None
    log = AskLog(begin=None, path=None, until=None, limit=1)
    assert log_found(as_json(log, LogSlice([], "c" * 40))) == LogSlice([], "c" * 40)
    with pytest.raises(ValueError, match="validation error"):
        log_found({"commits": 1})


def test_errors_come_back_as_they_were() -> None:
    refusal = refusal_of(ArchiveCommitNotFound(commit="abc", suggestion="archive_log"))
    assert refusal is not None
    error = refusal.error()
    assert isinstance(error, ArchiveCommitNotFound)
    assert error.data == {"commit": "abc", "suggestion": "archive_log"}
    assert refusal_of(MessageNotFound()) is None


def test_an_answer_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_questions, "MOST_JSON", 1000)
    with pytest.raises(ArchiveUnavailable, match="too long"):
        seal_answer(HERE, ArchiveAnswer(id=QUESTION.id, found="x" * 1000))
