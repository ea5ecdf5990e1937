"""Keeping the number of packs, and what they take on the disk, small: git's geometric repacking.

Packs are put together so that each is more than twice as large as all smaller ones together: there are about as many
as the archive has doublings, and a byte is copied as often again. What is large in an archive are the versions of its
folders, one a commit: there each becomes a delta of the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent_mail_archive.lineage import Lineage
from agent_mail_archive.packs import read_index, write_entries

MOST_PACKS = 32
_BY_OFFSET = 6
_TRAILER_BYTES = 20


def is_due(packs: Path) -> bool:
    """Whether there are too many."""
    return len(list(packs.glob("pack-*.idx"))) > MOST_PACKS


def repack(packs: Path) -> None:
    """Put the smaller packs together into one. A crash leaves some objects twice, which does no harm."""
    found = sorted(_ours(packs), key=lambda pack: pack.stat().st_size)
    merged = found[: _smaller_ones([pack.stat().st_size for pack in found])]
    if len(merged) < 2:
        return
    with PackedObjects(merged) as objects:
        deltas = Lineage(objects).deltas()
        made = write_entries(packs, len(objects), ((oid, deltas.get(oid) or objects[oid]) for oid in objects))
    for pack in merged:
        if pack != made:
            pack.with_suffix(".idx").unlink(missing_ok=True)
            pack.unlink(missing_ok=True)


class PackedObjects:
    """The entries of several packs, by id: each as its pack has it."""

    def __init__(self, packs: list[Path]) -> None:
        self._files = [pack.open("rb") for pack in packs]
        self._places: dict[bytes, tuple[int, int, int]] = {}
        for number, pack in enumerate(packs):
            places = read_index(pack.with_suffix(".idx"))
            ends = [offset for offset, _ in places[1:]] + [pack.stat().st_size - _TRAILER_BYTES]
            for (offset, oid), end in zip(places, ends, strict=True):
                self._places.setdefault(oid, (number, offset, end - offset))

    def __enter__(self) -> PackedObjects:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def __contains__(self, oid: object) -> bool:
        return oid in self._places

    def __getitem__(self, oid: bytes) -> bytes:
        number, offset, length = self._places[oid]
        self._files[number].seek(offset)
        return self._files[number].read(length)

    def first_byte(self, oid: bytes) -> int:
        """Enough of an entry to see its kind."""
        number, offset, _ = self._places[oid]
        self._files[number].seek(offset)
        return self._files[number].read(1)[0]


def _ours(packs: Path) -> list[Path]:
    """Packs of which each object may be copied as it is. Others came from a remote, or `git gc` made them."""
    found = [pack for pack in packs.glob("pack-*.pack") if pack.with_suffix(".idx").exists()]
    return [pack for pack in found if not pack.with_suffix(".keep").exists() and not _has_offsets(pack)]


def _has_offsets(pack: Path) -> bool:
    with PackedObjects([pack]) as objects:
        return any(objects.first_byte(oid) >> 4 & 7 == _BY_OFFSET for oid in objects)


def _smaller_ones(sizes: list[int]) -> int:
    """How many of the packs, by ascending size, to put together."""
    count = len(sizes)
    while count > 1 and sizes[count - 1] > 2 * sum(sizes[: count - 1]):
        count -= 1
    return count
