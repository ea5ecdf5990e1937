"""The second opinion on overlap: path patterns as automata over characters, and the product of two of them.

It shares no code and no idea with `agent_mail_core.wildcards`: no names, no parts, one character at a time.
A pattern is given as what it means, not as text: a list of names, each `**` or a list of sets of characters and stars.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ALPHABET = frozenset("ab[!].z/")
NO_SLASH = ALPHABET - {"/"}

Meaning: TypeAlias = list[list[frozenset[str] | Literal["*"]] | Literal["**"]]


@dataclass
class Automaton:
    """State 0 is the start; an edge with no characters is free."""

    edges: dict[int, list[tuple[frozenset[str] | None, int]]] = field(default_factory=lambda: defaultdict(list))
    last: int = 0

    def add(self, characters: frozenset[str] | None, loop: frozenset[str] | None = None) -> int:
        """A new last state behind the last one, with a loop on itself if given."""
        self.last += 1
        self.edges[self.last - 1].append((characters, self.last))
        if loop is not None:
            self.edges[self.last].append((loop, self.last))
        return self.last

    def closure(self, states: set[int]) -> frozenset[int]:
        reached, waiting = set(states), list(states)
        while waiting:
            for characters, target in self.edges[waiting.pop()]:
                if characters is None and target not in reached:
                    reached.add(target)
                    waiting.append(target)
        return frozenset(reached)

    def after(self, states: frozenset[int], character: str) -> frozenset[int]:
        return self.closure(
            {
                target
                for state in states
                for characters, target in self.edges[state]
                if characters and character in characters
            }
        )


def automaton(meaning: Meaning, covers_tree: bool) -> Automaton:
    made = Automaton()
    for place, name in enumerate(meaning):
        is_last = place == len(meaning) - 1
        if name == "**":
            if is_last:
                made.add(NO_SLASH, loop=ALPHABET)
            else:
                before = made.add(None)
                inside = made.add(NO_SLASH, loop=NO_SLASH)
                made.edges[inside].append((frozenset("/"), before))
                made.last += 1
                made.edges[before].append((None, made.last))
            continue
        for item in name:
            if item == "*":
                made.add(None, loop=NO_SLASH)
                made.add(None)
            else:
                made.add(item)
        if not is_last:
            made.add(frozenset("/"))
    if covers_tree:
        end = made.last
        made.add(frozenset("/"), loop=ALPHABET)
        made.last += 1
        made.edges[made.last - 1].append((None, made.last))
        made.edges[end].append((None, made.last))
    return made


def common_path(a: Automaton, b: Automaton) -> str | None:
    """A shortest path that both accept, whose names are neither empty nor `.` nor `..`."""
    start = (a.closure({0}), b.closure({0}), "")
    queue = deque([(start, "")])
    seen = {start}
    while queue:
        (of_a, of_b, name), path = queue.popleft()
        if a.last in of_a and b.last in of_b and name not in {"", ".", ".."}:
            return path
        for character in sorted(ALPHABET):
            if character == "/" and name in {"", ".", ".."}:
                continue
            # Of a name only this counts: the dots that it consists of, or that it is a proper one.
            grown = "" if character == "/" else name + character
            grown = grown if grown in {"", ".", ".."} else "proper"
            following = (a.after(of_a, character), b.after(of_b, character), grown)
            if following[0] and following[1] and following not in seen:
                seen.add(following)
                queue.append((following, path + character))
    return None
