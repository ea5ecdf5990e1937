"""What a commit of an archive says: who, when, a summary for people, and trailers for whoever goes on from it.

Everything in it follows from the events, so that it does not matter when or where they are archived.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from agent_mail_core.archive import ArchiveBatch, ArchiveTip
from agent_mail_core.archive_names import agent_of
from agent_mail_core.events import EventEntry, EventPosition

SERVICE = "Agent Mail"
SERVICE_ADDRESS = "agent-mail@agent-mail.invalid"
LINES = 20
"""That tell what happened, one an event; after that a count."""

UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, line breaks and marks of direction: an agent's text is one line, and looks like what it is."""

_TRAILER = re.compile(r"^Agent-Mail-([A-Za-z]+): (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CommitText:
    """A commit but for its tree and parent."""

    author: str
    author_address: str
    at: int
    """Seconds since 1970, of author and committer."""
    message: str


def commit_text(batch: ArchiveBatch, parent_at: int, archived_events: int) -> CommitText:
    """For a batch that comes after `archived_events` events, on a commit of the time `parent_at`; 0: the first one.

    A batch of one agent has it as the author. Times never go back from a commit to the next.
    """
    names = list(dict.fromkeys(name for event in batch.events if (name := agent_of(event)) is not None))
    author, address = SERVICE, SERVICE_ADDRESS
    if len(names) == 1:
        author, address = names[0], _mailbox(batch, names[0])
    at = max(parent_at, *(int(event.created_at.timestamp()) for event in batch.events))
    lines = [_line(batch, event) for event in batch.events]
    shown = lines if len(lines) <= LINES else [*lines[:LINES], f"… and {len(lines) - LINES} more"]
    body = "\n".join(f"- {line}" for line in shown)
    first, last = batch.events[0].position, batch.events[-1].position
    trailers = {
        "Agent-Mail-Events": f"{first.event_id}..{last.event_id}",
        "Agent-Mail-Position": f"{last.transaction}.{last.event_id}",
        "Agent-Mail-Count": f"{len(batch.events)} of {archived_events + len(batch.events)}",
        "Agent-Mail-Epoch": batch.epoch,
    }
    agents = [f"Co-authored-by: {name} <{_mailbox(batch, name)}>" for name in names[:LINES]]
    ends = [*(agents if len(names) > 1 else []), *(f"{name}: {value}" for name, value in trailers.items())]
    subject = lines[0] if len(lines) == 1 else _counts(batch)
    parts = [subject, *([body] if len(lines) > 1 else []), "\n".join(ends)]
    return CommitText(author, address, at, "\n\n".join(parts) + "\n")


def _counts(batch: ArchiveBatch) -> str:
    kinds = Counter(event.kind for event in batch.events)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4)) + (", …" if len(kinds) > 4 else "")


def _mailbox(batch: ArchiveBatch, name: str) -> str:
    """What git has for the address of `Name` or `Name@slug`."""
    return f"{name.lower()}.invalid" if "@" in name else f"{name.lower()}@{batch.slug}.invalid"


def _line(batch: ArchiveBatch, event: EventEntry) -> str:
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", _told(batch, event))


def _told(batch: ArchiveBatch, event: EventEntry) -> str:
    who = agent_of(event) or SERVICE
    message = batch.messages.get(event.message_id) if event.message_id is not None else None
    if event.kind == "message.sent" and message is not None:
        return f"{who}: {message.subject}"
    what = event.kind.replace(".", " ")
    about = f" #{event.message_id}" if event.message_id is not None else ""
    named = next(
        (event.data[name] for name in ("pattern", "slot_name", "contact", "product") if name in event.data), ""
    )
    return f"{who}: {what}{about}{f' {named}' if isinstance(named, str) and named else ''}"


def read_tip(commit: str, tree: str, message: str) -> ArchiveTip | None:
    """A commit by its message; None when it is not one of ours."""
    trailers = _trailers(message)
    try:
        transaction, _, event_id = trailers["Position"].partition(".")
        position = EventPosition(int(transaction), int(event_id))
        archived = int(trailers["Count"].rpartition(" of ")[2])
        return ArchiveTip(commit, tree, position, archived, trailers["Epoch"])
    except (KeyError, ValueError):
        return None


def event_count(message: str) -> int:
    """How many events a commit holds, by its message; 0 when it is not one of ours."""
    found = re.fullmatch(r"(\d+) of \d+", _trailers(message).get("Count", ""))
    return int(found[1]) if found else 0


def _trailers(message: str) -> dict[str, str]:
    """Those of the last paragraph: what stands above comes from agents."""
    return dict(_TRAILER.findall(message.rpartition("\n\n")[2]))


def time_of(seconds: int) -> datetime:
    """A commit's time."""
    return datetime.fromtimestamp(seconds, UTC)
