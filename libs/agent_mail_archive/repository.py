"""One bare repository: opening it, adding commits, moving its branch. Whoever writes holds its lock (`places.locked`).

A commit is one pack, then the branch's file put in its place, both on the disk before the next step: at every instant
the branch names a whole history.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pygit2
from pygit2.enums import RepositoryOpenFlag

from agent_mail_archive.packs import fsync_folder, object_id, write_pack
from agent_mail_archive.pending_tree import PendingTree
from agent_mail_archive.places import beside
from agent_mail_core.archive import ArchiveBatch, ArchiveTip
from agent_mail_core.archive_commits import SERVICE, SERVICE_ADDRESS, CommitText, commit_text, read_tip
from agent_mail_core.archive_errors import ArchiveMoved
from agent_mail_core.archive_files import write_batch

BRANCH = "refs/heads/main"


class ArchiveRepository:
    """An open repository. Not for several threads at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tree: PendingTree | None = None
        self._tree_of: str | None = None
        """The commit that `_tree` is of."""
        self.reopen()

    def close(self) -> None:
        """Let go of its files."""
        self._tree = None
        self.git.free()

    def reopen(self) -> None:
        """Look at the disk again, with nothing at hand."""
        self.git = pygit2.Repository(str(self.path), RepositoryOpenFlag.BARE | RepositoryOpenFlag.NO_SEARCH)

    @classmethod
    def make(cls, path: Path) -> ArchiveRepository:
        """A new, empty one at `path`, whole or not at all."""
        making = beside(path, "making")
        make_bare(making)
        making.rename(path)
        fsync_folder(path.parent)
        return cls(path)

    @property
    def packs(self) -> Path:
        """The folder of the packs."""
        return self.path / "objects" / "pack"

    def head(self) -> pygit2.Commit | None:
        """The last commit."""
        if BRANCH not in self.git.references:
            return None
        return self.git.references[BRANCH].peel(pygit2.Commit)

    def tip(self) -> ArchiveTip | None:
        """What the last commit says; None when there is none, or none of ours."""
        head = self.head()
        return read_tip(str(head.id), str(head.tree_id), head.message) if head is not None else None

    def line(self) -> Iterator[pygit2.Commit]:
        """The commits from the last one back."""
        commit = self.head()
        while commit is not None:
            yield commit
            commit = commit.parents[0] if commit.parent_ids else None

    def add(self, parent: str | None, batch: ArchiveBatch) -> ArchiveTip:
        """Add a commit on `parent`, the branch's tip, else ArchiveMoved."""
        head = self.head()
        if (str(head.id) if head is not None else None) != parent:
            raise ArchiveMoved
        before = read_tip(str(head.id), str(head.tree_id), head.message) if head is not None else None
        text = commit_text(batch, head.commit_time if head is not None else 0, before.archived_events if before else 0)
        if self._tree is None or self._tree_of != parent:
            self._tree = PendingTree(self.git, head.tree_id.raw if head is not None else None)
        tree = self._tree
        self._tree = None  # what it holds is true again once the commit is made
        write_batch(tree, batch)
        tree_id, objects = tree.finish()
        content = _commit(tree_id, parent, text)
        commit_id = object_id("commit", content)
        objects[commit_id] = ("commit", content)
        write_pack(self.packs, objects)
        self.move(commit_id.hex())
        self._tree, self._tree_of = tree, commit_id.hex()
        tip = read_tip(commit_id.hex(), tree_id.hex(), text.message)
        assert tip is not None
        return tip

    def move(self, commit: str, branch: str = BRANCH) -> None:
        """Let the branch name this commit. Not by way of git's lock file, which a crash would leave behind."""
        moved = self.path / "agent-mail-moving"
        with moved.open("w") as file:
            file.write(f"{commit}\n")
            file.flush()
            os.fsync(file.fileno())
        place = self.path / branch
        moved.replace(place)
        fsync_folder(place.parent)

    def begin_again(self) -> None:
        """Let the branch have no commit."""
        self.git.references.delete(BRANCH)

    def clean(self) -> None:
        """Remove what writers left half written."""
        for left in (*self.packs.glob("tmp_*"), *self.path.glob("agent-mail-moving")):
            left.unlink()


def make_bare(path: Path) -> None:
    """An empty bare repository, on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pygit2.init_repository(str(path), bare=True, initial_head="main")
    for folder, _, files in os.walk(path):
        for name in files:
            descriptor = os.open(Path(folder) / name, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        fsync_folder(Path(folder))


def _commit(tree: bytes, parent: str | None, text: CommitText) -> bytes:
    lines = [
        f"tree {tree.hex()}",
        *([f"parent {parent}"] if parent is not None else []),
        f"author {text.author} <{text.author_address}> {text.at} +0000",
        f"committer {SERVICE} <{SERVICE_ADDRESS}> {text.at} +0000",
        "",
        text.message,
    ]
    return "\n".join(lines).encode()
