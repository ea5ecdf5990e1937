"""What an event puts into an archive: the one rule, of events and of what never changes alone, so that the same events
make the same files, whatever the time and however they are cut into commits.

What grows is spread over folders, and files that are written again are bounded, so that a commit's cost does not grow
with the archive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from agent_mail_core import front_matter
from agent_mail_core.archive import ArchiveBatch, ArchivedMessage, Correspondent
from agent_mail_core.archive_names import (
    address,
    agent_folder,
    agent_of,
    attachment_path,
    event_log_path,
    mark_path,
    message_name,
    message_path,
    month,
    record_path,
    thread_part_path,
    thread_path,
)
from agent_mail_core.events import EventEntry
from agent_mail_core.front_matter import wire_time
from agent_mail_core.ids import ProjectId

FORMAT = 1
"""Of the layout, in project.json."""

LINES_A_PART = 200
"""Messages that a thread's file lists; the earlier ones are in parts of their own, which never change again."""

PROFILE_FIELDS = ("program", "model", "task_description", "contact_policy")
_UP = "../../../"
"""From a thread's file to the root."""

_MARKS = {"message.read": "read", "message.acknowledged": "acknowledged", "message.overdue": "overdue"}
# Nouns whose events each tell of one thing by its id: where its latest state is.
_RECORDS = {
    "reservation": ("reservations", "reservation_id"),
    "slot": ("slots", "lease_id"),
    "contact": ("contacts", "contact_id"),
    "review": ("reviews", "review_id"),
}
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]()<>#|"})


class ArchiveTree(Protocol):
    """The files of an archive, as this commit will have them."""

    def read(self, path: str) -> bytes | None:
        """What is there; None when nothing is."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Put a file there."""
        ...

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link there; `target` is relative to its folder."""
        ...


def write_batch(tree: ArchiveTree, batch: ArchiveBatch) -> None:
    """Bring the files up to date with the events."""
    lists: dict[str, list[str]] = {}
    for event in batch.events:
        lists.setdefault(event_log_path(event.position.event_id), []).append(event_line(event))
        noun, _, step = event.kind.partition(".")
        if event.kind == "message.sent":
            message = batch.messages.get(event.message_id) if event.message_id is not None else None
            if message is not None:
                _write_message(tree, batch, message)
        elif event.kind in _MARKS:
            _write_mark(tree, event)
        elif noun == "agent":
            _write_profile(tree, event, step)
        elif noun in ("project", "product"):
            _write_project(tree, event)
        elif noun in _RECORDS:
            _write_record(tree, event, *_RECORDS[noun], step)
    for path, lines in lists.items():
        tree.write(path, (tree.read(path) or b"") + "".join(lines).encode())


def event_line(event: EventEntry) -> str:
    """An event as the lists of events have it."""
    fields = {
        "event_id": event.position.event_id,
        "kind": event.kind,
        "at": wire_time(event.created_at),
        "agent": agent_of(event),
        "message_id": event.message_id,
        "data": event.data or None,
    }
    return _json({name: value for name, value in fields.items() if value is not None}) + "\n"


def message_content(message: ArchivedMessage, home: ProjectId) -> bytes:
    """A message's file: front matter, then the body as it was sent, and a line break."""
    fields = {
        "message_id": message.id,
        "thread_id": message.thread_key,
        "parent_id": message.parent_id,
        "from": _address(message.sender, home),
        "to": [_address(recipient, home) for recipient in message.recipients if recipient.kind == "to"],
        "cc": [_address(recipient, home) for recipient in message.recipients if recipient.kind == "cc"] or None,
        "subject": message.subject,
        "created_at": wire_time(message.created_at),
        "priority": message.priority,
        "ack_required": message.ack_required,
        "attachments": [
            {
                "file_name": file.file_name,
                "media_type": file.media_type,
                "size": file.size,
                "path": attachment_path(file.sha256),
            }
            for file in message.attachments
        ]
        or None,
    }
    return f"{front_matter.dump(fields)}{message.body_md}\n".encode()


def folder_of(who: Correspondent, home: ProjectId) -> str:
    """Whose mail it is."""
    return agent_folder(who.name, who.project_id, who.slug, home)


# --- messages ---------------------------------------------------------------------------------------------------------


def message_files(message: ArchivedMessage, home: ProjectId) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files and links that a message is, in the archive of the project `home`; they never change."""
    path = message_path(message.id, message.subject, message.created_at)
    name = f"{month(message.created_at)}/{message_name(message.id, message.subject, message.created_at)}"
    target = f"../../../../../{path}"  # from agents/{name}/inbox/YYYY/MM
    links = {f"{folder_of(message.sender, home)}/outbox/{name}": target}
    links |= {f"{folder_of(recipient, home)}/inbox/{name}": target for recipient in message.recipients}
    return {path: message_content(message, home)}, links


def _write_message(tree: ArchiveTree, batch: ArchiveBatch, message: ArchivedMessage) -> None:
    files, links = message_files(message, batch.project_id)
    for path, text in files.items():
        tree.write(path, text)
    for path, target in links.items():
        tree.link(path, target)
    for file in message.attachments:
        content = batch.contents.get(file.sha256)
        if content is not None:
            tree.write(attachment_path(file.sha256), content)
    _write_thread(tree, message, message_path(message.id, message.subject, message.created_at), batch.project_id)


def _write_thread(tree: ArchiveTree, message: ArchivedMessage, path: str, home: ProjectId) -> None:
    file = thread_path(message.thread_key, message.thread_id, message.thread_began_at)
    before = tree.read(file)
    part, count = 1, 0
    if before is not None:
        text = before.decode()
        fields, lines = front_matter.parse(text)
        part, count = fields["part"], lines.count("\n- ")
        if count >= LINES_A_PART:
            text = text.removesuffix(lines) + lines.replace(f"]({_UP}messages/", f"]({_UP}../../messages/")
            tree.write(thread_part_path(file, part), text.encode())
            before, part = None, part + 1
    if before is None:
        head = {
            "thread_id": message.thread_key,
            "subject": message.thread_subject,
            "part": part,
            "earlier": thread_part_path(file, part - 1) if part > 1 else None,
        }
        before = f"{front_matter.dump(head)}\n".encode()
    to = ", ".join(_address(recipient, home) for recipient in message.recipients) or "nobody named"
    line = f"- {wire_time(message.created_at)} {_address(message.sender, home)} to {to}: "
    link = f"[{message.subject.translate(_MARKDOWN)}]({_UP}{path})\n"
    tree.write(file, before + (line + link).encode())


def _address(who: Correspondent, home: ProjectId) -> str:
    return address(who.name, who.project_id, who.slug, home)


def _write_mark(tree: ArchiveTree, event: EventEntry) -> None:
    who, home, slug = event.agent_name, event.agent_project_id, event.agent_project_slug
    if event.message_id is None or who is None or home is None or slug is None:
        return
    agent = agent_folder(who, home, slug, event.project_id)
    fields = {"message_id": event.message_id, "agent": agent_of(event), "at": wire_time(event.created_at)}
    path = mark_path(event.message_id, agent.removeprefix("agents/"), _MARKS[event.kind])
    if tree.read(path) is None:  # the first time stays
        tree.write(path, _page(fields))


# --- what has a latest state ------------------------------------------------------------------------------------------


def _write_profile(tree: ArchiveTree, event: EventEntry, step: str) -> None:
    name = event.data.get("name", event.agent_name)
    if not isinstance(name, str):
        return
    path = f"{agent_folder(name, event.project_id, event.project_slug, event.project_id)}/profile.json"
    at = wire_time(event.created_at)
    told = {field: event.data[field] for field in PROFILE_FIELDS if field in event.data}
    before = _read(tree, path) or {"name": name, "registered_at": at}
    retired_at = at if step == "retired" else before.get("retired_at") if event.data.get("retired", True) else None
    tree.write(path, _page({**before, **told, "changed_at": at, "retired_at": retired_at}))


def _write_project(tree: ArchiveTree, event: EventEntry) -> None:
    at = wire_time(event.created_at)
    before = _read(tree, "project.json") or {"format": FORMAT, "project_id": event.project_id, "products": []}
    changes: dict[str, Any] = {}
    match event.kind:
        case "project.created":
            changes = {"slug": event.data.get("slug"), "created_at": at}
        case "project.deleted":
            changes = {"deleted_at": at}
        case "product.linked":
            changes = {"products": sorted({*before["products"], str(event.data.get("product"))})}
        case "product.unlinked":
            changes = {"products": sorted({*before["products"]} - {str(event.data.get("product"))})}
    tree.write("project.json", _page({**before, **changes}))


def _write_record(tree: ArchiveTree, event: EventEntry, folder: str, id_field: str, step: str) -> None:
    number = event.data.get(id_field)
    if not isinstance(number, int):
        return  # contact.blocked, which says not who
    path = record_path(folder, number)
    at = wire_time(event.created_at)
    before = _read(tree, path) or {id_field: number, "since": at}
    agent = agent_of(event)
    who = {"agent": agent} if agent is not None else {}
    tree.write(path, _page({**before, **who, **event.data, "state": step, "at": at}))


def _read(tree: ArchiveTree, path: str) -> dict[str, Any] | None:
    content = tree.read(path)
    if content is None:
        return None
    fields: dict[str, Any] = json.loads(content)
    return fields


def _page(fields: Mapping[str, Any]) -> bytes:
    shown = {name: value for name, value in fields.items() if value is not None}
    return (json.dumps(shown, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
