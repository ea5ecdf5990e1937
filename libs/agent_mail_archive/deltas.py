"""Deltas of folders: what an earlier version of a folder is, told by a later one, in git's format.

Folders of an archive grow: nearly all of the earlier version is in the later one, in the same order.
"""

from __future__ import annotations

_LONGEST_COPY = 0xFFFFFF
_LONGEST_INSERT = 127
_ID_BYTES = 20


def delta(base: bytes, target: bytes) -> bytes:
    """The instructions that make `target` of `base`, both of them trees as git stores them."""
    begin = _common(base, target)
    end = _common_end(base, target, min(len(base), len(target)) - begin)
    middle = target[begin : len(target) - end]
    instructions = _copy(0, begin)
    if len(middle) <= _LONGEST_INSERT:
        instructions += _insert(middle)
    else:
        instructions += _by_entries(base, target, begin, len(target) - end)
    instructions += _copy(len(base) - end, end)
    return _size(len(base)) + _size(len(target)) + instructions


def entries(tree: bytes, begin: int = 0) -> list[tuple[int, int]]:
    """Where each entry of a tree begins and ends."""
    found = []
    while begin < len(tree):
        end = tree.index(b"\0", begin) + 1 + _ID_BYTES
        found.append((begin, end))
        begin = end
    return found


def _by_entries(base: bytes, target: bytes, begin: int, end: int) -> bytes:
    """The middle of `target`, by whole entries that `base` has too, wherever they are there."""
    places = {base[first:last]: first for first, last in entries(base)}
    instructions = b""
    inserted = b""
    copied = (0, 0)  # place and length in the base
    for first, last in entries(target):
        if last <= begin or first >= end:
            continue
        first, last = max(first, begin), min(last, end)
        piece = target[first:last]
        place = places.get(piece)
        if place is not None and copied[1] and copied[0] + copied[1] == place:
            copied = (copied[0], copied[1] + len(piece))
        else:
            instructions += _copy(*copied)
            copied = (0, 0)
            if place is not None:
                instructions += _insert(inserted)
                inserted, copied = b"", (place, len(piece))
            else:
                inserted += piece
    return instructions + _copy(*copied) + _insert(inserted)


def _common(one: bytes, two: bytes) -> int:
    """How many bytes both begin with."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_end(one: bytes, two: bytes, most: int) -> int:
    """How many of the last `most` bytes both end with."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == two[len(two) - middle : len(two) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def _size(size: int) -> bytes:
    data = bytearray()
    while size > 0x7F:
        data.append(size & 0x7F | 0x80)
        size >>= 7
    data.append(size)
    return bytes(data)


def _copy(place: int, length: int) -> bytes:
    data = b""
    while length:
        part = min(length, _LONGEST_COPY)
        flags, numbers = 0x80, b""
        for bit, value in enumerate((*place.to_bytes(4, "little"), *part.to_bytes(3, "little"))):
            if value:
                flags |= 1 << bit
                numbers += bytes((value,))
        data += bytes((flags,)) + numbers
        place, length = place + part, length - part
    return data


def _insert(content: bytes) -> bytes:
    parts = [content[begin : begin + _LONGEST_INSERT] for begin in range(0, len(content), _LONGEST_INSERT)]
    return b"".join(bytes((len(part),)) + part for part in parts)
