from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_mail_archive.deltas import delta

Files = dict[str, bytes]
NAMES = st.text("abcdefghij-", min_size=1, max_size=30)
FILES = st.dictionaries(NAMES, st.binary(min_size=20, max_size=20), max_size=60)


def as_tree(files: Files) -> bytes:
    return b"".join(b"100644 %s\0%s" % (name.encode(), oid) for name, oid in sorted(files.items()))


def applied(base: bytes, instructions: bytes) -> bytes:
    """What git makes of a delta (gitformat-pack, "Deltified representation")."""
    place, sizes = 0, []
    for _ in range(2):
        size, shift = 0, 0
        while True:
            byte = instructions[place]
            size |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                break
        sizes.append(size)
    assert sizes[0] == len(base)
    made = b""
    while place < len(instructions):
        code = instructions[place]
        place += 1
        if code < 0x80:
            assert code > 0
            made += instructions[place : place + code]
            place += code
            continue
        numbers = []
        for bit in range(7):
            numbers.append(instructions[place] if code >> bit & 1 else 0)
            place += code >> bit & 1
        begin, length = int.from_bytes(numbers[:4], "little"), int.from_bytes(numbers[4:], "little") or 0x10000
        assert begin + length <= len(base)
        made += base[begin : begin + length]
    assert len(made) == sizes[1]
    return made


@given(FILES, FILES, st.sets(NAMES, max_size=5))
def test_a_delta_makes_the_earlier_version_of_the_later_one(before: Files, more: Files, gone: set[str]) -> None:
    after = {name: oid for name, oid in {**before, **more}.items() if name not in gone}
    base, target = as_tree(after), as_tree(before)
    assert applied(base, delta(base, target)) == target


def test_a_folder_that_grew_takes_a_few_bytes() -> None:
    before = {f"2026-11-22T12-00-{number:05d}": bytes((number % 256,)) * 20 for number in range(5000)}
    base, target = as_tree({**before, "2026-11-22T13": b"x" * 20}), as_tree(before)
    assert len(target) > 0x10000
    assert len(delta(base, target)) < 16
    assert applied(base, delta(base, target)) == target


def test_sizes_that_are_hard_to_write() -> None:
    for size in (0xFFFF, 0x10000, 0x10001, 0xFFFFFF, 0x1000000):
        target = b"\0" * size
        base = target + as_tree({"more": b"x" * 20})
        assert applied(base, delta(base, target)) == target
