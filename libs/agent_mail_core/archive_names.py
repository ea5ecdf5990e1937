"""How things are named in an archive: paths that every file system takes, each thing's own.

Names of ours are lower-cased, as they are unique ignoring case. What had to be changed carries its id, behind an `@`
that no name of ours can hold; a name that Windows keeps for devices gets a `_` before it, with which none of ours
begins.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from agent_mail_core.events import EventEntry
from agent_mail_core.ids import MessageId, ProjectId
from agent_mail_core.slugs import slugify

SUBJECT_LENGTH = 60
IDS_A_FOLDER = 1000
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_MESSAGE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)-(\d\d)-(\d\d)Z__[a-z0-9-]+__(\d+)\.md")


def safe(name: str) -> str:
    """A lower-case name that begins with a letter or digit, as no file system trips over it."""
    return f"_{name}" if _DEVICE.fullmatch(name) else name


def agent_folder(name: str, project_id: ProjectId, slug: str, home: ProjectId) -> str:
    """An agent's folder; one of another project than the archive's carries that project."""
    own = safe(name.lower())
    return f"agents/{own}" if project_id == home else f"agents/{own}@{slug}-{project_id}"


def address(name: str, project_id: ProjectId, slug: str, home: ProjectId) -> str:
    """An agent as the archive's project writes it, for good: a deleted project keeps its slug here."""
    return name if project_id == home else f"{name}@{slug}"


def agent_of(event: EventEntry) -> str | None:
    """Who did it, in the same way."""
    if event.agent_name is None or event.agent_project_id is None or event.agent_project_slug is None:
        return None
    return address(event.agent_name, event.agent_project_id, event.agent_project_slug, event.project_id)


def thread_path(key: str, thread_id: int, began_at: datetime) -> str:
    """A thread's file, among those that began in its month. Only `:` is replaced: it could then be another thread's."""
    stem = key.lower()
    if ":" in stem:
        stem = f"{stem.replace(':', '_')}@{thread_id}"
    return f"threads/{month(began_at)}/{safe(stem)}.md"


def thread_part_path(path: str, part: int) -> str:
    """What the file of a thread held before it was full."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/earlier/{name}/{part:06d}.md"


def month(at: datetime) -> str:
    """The folders of a month."""
    return at.astimezone(UTC).strftime("%Y/%m")


def message_name(message_id: MessageId, subject: str, created_at: datetime) -> str:
    """A message's file, in any folder: in order of time."""
    slug = slugify(subject)[:SUBJECT_LENGTH].rstrip("-") or "message"
    return f"{created_at.astimezone(UTC).strftime('%Y-%m-%dT%H-%M-%SZ')}__{slug}__{message_id}.md"


def message_path(message_id: MessageId, subject: str, created_at: datetime) -> str:
    """Where a message is."""
    return f"messages/{month(created_at)}/{message_name(message_id, subject, created_at)}"


def id_of_message_name(name: str) -> int | None:
    """The message that a file holds, by its name."""
    found = _MESSAGE.fullmatch(name)
    return int(found[7]) if found else None


def second_of_message_name(name: str) -> datetime | None:
    """When it was sent, by its name; the rest of the second is in the file."""
    found = _MESSAGE.fullmatch(name)
    if found is None:
        return None
    try:
        return datetime.strptime(name[:20], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def numbered(folder: str, number: int) -> str:
    """A folder below, which few enough numbers share."""
    return f"{folder}/{number // IDS_A_FOLDER**2:03d}/{number // IDS_A_FOLDER % IDS_A_FOLDER:03d}"


def event_log_path(event_id: int) -> str:
    """Which list an event is in."""
    return f"{numbered('events', event_id)}.jsonl"


def record_path(folder: str, number: int) -> str:
    """Where the latest state of a reservation, contact, … is."""
    return f"{numbered(folder, number)}/{number}.json"


def mark_path(message_id: int, agent: str, mark: str) -> str:
    """Where it says that an agent, by its folder's name, has read, acknowledged, … a message."""
    return f"{numbered('state', message_id)}/{message_id}__{agent}.{mark}.json"


def attachment_path(sha256: bytes) -> str:
    """Where bytes are."""
    digest = sha256.hex()
    return f"attachments/{digest[:2]}/{digest}"
