"""The files of the next commit: those of the last one and what has been written since. Only changed folders are made
anew, and what was read or made stays at hand for the commit after.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pygit2

from agent_mail_archive.deltas import entries
from agent_mail_archive.packs import Kind, object_id
from agent_mail_core.archive_files import ArchiveTree

_FILE, _LINK, _FOLDER = b"100644", b"120000", b"40000"
_ID_BYTES = 20
Objects = dict[bytes, tuple[Kind, bytes]]


@dataclass(slots=True)
class _Folder:
    """A folder as git stores it: entries by name, a slash behind those of folders, which is git's order of them too.

    The folders below that were opened are in `folders`.
    """

    entries: dict[bytes, bytes] = field(default_factory=dict)
    folders: dict[bytes, _Folder] = field(default_factory=dict)
    is_changed: bool = False


class PendingTree(ArchiveTree):
    """Begins as the tree of that id; None: empty."""

    def __init__(self, repository: pygit2.Repository, tree: bytes | None) -> None:
        self._repository = repository
        self._root = self._opened(tree) if tree is not None else _Folder()
        self._written: dict[str, tuple[bytes, bytes]] = {}
        """Mode and content, by path."""

    def read(self, path: str) -> bytes | None:
        if path in self._written:
            return self._written[path][1]
        folder, name = self._folder(path, make=False)
        entry = folder.entries.get(name) if folder is not None else None
        return self._repository.odb.read(pygit2.Oid(raw=entry[-_ID_BYTES:]))[1] if entry is not None else None

    def write(self, path: str, content: bytes) -> None:
        self._written[path] = (_FILE, content)

    def link(self, path: str, target: str) -> None:
        self._written[path] = (_LINK, target.encode())

    def finish(self) -> tuple[bytes, Objects]:
        """The tree's id, and the objects that the repository does not have yet for it. Then goes on from there."""
        objects: Objects = {}
        known: dict[bytes, bytes] = {}
        for path, (mode, content) in self._written.items():
            oid = known.get(content)
            if oid is None:
                oid = known[content] = object_id("blob", content)
            folder, name = self._folder(path, make=True)
            assert folder is not None
            entry = b"%s %s\0%s" % (mode, name, oid)
            if folder.entries.get(name) != entry:
                folder.entries[name] = entry
                objects[oid] = ("blob", content)
        self._written = {}
        return self._made(self._root, objects), objects

    def _folder(self, path: str, make: bool) -> tuple[_Folder | None, bytes]:
        """The folder of a file and the file's name; to `make` it marks all on the way as changed."""
        *names, last = path.encode().split(b"/")
        folder = self._root
        folder.is_changed |= make
        for name in names:
            below = folder.folders.get(name)
            if below is None:
                entry = folder.entries.get(name + b"/")
                if entry is not None:
                    below = self._opened(entry[-_ID_BYTES:])
                elif make:
                    below = _Folder()
                else:
                    return None, last
                folder.folders[name] = below
            folder = below
            folder.is_changed |= make
        return folder, last

    def _opened(self, tree: bytes) -> _Folder:
        data = self._repository.odb.read(pygit2.Oid(raw=tree))[1]
        folder = _Folder()
        for first, last in entries(data):
            entry = data[first:last]
            mode, _, name = entry[: -_ID_BYTES - 1].partition(b" ")
            folder.entries[name + b"/" if mode == _FOLDER else name] = entry
        return folder

    def _made(self, folder: _Folder, objects: Objects) -> bytes:
        for name, below in folder.folders.items():
            if below.is_changed:
                folder.entries[name + b"/"] = b"%s %s\0%s" % (_FOLDER, name, self._made(below, objects))
        folder.is_changed = False
        content = b"".join([folder.entries[name] for name in sorted(folder.entries)])
        oid = object_id("tree", content)
        objects[oid] = ("tree", content)
        return oid
