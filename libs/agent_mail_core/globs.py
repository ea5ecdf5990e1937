"""What a path pattern in normal form matches, and which patterns overlap: exact, and bounded in time (SPEC §3.6).

`paths.normal_path` makes the normal form, `glob_syntax` says how git reads it, `wildcards` compares.
Two patterns overlap when some path matches both; a path is one or more names between slashes, of any bytes but zero and
slash, as in git: bytes that are no UTF-8 count too.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from agent_mail_core.glob_syntax import alternatives
from agent_mail_core.paths import SPECIAL, WHOLE_PROJECT
from agent_mail_core.wildcards import Name, Parts, paths_meet

_CACHED_PATTERNS = 4096  # of at most 50 KB each


@dataclass(frozen=True, slots=True)
class Pattern:
    """Made by `compile_pattern`; equal when the text is, and is meant the same way."""

    text: str
    is_literal: bool
    alternatives: tuple[Parts[Name], ...] = field(compare=False, repr=False)
    beginnings: frozenset[bytes] = field(compare=False, repr=False)
    """The literal names that each alternative begins with, a slash behind each name."""


@lru_cache(maxsize=_CACHED_PATTERNS)
def compile_pattern(text: str, is_literal: bool = False) -> Pattern:
    """The pattern that a text in normal form stands for; InvalidPath as in `glob_syntax.alternatives`.

    Without a wildcard, and always when it is literal, it matches the path of that name and all below it.
    """
    is_literal = is_literal or SPECIAL.search(text) is None
    if text == WHOLE_PROJECT:
        found: tuple[Parts[Name], ...] = (((), ()),)
    elif is_literal:
        found = ((tuple(text.encode().split(b"/")), ()),)
    else:
        found = alternatives(text)
    return Pattern(text, is_literal, found, frozenset(_beginning(parts[0]) for parts in found))


def matches(pattern: Pattern, path: str) -> bool:
    """Whether the pattern matches a path, which is a literal one in normal form, and this path alone."""
    return _meet(pattern.alternatives, ((_names(path),),))


def overlaps(a: Pattern, b: Pattern) -> bool:
    """Whether some path matches both."""
    return _meet(a.alternatives, b.alternatives)


class PatternIndex:
    """Patterns by the names they begin with, so that of many only the few in question are compared."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self.patterns: Sequence[Pattern] = tuple(patterns)
        self._places: dict[bytes, list[int]] = {}
        for place, pattern in enumerate(self.patterns):
            for beginning in pattern.beginnings:
                self._places.setdefault(beginning, []).append(place)
        self._sorted = sorted(self._places)

    def overlapping(self, pattern: Pattern) -> list[int]:
        """Places of the patterns that overlap with this one, in order."""
        return [place for place in self.candidates(pattern) if overlaps(self.patterns[place], pattern)]

    def candidates(self, pattern: Pattern) -> list[int]:
        """Places of the patterns that may overlap with this one, for a caller that spreads the comparisons."""
        found: set[int] = set()
        for beginning in pattern.beginnings:
            found.update(self._at_or_above(beginning), self._below(beginning))
        return sorted(found)

    def matching(self, path: str) -> list[int]:
        """Places of the patterns that match this path, in order."""
        names = _names(path)
        wanted = ((names,),)
        found = set(self._at_or_above(_beginning(names)))
        return sorted(place for place in found if _meet(self.patterns[place].alternatives, wanted))

    def _at_or_above(self, beginning: bytes) -> Iterator[int]:
        end = 0
        while end >= 0:
            yield from self._places.get(beginning[:end], ())
            end = beginning.find(b"/", end) + 1 or -1

    def _below(self, beginning: bytes) -> Iterator[int]:
        for key in self._sorted[bisect_left(self._sorted, beginning) :]:
            if not key.startswith(beginning):
                break
            yield from self._places[key]


def _names(path: str) -> tuple[bytes, ...]:
    return () if path == WHOLE_PROJECT else tuple(path.encode().split(b"/"))


def _meet(some: Iterable[Parts[Name]], others: Iterable[Parts[Name]]) -> bool:
    for one in some:
        for other in others:
            if paths_meet(one, other):
                return True
    return False


def _beginning(names: Iterable[Name]) -> bytes:
    """The literal names that come first, a slash behind each."""
    beginning = b""
    for name in names:
        if not isinstance(name, bytes):
            break
        beginning += name + b"/"
    return beginning
