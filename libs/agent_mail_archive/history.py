"""Reading a repository: its log, and its files as of a commit or a time. Never writes, needs no lock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import pygit2

from agent_mail_archive.pending_tree import PendingTree
from agent_mail_archive.repository import ArchiveRepository
from agent_mail_core import front_matter
from agent_mail_core.archive import ArchivedEntry, ArchivedFile, ArchivedInbox, ArchivedMail, LoggedCommit, LogSlice
from agent_mail_core.archive_commits import event_count, time_of
from agent_mail_core.archive_errors import ArchiveCommitNotFound
from agent_mail_core.archive_names import id_of_message_name, mark_path, second_of_message_name
from agent_mail_core.pages import PAGE_CHARACTERS

MOST_LOOKS = 5000
"""At commits, in one slice of the log."""

_LINKS_FOLLOWED = 2
_MARKS = ("read", "acknowledged")


def log(
    repository: ArchiveRepository, begin: str | None, path: str | None, until: datetime | None, limit: int
) -> LogSlice:
    """See `Archive.log`."""
    commit: pygit2.Commit | None = the_commit(repository, begin, None)
    found: list[LoggedCommit] = []
    for _ in range(MOST_LOOKS):
        if commit is None or len(found) == limit:
            break
        parent = commit.parents[0] if commit.parent_ids else None
        is_early = until is None or commit.commit_time <= until.timestamp()
        if is_early and (path is None or _id_at(commit, path) != (_id_at(parent, path) if parent else None)):
            found.append(_logged(commit))
        commit = parent
    return LogSlice(found, str(commit.id) if commit is not None else None)


def show(
    repository: ArchiveRepository, begin: str | None, at: datetime | None, path: str, after: str | None, limit: int
) -> ArchivedFile | None:
    """See `Archive.show`."""
    commit = the_commit(repository, begin, at)
    found: pygit2.Object | None = _at(commit.tree, path)
    for _ in range(_LINKS_FOLLOWED):
        if not isinstance(found, pygit2.Blob) or found.filemode != pygit2.enums.FileMode.LINK:
            break
        path = _target(path, found.data.decode())
        found = _at(commit.tree, path)
    committed_at = time_of(commit.commit_time)
    if isinstance(found, pygit2.Blob):
        return ArchivedFile(str(commit.id), committed_at, path, found.size, _text(found), [], False)
    if not isinstance(found, pygit2.Tree):
        return None
    names = sorted((entry.name or "", entry.filemode) for entry in found if after is None or (entry.name or "") > after)
    entries = [ArchivedEntry(name, _kind(mode)) for name, mode in names[:limit]]
    return ArchivedFile(str(commit.id), committed_at, path, None, None, entries, len(names) > limit)


def inbox(
    repository: ArchiveRepository, folder: str, begin: str | None, at: datetime | None, below: str | None, limit: int
) -> ArchivedInbox:
    """See `Archive.inbox`. Nothing in an inbox is ever removed: of the newest commit, what was not later than `at`."""
    commit = the_commit(repository, begin, None)
    mail: list[ArchivedMail] = []
    last: str | None = None
    for month, name in _names(commit.tree, f"{folder}/inbox", below):
        second = second_of_message_name(name)
        if second is None or (at is not None and second > at):
            continue
        if len(mail) == limit:
            return ArchivedInbox(str(commit.id), time_of(commit.commit_time), mail, last)
        path = f"messages/{month}/{name}"
        blob = _at(commit.tree, path)
        if not isinstance(blob, pygit2.Blob):
            continue
        fields, _ = front_matter.parse(blob.data.decode())
        created_at = datetime.fromisoformat(str(fields["created_at"]))
        if at is None or created_at <= at:
            message_id = id_of_message_name(name) or 0
            read_at, acknowledged_at = (_mark(commit, message_id, folder, mark, at) for mark in _MARKS)
            sender, subject, thread = (str(fields[field]) for field in ("from", "subject", "thread_id"))
            mail.append(ArchivedMail(message_id, path, sender, subject, thread, created_at, read_at, acknowledged_at))
        last = name
    return ArchivedInbox(str(commit.id), time_of(commit.commit_time), mail, None)


def read(repository: ArchiveRepository, paths: Sequence[str]) -> list[bytes | None]:
    """See `Archive.read`."""
    head = repository.head()
    tree = PendingTree(repository.git, head.tree_id.raw if head is not None else None)
    return [tree.read(path) for path in paths]


def contents(repository: ArchiveRepository, folder: str, after: str, most_bytes: int) -> list[tuple[str, bytes]]:
    """See `Archive.contents`."""
    head = repository.head()
    tree = _at(head.tree, folder) if head is not None else None
    files: list[tuple[str, bytes]] = []
    size = 0
    for path, blob in _below(tree, folder, after) if isinstance(tree, pygit2.Tree) else ():
        if files and size + blob.size > most_bytes:
            break
        files.append((path, blob.data))
        size += blob.size
    return files


def _below(tree: pygit2.Tree, folder: str, after: str) -> Iterator[tuple[str, pygit2.Blob]]:
    for entry in tree:  # in git's order: a folder stands where its name and a slash would
        path = f"{folder}/{entry.name}"
        if isinstance(entry, pygit2.Tree):
            if f"{path}/" > after or after.startswith(f"{path}/"):
                yield from _below(entry, path, after)
        elif isinstance(entry, pygit2.Blob) and path > after:
            yield path, entry


def the_commit(repository: ArchiveRepository, commit: str | None, at: datetime | None) -> pygit2.Commit:
    """The commit of that id, or of which this is the beginning; else the last one not after `at`; else the tip."""
    if commit is not None:
        try:
            return repository.git[commit].peel(pygit2.Commit)
        except (KeyError, ValueError):  # none, several, or no commit
            raise ArchiveCommitNotFound(commit=commit, suggestion="archive_log") from None
    for candidate in repository.line():
        if at is None or candidate.commit_time <= at.timestamp():
            return candidate
    raise ArchiveCommitNotFound("The archive has no commit as old as that.", suggestion="archive_log")


def _names(tree: pygit2.Tree, folder: str, below: str | None) -> Iterator[tuple[str, str]]:
    """Month and name of what is in a folder that is sorted by months, newest first."""
    years = _at(tree, folder)
    for year in sorted((entry.name or "" for entry in years), reverse=True) if isinstance(years, pygit2.Tree) else ():
        months = _at(tree, f"{folder}/{year}")
        assert isinstance(months, pygit2.Tree)
        for month in sorted((entry.name or "" for entry in months), reverse=True):
            if below is not None and f"{year}-{month}" > below[:7]:
                continue
            names = _at(tree, f"{folder}/{year}/{month}")
            assert isinstance(names, pygit2.Tree)
            for name in sorted((entry.name or "" for entry in names), reverse=True):
                if below is None or name < below:
                    yield f"{year}/{month}", name


def _mark(commit: pygit2.Commit, message_id: int, folder: str, mark: str, at: datetime | None) -> datetime | None:
    blob = _at(commit.tree, mark_path(message_id, folder.removeprefix("agents/"), mark))
    if not isinstance(blob, pygit2.Blob):
        return None
    marked = datetime.fromisoformat(json.loads(blob.data)["at"])
    return marked if at is None or marked <= at else None


def _at(tree: pygit2.Tree, path: str) -> pygit2.Object | None:
    if not path:
        return tree
    try:
        return tree[path]
    except KeyError:
        return None


def _id_at(commit: pygit2.Commit, path: str) -> pygit2.Oid | None:
    found = _at(commit.tree, path)
    return found.id if found is not None else None


def _text(blob: pygit2.Blob) -> str | None:
    if blob.size > PAGE_CHARACTERS:
        return None
    content = blob.data
    try:
        return content.decode() if b"\0" not in content else None
    except UnicodeDecodeError:
        return None


def _target(path: str, target: str) -> str:
    folders = path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            folders = folders[:-1]
        else:
            folders.append(part)
    return "/".join(folders)


def _kind(mode: int) -> Literal["file", "folder", "link"]:
    if mode == pygit2.enums.FileMode.TREE:
        return "folder"
    return "link" if mode == pygit2.enums.FileMode.LINK else "file"


def _logged(commit: pygit2.Commit) -> LoggedCommit:
    subject = commit.message.partition("\n")[0]
    return LoggedCommit(
        str(commit.id), time_of(commit.commit_time), commit.author.name, subject, event_count(commit.message)
    )
