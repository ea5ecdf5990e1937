"""The archive: a git repository a project, made from its events (SPEC §7, DESIGN 12).

What the writer and the readers of it speak of, and the ports: `Archive` is the repositories, `Archives` is how far each
has come, in the database. What an event puts into the files is in `archive_files`, how they are kept up to date in
`archiving`, the operations are in `archive_reading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from agent_mail_core.events import EventEntry, EventPosition
from agent_mail_core.fields import PriorityWord, RecipientKind
from agent_mail_core.ids import AgentId, AttachmentId, MessageId, ProjectId, TeamId

MOST_EVENTS = 500
"""In one commit."""

MOST_BYTES = 32 * 1024 * 1024
"""Of bodies and attachments in one commit, unless a single message has more: what a batch may take of memory."""

ANSWER_SECONDS = 9.5
"""How long a reader waits: the request that asks has 10 seconds, and is to say why it failed."""


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Whose archive it is; where it lies follows from that and never changes."""

    team_id: TeamId
    team_name: str
    project_id: ProjectId
    slug: str
    """For a deleted project, the one it had."""
    is_anew: bool = False
    """A second repository beside the first, which is to take its place."""


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How far an archive has come, as the database knows it."""

    head: str
    """The commit."""
    tree: str
    """Its tree: what a copy made anew must come to."""
    position: EventPosition
    """The last event in it."""
    archived_events: int
    pushed_head: str | None


@dataclass(frozen=True, slots=True)
class ArchiveTip:
    """The last commit of a repository, and what its trailers say."""

    commit: str
    tree: str
    position: EventPosition
    archived_events: int
    """From the first commit on."""
    epoch: str
    """Of the database that it was made from."""


@dataclass(frozen=True, slots=True)
class Correspondent:
    """Somebody that wrote or got a message; nobody who got it as bcc."""

    agent_id: AgentId
    name: str
    project_id: ProjectId
    slug: str
    kind: RecipientKind | None = None
    """None: the sender."""


@dataclass(frozen=True, slots=True)
class ArchivedAttachment:
    """A file at a message."""

    id: AttachmentId
    public_id: str
    file_name: str
    media_type: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class ArchivedMessage:
    """What never changes of a message."""

    id: MessageId
    thread_id: int
    thread_key: str
    thread_subject: str
    thread_began_at: datetime
    parent_id: MessageId | None
    sender: Correspondent
    recipients: tuple[Correspondent, ...]
    """To and cc, in the order they were given."""
    subject: str
    body_md: str
    priority: PriorityWord
    ack_required: bool
    created_at: datetime
    attachments: tuple[ArchivedAttachment, ...]


@dataclass(frozen=True, slots=True)
class ArchiveBatch:
    """What one commit holds: events of a project in order, and what they point at that is still there."""

    project_id: ProjectId
    slug: str
    epoch: str
    events: Sequence[EventEntry]
    messages: Mapping[MessageId, ArchivedMessage]
    """Those that were sent, without those that retention has removed since."""
    contents: Mapping[bytes, bytes]
    """The bytes of their attachments, by SHA-256."""
    is_cut: bool = False
    """Whether there were more events than it holds."""


class Archives(Protocol):
    """Store of how far archives have come, and what only the archive reads."""

    async def place(self, project_id: ProjectId) -> ArchivePlace | None:
        """Of a project, deleted or not."""
        ...

    async def behind(self, limit: int) -> list[ProjectId]:
        """Projects that have events which are not in their archives."""
        ...

    async def archived(self, after: ProjectId, limit: int) -> list[ArchivePlace]:
        """Archives that there are, by project id, above `after`."""
        ...

    async def get(self, project_id: ProjectId) -> ArchiveState | None:
        """None: nothing was archived yet."""
        ...

    async def record(self, project_id: ProjectId, expected: str | None, state: ArchiveState) -> bool:
        """The archive has come so far; outbox rows up to there are done.

        Atomic: False, with nothing changed, unless the recorded head is still `expected` (None: none is recorded).
        """
        ...

    async def record_push(self, project_id: ProjectId, head: str) -> None:
        """The remote has this head."""
        ...

    async def sizes(self, message_ids: Sequence[MessageId]) -> dict[MessageId, int]:
        """Bytes of body and attachments, of those that are there."""
        ...

    async def messages(self, message_ids: Sequence[MessageId]) -> list[ArchivedMessage]:
        """Those that are there, by id. A bcc never leaves the store by this way."""
        ...

    async def message_ids(self, project_id: ProjectId, after: MessageId, limit: int) -> list[MessageId]:
        """Ids of a project's messages above `after`, in order."""
        ...


# --- what readers get -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """A commit as the log shows it."""

    commit: str
    committed_at: datetime
    author: str
    subject: str
    event_count: int


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Part of the log."""

    commits: list[LoggedCommit]
    next_commit: str | None
    """Where to go on; None at the first commit."""


@dataclass(frozen=True, slots=True)
class ArchivedEntry:
    """A name in a folder."""

    name: str
    kind: Literal["file", "folder", "link"]


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file or a folder as of a commit."""

    commit: str
    committed_at: datetime
    path: str
    size: int | None
    """Bytes of a file; None: a folder."""
    text: str | None
    """Of a file that is one, and not longer than a page."""
    entries: list[ArchivedEntry]
    """In order of their names, above `after`."""
    has_more: bool


@dataclass(frozen=True, slots=True)
class ArchivedMail:
    """A message in an inbox as of a time."""

    message_id: int
    path: str
    sender_name: str
    subject: str
    thread_id: str
    created_at: datetime
    read_at: datetime | None
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class ArchivedInbox:
    """An inbox as of a time, newest first."""

    commit: str
    committed_at: datetime
    mail: list[ArchivedMail]
    next_name: str | None
    """Where to go on; None at its first message."""


class ArchiveReader(Protocol):
    """Looks into the repositories.

    Raises ArchiveUnavailable when they cannot be read, and when nobody answers within ANSWER_SECONDS.
    """

    async def log(
        self, place: ArchivePlace, begin: str | None, path: str | None, until: datetime | None, limit: int
    ) -> LogSlice:
        """Commits from `begin` (else the tip) back, which are not after `until` and changed `path`.

        Looks at a bounded number of commits: a slice may be short, or empty, and still say where to go on.
        """
        ...

    async def show(
        self, place: ArchivePlace, commit: str | None, at: datetime | None, path: str, after: str | None, limit: int
    ) -> ArchivedFile | None:
        """A file or folder as of a commit, else as of the last one that is not after `at`, else of the tip.

        None when it is not there. Raises ArchiveCommitNotFound. Links are followed.
        """
        ...

    async def inbox(
        self, place: ArchivePlace, folder: str, commit: str | None, at: datetime | None, below: str | None, limit: int
    ) -> ArchivedInbox | None:
        """The inbox in that agent's folder: as of `at`, to the microsecond, whatever commits hold; below that name.

        None when nothing was archived yet.
        """
        ...


class Archive(ArchiveReader, Protocol):
    """The repositories. One writer a repository at a time: a second one waits, and builds on what the first has made.

    Raises ArchiveUnavailable when the disk is full, not there or not allowed, and when the remote does not answer. What
    is told to be done is on the disk.
    """

    async def tip(self, place: ArchivePlace) -> ArchiveTip | None:
        """The last commit; None when there is no repository yet, or it is empty."""
        ...

    async def holds(self, place: ArchivePlace, commit: str) -> bool:
        """Whether the commit is on the way from the tip to the first commit, the tip included."""
        ...

    async def has_come_to(self, place: ArchivePlace, commit: str) -> bool:
        """Whether the commit is among the newest ones, of which a thousand are looked at. Waits for no writer."""
        ...

    async def commit(self, place: ArchivePlace, parent: str | None, batch: ArchiveBatch) -> ArchiveTip:
        """Add a commit. Raises ArchiveMoved, with nothing changed, when the tip is not `parent`."""
        ...

    async def turn_back(self, place: ArchivePlace, commit: str | None) -> None:
        """Make this commit the tip; None: begin again. What came after it is kept under a name of its own."""
        ...

    async def fetch(self, place: ArchivePlace) -> bool:
        """Take over the remote's commits, in place of whatever is here; False without a remote, or when it has none."""
        ...

    async def push(self, place: ArchivePlace) -> str | None:
        """Bring the remote to the tip; that, or None without a remote."""
        ...

    async def begin_anew(self, place: ArchivePlace) -> None:
        """Remove what there is of a second repository beside."""
        ...

    async def swap(self, place: ArchivePlace) -> None:
        """Put the second repository in the place of the first. A crash between leaves one of the two there."""
        ...

    async def read(self, place: ArchivePlace, paths: Sequence[str]) -> list[bytes | None]:
        """Files as of the tip, in that order; of a link, where it leads. None for what is not there."""
        ...

    async def contents(self, place: ArchivePlace, folder: str, after: str, most_bytes: int) -> list[tuple[str, bytes]]:
        """Files as of the tip below the folder, whose paths come after `after` in order of folders, then of names.

        At least one, when there is one, then as many as have `most_bytes` together.
        """
        ...
