"""Summaries of threads: what one holds, what it is made from, and the ports of their maker and their store.

A summary covers a thread up to a message. What was noted of each message is kept beside it, so that newer messages are
added to it instead of reading all again; both ways give the same. How one is made, kept and waited for is in
`summarizing`, what the rules note of a sentence in `remarks`, how notes become a digest in `digests`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from agent_mail_core.fields import PriorityWord, Result
from agent_mail_core.ids import MessageId, ProjectId, TeamId, ThreadId

MOST_MESSAGES = 400
"""A summary rests on the thread's first message and its newest ones, so many in all."""

MOST_CHARACTERS = 512 * 1024
"""Of bodies, in all of those: reading hostile Markdown takes up to 15 µs a character."""

BODY_CHARACTERS = 8 * 1024
"""Of one body, from its beginning; a message that says it all is shorter."""

EXTRACTIVE = "extractive"
"""The engine that takes a summary's sentences out of the messages, by rules."""


# --- the digest, as it is kept and shown ------------------------------------------------------------------------------


class Remark(Result):
    """Something that somebody wrote."""

    text: str
    message_id: int
    sender_name: str


class ActionItem(Remark):
    """Something to do. Without `owner` nobody was named."""

    owner: str | None = None
    done: bool = False


class KeyMessage(Result):
    message_id: int
    sender_name: str
    created_at: datetime
    excerpt: str


class Digest(Result):
    """The contents of a summary. Lists are in the order of the thread."""

    participants: list[str]
    decisions: list[Remark]
    open_questions: list[Remark]
    action_items: list[ActionItem]
    key_messages: list[KeyMessage]
    text: str


# --- what it is made from ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SummaryThread:
    """A thread, at one instant, and whose it is."""

    id: ThreadId
    team_id: TeamId
    project_id: ProjectId
    key: str
    subject: str
    message_count: int
    last_message_id: MessageId


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message as summaries read it."""

    id: MessageId
    parent_id: MessageId | None
    sender_name: str
    """As the thread's project writes it."""
    addressee: str | None
    """The only `to` recipient, written alike; None when there are more, or none."""
    body_md: str
    """Its first BODY_CHARACTERS."""
    is_cut: bool
    priority: PriorityWord
    ack_required: bool
    created_at: datetime


RemarkKind = Literal["statement", "question", "decision", "action", "done"]


class Noted(BaseModel):
    """A sentence or list item, and what it is. `done`: an action that is said to be done."""

    model_config = ConfigDict(frozen=True)

    kind: RemarkKind
    text: str
    owners: list[str] = []
    """Words that may name who is to act: the first that is a participant's name does, which the digest knows.

    A statement or question that names a participant here is an action.
    """


class MessageNotes(BaseModel):
    """What is kept of a message: enough to summarize the thread anew without its body."""

    model_config = ConfigDict(frozen=True)

    message_id: int
    parent_id: int | None
    sender_name: str
    created_at: datetime
    priority: PriorityWord
    ack_required: bool
    characters: int
    """How much of the body was read."""
    is_cut: bool
    noted: list[Noted]
    quotes: list[str]
    """What it quotes, each the beginning of a quoted line in `remarks.plain` form."""


@dataclass(frozen=True, slots=True)
class SummarySource:
    """What a summary is to be made from."""

    thread: SummaryThread
    participants: Sequence[str]
    """Nobody who was only bcc."""
    notes: Sequence[MessageNotes]
    """Of the messages that go into it, oldest first."""


class Summarizer(Protocol):
    """Makes summaries. What a message holds, however hostile, neither raises nor takes unbounded time."""

    async def note(self, messages: Sequence[SourceMessage]) -> list[MessageNotes]:
        """What is worth keeping of each message. Depends on that message alone. Off the event loop."""
        ...

    async def digest(self, source: SummarySource) -> tuple[str, Digest]:
        """The engine that made it, and the digest.

        An engine that asks elsewhere and gets no good answer in time falls back to EXTRACTIVE, which always gives the
        same for the same source.
        """
        ...


# --- the store --------------------------------------------------------------------------------------------------------


class SummaryContent(BaseModel):
    """What is kept of a summary to be shown."""

    model_config = ConfigDict(frozen=True)

    digest: Digest
    messages_read: int
    cut_bodies: int
    """Of those, how many were longer than BODY_CHARACTERS."""


class KeptNotes(BaseModel):
    """What the next summary goes on from."""

    model_config = ConfigDict(frozen=True)

    version: int
    notes: list[MessageNotes]


@dataclass(frozen=True, slots=True)
class SummaryRecord:
    """A summary as stored."""

    thread_id: ThreadId
    engine: str
    up_to_message_id: MessageId
    message_count: int
    """Of the thread's messages up to there, read or not."""
    content: str
    """A SummaryContent as JSON."""
    is_discarded: bool
    """Somebody wants another in its place, made from nothing."""
    made_at: datetime
    last_message_id: MessageId
    """The thread's, when this was read."""


@dataclass(frozen=True, slots=True)
class NewSummary:
    """A summary to store, and a KeptNotes as JSON."""

    thread_id: ThreadId
    engine: str
    up_to_message_id: MessageId
    message_count: int
    content: str
    notes: str
    is_anew: bool
    """It was made from nothing but the messages."""


class Summaries(Protocol):
    """Store of summaries, one a thread."""

    async def get(self, thread_ids: Sequence[ThreadId]) -> dict[ThreadId, SummaryRecord]:
        """Those that there are."""
        ...

    async def notes(self, thread_id: ThreadId) -> str | None:
        """The KeptNotes, as JSON, of a thread's summary."""
        ...

    async def thread(self, thread_id: ThreadId) -> SummaryThread | None:
        """The thread, unless it or its project is gone."""
        ...

    async def first_message(self, thread_id: ThreadId) -> SourceMessage | None:
        """A thread's first message."""
        ...

    async def newest_messages(
        self, thread_id: ThreadId, after: MessageId, up_to: MessageId, limit: int
    ) -> list[SourceMessage]:
        """The last messages with ids above `after`, up to `up_to`, oldest first."""
        ...

    async def bodies(self, message_ids: Sequence[MessageId], characters: int) -> dict[MessageId, str]:
        """The beginnings of these messages' bodies."""
        ...

    async def count_messages(self, thread_id: ThreadId, after: MessageId, up_to: MessageId) -> int:
        """How many messages have such ids."""
        ...

    async def discard(self, thread_id: ThreadId) -> None:
        """Mark it as one to be made anew, if there is one."""
        ...

    async def keep(self, summary: NewSummary) -> bool:
        """Store it in place of an earlier one. Made anew, it is what was wanted in the place of a discarded one.

        False, with nothing stored, when the thread or its project is gone, or the stored one covers later messages.
        """
        ...


def summaries_topic(team_id: TeamId) -> str:
    """The wake-up topic of a team's summaries: one call may wait for threads of several projects."""
    return f"summaries:{team_id}"
