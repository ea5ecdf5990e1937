"""Sequences with stars, and whether two of them have a sequence in common.

A pattern of a name is bytes and sets of bytes between stars that stand for any bytes; a pattern of a path is names and
patterns of names between stars that stand for any names. Both are `Parts`, and `meet` decides for both.
Invariant: every item matches something, which lets two patterns with stars be compared by their ends alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

Item = TypeVar("Item")
Parts: TypeAlias = tuple[tuple[Item, ...], ...]  # there is a star between each part and the next; one part: no star


@dataclass(frozen=True, slots=True)
class Choice:
    """Any of some bytes, at least one: bit n of the mask is byte n. A set of them would be a hundred times the size."""

    mask: int


Byte: TypeAlias = int | Choice


@dataclass(frozen=True, slots=True, eq=False)
class Wild:
    """A pattern of one name of a path; matches some name. `.`, `..` and the empty name are none."""

    parts: Parts[Byte]
    prefix: bytes
    suffix: bytes
    is_simple: bool  # nothing between prefix and suffix but a star

    def matches(self, name: bytes) -> bool:
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return False
        if self.is_simple:
            return len(name) >= len(self.prefix) + len(self.suffix)
        return meet(self.parts, (tuple(name),), _bytes_agree)


Name: TypeAlias = bytes | Wild


def wild_name(parts: Parts[Byte]) -> Wild | None:
    """The pattern of these parts; None when no name matches it, as with `[.]`."""
    prefix, suffix = _literal(parts[0]), _literal(parts[-1][::-1])[::-1]
    is_simple = len(parts) == 2 and (len(prefix), len(suffix)) == (len(parts[0]), len(parts[1]))
    name = Wild(parts, prefix, suffix, is_simple)
    return name if _share_a_name(name, ANY_NAME) else None


def paths_meet(a: Parts[Name], b: Parts[Name]) -> bool:
    """Whether some path matches both."""
    return meet(a, b, _names_agree)


def meet(a: Parts[Item], b: Parts[Item], agree: Callable[[Item, Item], bool]) -> bool:
    """Whether some sequence matches both; `agree` tells whether two items match one thing in common, in any order.

    - Both have stars: the ends decide. Take the longer beginning, the middle of one, the middle of the other, the
      longer end: the stars of each take in the middle of the other.
    - One has stars: its parts are looked for from left to right, the first place each, in the items of the other.
    """
    if len(a) > 1 and len(b) > 1:
        if not all(map(agree, a[0], b[0])):
            return False
        return not (a[-1] and b[-1]) or all(map(agree, reversed(a[-1]), reversed(b[-1])))
    if len(a) > 1:
        a, b = b, a
    items = a[0]
    if len(b) == 1:
        return len(items) == len(b[0]) and all(map(agree, items, b[0]))
    if len(items) < sum(map(len, b)):
        return False
    at, end = len(b[0]), len(items) - len(b[-1])
    if not (all(map(agree, items, b[0])) and all(map(agree, items[end:], b[-1]))):
        return False
    for part in b[1:-1]:
        found = _end_of_first(part, items[at:end], agree)
        if found is None:
            return False
        at += found
    return True


def _end_of_first(part: Sequence[Item], items: Sequence[Item], agree: Callable[[Item, Item], bool]) -> int | None:
    """Where the first run of items that agrees with the part ends.

    One bit per place of the part (the shift-and of Baeza-Yates and Gonnet): linear in the items, whatever they repeat.
    """
    places: dict[Item, int] = {}
    for place, wanted in enumerate(part):
        places[wanted] = places.get(wanted, 0) | 1 << place
    choices = [(wanted, bits) for wanted, bits in places.items() if _is_choice(wanted)]
    fitting: dict[Item, int] = {}
    last = 1 << len(part) - 1
    reached = 0
    for at, item in enumerate(items, start=1):
        bits = fitting.get(item)
        if bits is None:
            # Only a choice can agree with what it does not equal, and a pattern has few of them.
            tried = places.items() if _is_choice(item) else choices
            bits = places.get(item, 0)
            for wanted, its_bits in tried:
                if agree(item, wanted):
                    bits |= its_bits
            fitting[item] = bits
        reached = (reached << 1 | 1) & bits
        if reached & last:
            return at
    return None


def _is_choice(item: object) -> bool:
    return isinstance(item, Choice | Wild)


def _bytes_agree(a: Byte, b: Byte) -> bool:
    if isinstance(a, int):
        return a == b if isinstance(b, int) else b.mask >> a & 1 == 1
    return a.mask >> b & 1 == 1 if isinstance(b, int) else a.mask & b.mask != 0


def _names_agree(a: Name, b: Name) -> bool:
    if isinstance(a, bytes):
        return a == b if isinstance(b, bytes) else b.matches(a)
    return a.matches(b) if isinstance(b, bytes) else _share_a_name(a, b)


def _share_a_name(a: Wild, b: Wild) -> bool:
    """Whether some name matches both, which `.` and `..` are not."""
    if not meet(a.parts, b.parts, _bytes_agree):
        return False
    if not any(a.matches(dots) and b.matches(dots) for dots in (b".", b"..")):
        return True
    if len(a.parts) > 1 and len(b.parts) > 1:
        return True  # both match `...` too
    fixed, other = (a, b) if len(a.parts) == 1 else (b, a)
    return any(meet((rest,), other.parts, _bytes_agree) for rest in _with_one_that_is_no_dot(fixed.parts[0]))


def _with_one_that_is_no_dot(items: tuple[Byte, ...]) -> Iterator[tuple[Byte, ...]]:
    for place, item in enumerate(items):
        if isinstance(item, Choice) and (mask := item.mask & ~(1 << ord("."))):
            yield (*items[:place], Choice(mask), *items[place + 1 :])


def _literal(items: Iterable[Byte]) -> bytes:
    """The bytes before the first choice."""
    literal = bytearray()
    for item in items:
        if not isinstance(item, int):
            break
        literal.append(item)
    return bytes(literal)


ANY_NAME = Wild(((), ()), b"", b"", is_simple=True)
