"""Which folder is the next version of which: found by going through commits and what they changed, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from agent_mail_archive.deltas import delta, entries
from agent_mail_archive.packs import delta_entry, opened_entry

LONGEST_CHAIN = 50
"""Deltas to go through for one folder; git's own limit."""

LEAST_BYTES = 512
"""Smaller folders are kept as they are."""

_COMMIT, _BY_ID = 1, 7
_FOLDER = b"40000 "


class Entries(Protocol):
    """Entries of packs by id."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __contains__(self, oid: object) -> bool: ...
    def __getitem__(self, oid: bytes) -> bytes: ...
    def first_byte(self, oid: bytes) -> int: ...


class Lineage:
    """The commits and folders among some objects."""

    def __init__(self, objects: Entries) -> None:
        self._objects = objects
        self._bases: dict[bytes, bytes] = {}
        """What is told by another, and by which."""
        self._heights: dict[bytes, int] = {}
        """How many deltas, one after the other, end in an object."""
        self._tried: set[tuple[bytes, bytes]] = set()
        self._deltas: dict[bytes, bytes] = {}

    def deltas(self) -> dict[bytes, bytes]:
        """New entries for the folders that are to be told by their next versions."""
        commits = []
        for oid in self._objects:
            kind = self._objects.first_byte(oid) >> 4 & 7
            if kind == _COMMIT:
                commits.append(oid)
            elif kind == _BY_ID:
                self._bases[oid] = opened_entry(self._objects[oid])[1]
        for oid in list(self._bases):
            self._raise_heights(oid)
        for commit in commits:
            tree, parent = _commit(opened_entry(self._objects[commit])[1])
            if parent is not None and self._is_whole(parent):  # a remote tells commits by others too
                self._compare(_commit(opened_entry(self._objects[parent])[1])[0], tree)
        return self._deltas

    def _compare(self, old: bytes, new: bytes) -> None:
        """Let the old folder be told by the new one, and so below."""
        if (
            old == new
            or (old, new) in self._tried
            or old in self._bases
            or not (self._is_whole(old) and self._is_whole(new))
        ):
            return
        self._tried.add((old, new))
        before, after = opened_entry(self._objects[old])[1], opened_entry(self._objects[new])[1]
        folders = _folders(after)
        for name, oid in _folders(before).items():
            if name in folders:
                self._compare(oid, folders[name])
        if len(before) < LEAST_BYTES or self._depth(new) + 1 + self._heights.get(old, 0) > LONGEST_CHAIN:
            return
        if self._ends_in(new, old):
            return
        self._deltas[old] = delta_entry(new, delta(after, before))
        self._bases[old] = new
        self._raise_heights(old)

    def _is_whole(self, oid: bytes) -> bool:
        return oid in self._objects and self._objects.first_byte(oid) >> 4 & 7 != _BY_ID

    def _depth(self, oid: bytes) -> int:
        depth = 0
        while oid in self._bases:
            oid, depth = self._bases[oid], depth + 1
        return depth

    def _ends_in(self, oid: bytes, end: bytes) -> bool:
        """A folder that came back to an earlier version must not be told by itself."""
        while oid in self._bases:
            oid = self._bases[oid]
        return oid == end

    def _raise_heights(self, oid: bytes) -> None:
        height = self._heights.get(oid, 0)
        while oid in self._bases:
            oid, height = self._bases[oid], height + 1
            self._heights[oid] = max(height, self._heights.get(oid, 0))


def _commit(content: bytes) -> tuple[bytes, bytes | None]:
    """Tree and first parent."""
    lines = content.split(b"\n", 2)
    parent = bytes.fromhex(lines[1][7:].decode()) if lines[1].startswith(b"parent ") else None
    return bytes.fromhex(lines[0][5:].decode()), parent


def _folders(tree: bytes) -> dict[bytes, bytes]:
    """Names and ids of the folders in a tree."""
    if _FOLDER not in tree:
        return {}
    found = {}
    for first, last in entries(tree):
        if tree.startswith(_FOLDER, first):
            found[tree[first : last - 20]] = tree[last - 20 : last]
    return found
