"""Writing a pack: many git objects in one file, on the disk for good when `write_pack` returns.

Objects are stored whole, without deltas; `repacking` makes them small later. One file and two fsyncs a commit, where a
file an object would be some thousands. The format is git's (Documentation/gitformat-pack.txt).
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

Kind = Literal["commit", "tree", "blob"]

_NUMBERS: dict[Kind, int] = {"commit": 1, "tree": 2, "blob": 3}
_BY_ID = 7
_LEVEL = 1
"""Of zlib: level 6 takes three times as long for a tenth less."""


def object_id(kind: Kind, content: bytes) -> bytes:
    """The id that git gives an object: 20 bytes."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content, usedforsecurity=False).digest()


def write_pack(folder: Path, objects: Mapping[bytes, tuple[Kind, bytes]]) -> Path:
    """Put the objects, by id, into a new pack of `folder`, with its index. A crash leaves what git passes over."""
    entries = (
        (oid, entry_head(_NUMBERS[kind], len(content)) + zlib.compress(content, _LEVEL))
        for oid, (kind, content) in objects.items()
    )
    return write_entries(folder, len(objects), entries)


def write_entries(folder: Path, count: int, entries: Iterable[tuple[bytes, bytes]]) -> Path:
    """The same of objects, by id, that are as a pack has them."""
    placed: list[tuple[bytes, int, int]] = []
    temporary = folder / f"tmp_pack_{os.getpid()}"
    digest = hashlib.sha1(usedforsecurity=False)
    with temporary.open("wb") as file:
        header = struct.pack(">4sII", b"PACK", 2, count)
        file.write(header)
        digest.update(header)
        offset = len(header)
        for oid, data in entries:
            file.write(data)
            digest.update(data)
            placed.append((oid, zlib.crc32(data), offset))
            offset += len(data)
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, 0o444)
    stem = folder / f"pack-{digest.hexdigest()}"
    index = folder / f"tmp_idx_{os.getpid()}"
    with index.open("wb") as file:
        file.write(_index(placed, digest.digest()))
        file.flush()
        os.fsync(file.fileno())
    os.chmod(index, 0o444)
    temporary.rename(stem.with_suffix(".pack"))  # a pack is looked for by its index, which comes last
    index.rename(stem.with_suffix(".idx"))
    fsync_folder(folder)
    return stem.with_suffix(".pack")


def delta_entry(base: bytes, delta: bytes) -> bytes:
    """An object as a pack has it that is told by another one of the same pack."""
    return entry_head(_BY_ID, len(delta)) + base + zlib.compress(delta, _LEVEL)


def opened_entry(data: bytes) -> tuple[Kind | None, bytes]:
    """Kind and content of an entry; for one that is told by another, None and the other's id."""
    number, place = data[0] >> 4 & 7, 1
    while data[place - 1] & 0x80:
        place += 1
    if number == _BY_ID:
        return None, data[place : place + 20]
    kinds = {number: kind for kind, number in _NUMBERS.items()}
    return kinds[number], zlib.decompress(data[place:])


def read_index(index: Path) -> list[tuple[int, bytes]]:
    """Where in its pack each object begins, and its id, by place."""
    data = index.read_bytes()
    (count,) = struct.unpack_from(">I", data, 8 + 255 * 4)
    ids = 8 + 256 * 4
    offsets = ids + 24 * count  # behind the ids and their checksums
    large = offsets + 4 * count
    found = []
    for number, offset in enumerate(struct.unpack_from(f">{count}I", data, offsets)):
        if offset >= 2**31:
            (offset,) = struct.unpack_from(">Q", data, large + 8 * (offset - 2**31))
        found.append((offset, data[ids + 20 * number : ids + 20 * (number + 1)]))
    return sorted(found)


def fsync_folder(folder: Path) -> None:
    """Names in the folder are on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entry_head(number: int, size: int) -> bytes:
    """Type and size, seven bits a byte but four in the first."""
    byte = number << 4 | size & 0x0F
    size >>= 4
    head = bytearray()
    while size:
        head.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    head.append(byte)
    return bytes(head)


def _index(entries: list[tuple[bytes, int, int]], pack_digest: bytes) -> bytes:
    """Version 2 of the index. Offsets past 2 GiB go into a table of their own."""
    entries = sorted(entries)
    counts = [0] * 256
    for oid, _, _ in entries:
        counts[oid[0]] += 1
    fanout, total = [], 0
    for count in counts:
        total += count
        fanout.append(total)
    large = [offset for _, _, offset in entries if offset >= 2**31]
    places = {offset: number for number, offset in enumerate(large)}
    offsets = [offset if offset < 2**31 else 2**31 | places[offset] for _, _, offset in entries]
    body = b"".join(
        (
            struct.pack(">4sI", b"\xfftOc", 2),
            struct.pack(">256I", *fanout),
            *(oid for oid, _, _ in entries),
            struct.pack(f">{len(entries)}I", *(crc for _, crc, _ in entries)),
            struct.pack(f">{len(entries)}I", *offsets),
            struct.pack(f">{len(large)}Q", *large),
            pack_digest,
        )
    )
    return body + hashlib.sha1(body, usedforsecurity=False).digest()
