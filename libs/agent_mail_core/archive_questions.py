"""What servers ask job workers about archives, and the answers, as bytes: sealed, so that nobody else can ask.

Whoever can read and write the Redis between them has no key: it is in the database. An answer names its question.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agent_mail_core.archive import ArchivedFile, ArchivedInbox, LogSlice
from agent_mail_core.archive_errors import ArchiveCommitNotFound, ArchiveUnavailable
from agent_mail_core.errors import AgentMailError
from agent_mail_core.ids import LARGEST_ID
from agent_mail_core.ports import StoreIdentity
from agent_mail_core.questions import MOST_BYTES

TAG_BYTES = 16
MOST_JSON = 32 * 1024 * 1024
"""Bytes of JSON that a question or an answer may unfold to."""

_MODEL = ConfigDict(frozen=True, extra="forbid")

Commit = Annotated[str, Field(pattern="^[0-9a-f]{7,64}$")]
Path = Annotated[str, Field(max_length=1024)]
Limit = Annotated[int, Field(ge=1, le=1000)]


class AskLog(BaseModel):
    """`ArchiveReader.log`."""

    model_config = _MODEL
    kind: Literal["log"] = "log"
    begin: Commit | None
    path: Path | None
    until: datetime | None
    limit: Limit


class AskShow(BaseModel):
    """`ArchiveReader.show`."""

    model_config = _MODEL
    kind: Literal["show"] = "show"
    commit: Commit | None
    at: datetime | None
    path: Path
    after: Path | None
    limit: Limit


class AskInbox(BaseModel):
    """`ArchiveReader.inbox`."""

    model_config = _MODEL
    kind: Literal["inbox"] = "inbox"
    folder: Path
    commit: Commit | None
    at: datetime | None
    below: Path | None
    limit: Limit


Wanted: TypeAlias = AskLog | AskShow | AskInbox


class ArchiveQuestion(BaseModel):
    """One of them, about one project's archive."""

    model_config = _MODEL
    id: str = Field(default_factory=lambda: secrets.token_hex(16), pattern="^[0-9a-f]{32}$")
    project_id: int = Field(ge=1, le=LARGEST_ID)
    wanted: Wanted = Field(discriminator="kind")


_REFUSALS: dict[str, type[AgentMailError]] = {
    error.code: error for error in (ArchiveUnavailable, ArchiveCommitNotFound)
}


class ArchiveRefusal(BaseModel):
    """The error that is the answer."""

    model_config = _MODEL
    code: Literal["archive_unavailable", "archive_commit_not_found"]
    message: str = Field(max_length=2000)
    data: dict[str, Any]

    def error(self) -> AgentMailError:
        """As the worker raised it."""
        return _REFUSALS[self.code](self.message, **self.data)


class ArchiveAnswer(BaseModel):
    """What was found, as JSON has it; or why nothing could be."""

    model_config = _MODEL
    id: str
    """The question's."""
    found: Any = None
    refusal: ArchiveRefusal | None = None


_LOG: TypeAdapter[LogSlice] = TypeAdapter(LogSlice)
_SHOW: TypeAdapter[ArchivedFile | None] = TypeAdapter(ArchivedFile | None)
_INBOX: TypeAdapter[ArchivedInbox | None] = TypeAdapter(ArchivedInbox | None)


def as_json(wanted: Wanted, found: Any) -> Any:
    """What a reader of archives found, for an answer."""
    adapters: dict[str, TypeAdapter[Any]] = {"log": _LOG, "show": _SHOW, "inbox": _INBOX}
    return adapters[wanted.kind].dump_python(found, mode="json")


def log_found(found: Any) -> LogSlice:
    """What `AskLog` found; ValueError when it is none."""
    return _LOG.validate_python(found)


def file_found(found: Any) -> ArchivedFile | None:
    """What `AskShow` found; ValueError when it is none."""
    return _SHOW.validate_python(found)


def inbox_found(found: Any) -> ArchivedInbox | None:
    """What `AskInbox` found; ValueError when it is none."""
    return _INBOX.validate_python(found)


def seal_question(identity: StoreIdentity, question: ArchiveQuestion) -> bytes:
    """A question as it travels."""
    return _seal(identity, b"question", question.model_dump_json().encode())


def open_question(identity: StoreIdentity, sealed: bytes) -> ArchiveQuestion | None:
    """A question that came; None when it is none of ours."""
    try:
        return ArchiveQuestion.model_validate_json(_opened(identity, b"question", sealed))
    except ValueError:
        return None


def seal_answer(identity: StoreIdentity, answer: ArchiveAnswer) -> bytes:
    """An answer as it travels; ArchiveUnavailable when it is too long for that."""
    text = answer.model_dump_json().encode()
    sealed = _seal(identity, b"answer", text) if len(text) <= MOST_JSON else b""
    if not sealed or len(sealed) > MOST_BYTES:
        raise ArchiveUnavailable("That is too long to be shown: clone the repository, or ask for less.")
    return sealed


def open_answer(identity: StoreIdentity, question: ArchiveQuestion, sealed: bytes) -> ArchiveAnswer | None:
    """The answer to a question; None when what came is no answer of ours, or one to another question."""
    try:
        answer = ArchiveAnswer.model_validate_json(_opened(identity, b"answer", sealed))
    except ValueError:
        return None
    return answer if answer.id == question.id else None


def refusal_of(error: AgentMailError) -> ArchiveRefusal | None:
    """An error as an answer; None for errors that are none."""
    if error.code not in _REFUSALS:
        return None
    return ArchiveRefusal.model_validate({"code": error.code, "message": error.message[:2000], "data": error.data})


def _seal(identity: StoreIdentity, what: bytes, text: bytes) -> bytes:
    packed = zlib.compress(text, 1)
    return _tag(identity, what, packed) + packed


def _opened(identity: StoreIdentity, what: bytes, sealed: bytes) -> bytes:
    tag, packed = sealed[:TAG_BYTES], sealed[TAG_BYTES:]
    if not hmac.compare_digest(tag, _tag(identity, what, packed)):
        raise ValueError("not sealed by one of us")
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(packed, MOST_JSON)
    except zlib.error as error:
        raise ValueError("not packed by one of us") from error
    if not unpacking.eof:
        raise ValueError("too long")
    return text


def _tag(identity: StoreIdentity, what: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(packed, key=identity.cursor_key, digest_size=TAG_BYTES, person=b"am " + what).digest()
