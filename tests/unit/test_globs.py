"""Overlap is exact, symmetric and bounded in time; the index finds what a comparison of all would find."""

from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_mail_core.errors import InvalidPath
from agent_mail_core.globs import Pattern, PatternIndex, compile_pattern, matches, overlaps
from agent_mail_core.paths import normal_path
from tests.unit.path_automata import NO_SLASH, Automaton, Meaning, automaton, common_path

ITEMS: dict[str, frozenset[str] | Literal["*"]] = {
    "*": "*",
    "?": NO_SLASH,
    "[ab]": frozenset("ab"),
    "[!a]": NO_SLASH - {"a"},
    "[.z]": frozenset(".z"),
}
ITEMS |= {character: frozenset(character) for character in "ab.z"}

Form = list[list[str]]  # names of items, before there is a text to read
names = st.lists(st.sampled_from(sorted(ITEMS)), min_size=1, max_size=4).filter(
    lambda name: set(name) != {"."} and "**" not in "".join(name)
)
forms = st.lists(st.one_of(names, st.just(["**"])), min_size=1, max_size=4)


def pattern(text: str, is_literal: bool = False) -> Pattern:
    return compile_pattern(normal_path(text, "/project", is_literal=is_literal), is_literal)


def text_of(form: Form) -> str:
    return "/".join("".join(name) for name in form)


def automata(form: Form) -> list[Automaton]:
    """What the pattern means: as a pattern, and as a name where it can be one."""
    text = text_of(form)
    meaning: Meaning = ["**" if name == ["**"] else [ITEMS[item] for item in name] for name in form]
    found = [automaton(meaning, covers_tree=not set("*?[") & set(text))]
    if not set("*?") & set(text):
        found.append(automaton([[frozenset(character) for character in name] for name in text.split("/")], True))
    return found


@given(a=forms, b=forms)
@example([["*"]], [["*"]])
@example([["?"]], [["[.z]"]])
@example([["?", "?"]], [[".", "*"]])
@example([["[.z]"]], [["[!a]"]])
@example([["[.z]"]], [["[ab]"]])
@settings(max_examples=1000, deadline=None)
def test_two_patterns_overlap_when_the_product_of_their_automata_accepts_a_path(a: Form, b: Form) -> None:
    one, other = pattern(text_of(a)), pattern(text_of(b))
    found = [path for x in automata(a) for y in automata(b) if (path := common_path(x, y)) is not None]
    assert overlaps(one, other) == bool(found)
    assert overlaps(other, one) == bool(found)
    assert all(matches(one, path) and matches(other, path) for path in found)


@pytest.mark.parametrize(
    "a, b",
    [
        ("src/*.py", "src/a*"),
        ("src", "src/deep/in/the/tree.py"),
        ("src/", "src"),
        (".", "anything/at/all"),
        ("**/test_*.py", "tests/**"),
        ("src/*/", "src/a/b/c.py"),
        ("app/[id]", "app/[id]/page.tsx"),
        ("lib**/x", "libx"),
        ("lib**/x", "library/a/x"),
        ("lib**", "lib/a/b"),
        ("a/**/b", "a/b"),
        ("*", ".env"),
        ("**/*a*b*", "x/*b*a*/**"),
        ("a?c", "*b*"),
        ("x/[ab]/y/z", "**/a/**/z"),
        ("?", "[.z]"),
        ("..?", "[.][.]*"),
        ("caf??", "café"),
    ],
)
def test_these_overlap(a: str, b: str) -> None:
    assert overlaps(pattern(a), pattern(b))
    assert overlaps(pattern(b), pattern(a))


@pytest.mark.parametrize(
    "a, b",
    [
        ("src/*.py", "src/*.rs"),
        ("src/*.py", "src/deep/a.py"),
        ("src/*", "src/*/x"),
        ("src", "src2"),
        ("src/a.py", "src/a.pyc"),
        ("a/**", "a*"),
        ("a/**/b", "a/**/c"),
        ("*", "a/*"),
        ("*ab", "*ba"),
        ("?", "??"),
        ("[a-m]*", "[!a-m]*"),
        ("?", "[.a]?"),
        (".?", "?."),
        ("Src", "src"),
        ("caf?", "café"),
        ("app/[id]", "app/x"),
        ("lib**/x", "lib/*y"),
    ],
)
def test_these_do_not_overlap(a: str, b: str) -> None:
    assert not overlaps(pattern(a), pattern(b))
    assert not overlaps(pattern(b), pattern(a))


@given(form=forms)
def test_a_pattern_overlaps_with_itself_and_with_the_whole_project(form: Form) -> None:
    one = pattern(text_of(form))
    assert overlaps(one, one)
    assert overlaps(one, pattern("."))
    assert overlaps(one, pattern("**"))


def test_a_literal_path_is_no_pattern_and_covers_the_tree_below() -> None:
    route = pattern("app/[id]/*", is_literal=True)
    assert matches(route, "app/[id]/*")
    assert matches(route, "app/[id]/*/page.tsx")
    assert not matches(route, "app/i/x")
    assert not matches(route, "app/[id]")
    assert not overlaps(route, pattern("app/i"))


def test_the_whole_project_is_matched_only_by_itself() -> None:
    assert matches(pattern("."), ".")
    assert not matches(pattern("**"), ".")


def test_patterns_are_equal_when_they_are_written_and_meant_alike() -> None:
    assert pattern("src/") == pattern("src") == pattern("src", is_literal=True)
    assert pattern("[id]") != pattern("[id]", is_literal=True)


@pytest.mark.parametrize("text", ["[*", "*/[.]", "?/[.][.]/a", "[[:nonsense:]]?", "a[b/c]d"])
def test_a_pattern_that_no_path_can_match_is_refused(text: str) -> None:
    with pytest.raises(InvalidPath):
        pattern(text)


def test_sixteen_wildcards_are_allowed() -> None:
    assert matches(pattern("?" * 8 + "/**" + "/*a[b]" * 2 + "/c***d/*"), "/".join(["x" * 8, "ab", "ab", "cd", "e"]))
    with pytest.raises(InvalidPath, match="16 wildcards"):
        pattern("?" * 17)
    assert matches(pattern("?" * 17, is_literal=True), "?" * 17)


@given(
    forms=st.lists(forms, max_size=12),
    wanted=forms,
    path=st.lists(st.sampled_from("a b ab .z [ab]".split()), min_size=1),
)
def test_the_index_finds_what_comparing_all_finds(forms: list[Form], wanted: Form, path: list[str]) -> None:
    index = PatternIndex(pattern(text_of(form)) for form in forms)
    one = pattern(text_of(wanted))
    assert index.overlapping(one) == [place for place, other in enumerate(index.patterns) if overlaps(one, other)]
    file = "/".join(path)
    assert index.matching(file) == [place for place, other in enumerate(index.patterns) if matches(other, file)]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "a, b",
    [
        ("*" + "a*" * 15 + "b", "a" * 1000),
        ("*a" * 7 + "*" + "a" * 900 + "?b*", "?" * 16 + "a" * 1000),
        ("**/" * 7 + "a/*b", "a/" * 500 + "?"),
        ("**/" + "/*a*" * 7, "/".join("?" + "a" * 60 for _ in range(16))),
        ("**/*a/" * 8 + "x", "**/*a?/" * 5 + "a"),
    ],
)
def test_hostile_patterns_are_decided(a: str, b: str) -> None:
    one, other = pattern(a), pattern(b)
    answers = {overlaps(one, other) for _ in range(20)}
    assert answers == {overlaps(other, one)}
