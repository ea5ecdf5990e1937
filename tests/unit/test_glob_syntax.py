"""Patterns match what git's `:(glob)` pathspecs match: the oracle is git itself.

The files are entries of an index only. Those of one, two and three names are three stages of a conflict, because an
index holds no file `a` beside a file `a/b` within one stage.
"""

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_mail_core.errors import InvalidPath
from agent_mail_core.globs import Pattern, compile_pattern, matches
from agent_mail_core.paths import normal_path

EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
# No `*`, `?` or backslash in a name: the one place where patterns mean something else than in git.
NAMES = ["a", "b", "ab", "ba", "aab", ".a", "...", "a.b", "[ab]", "]", "-", "!a", "é", "B", "a\n", "a\tb"]
HELD_NAMES = [name for name in NAMES if not {"\n", "\t"} & set(name)]
"""Those that a reservation may name: paths of ours hold no control characters."""

PATHS = ["/".join(names) for depth in (1, 2, 3) for names in itertools.product(NAMES, repeat=depth)]
ASCII_PATHS = [f"-{chr(code)}" for code in range(1, 128) if chr(code) != "/"]
PIECES = "a b . - ] [ ! ^ * ? ** *** / ** **/ /** /**/ \\* \\[ [ab] [!a] [^b] [a-b] [!a-] []] [[:alpha:]] é".split()


class Git:
    """A repository whose index holds these paths, the shorter first."""

    def __init__(self, directory: Path, held: list[str]) -> None:
        self._directory = directory
        self._run("init", "--quiet")
        for stage, paths in itertools.groupby(held, lambda path: path.count("/") + 1):
            entries = "".join(f"100644 {EMPTY_BLOB} {stage}\t{path}\0" for path in paths)
            self._run("update-index", "-z", "--index-info", given=entries)

    def matching(self, *pathspecs: str) -> set[str]:
        return set(self._run("ls-files", "-z", "--", *pathspecs).split("\0")) - {""}

    def matching_literally(self, path: str) -> set[str]:
        return set(self._run("--literal-pathspecs", "ls-files", "-z", "--", path).split("\0")) - {""}

    def _run(self, *arguments: str, given: str = "") -> str:
        command = ["git", "-C", str(self._directory), *arguments]
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(command, input=given.encode(), env=environment, check=True, capture_output=True)
        return done.stdout.decode()


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    return Git(tmp_path_factory.mktemp("git"), PATHS)


@pytest.fixture(scope="module")
def ascii_git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    return Git(tmp_path_factory.mktemp("ascii_git"), ASCII_PATHS)


def matching(pattern: Pattern) -> set[str]:
    return {path for path in PATHS if matches(pattern, path)}


def test_the_oracle_knows_all_paths(git: Git) -> None:
    assert git.matching() == set(PATHS)


@given(text=st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join))
@example("a**/b")
@example("a**/**/b")
@example("b/.")
@example("b/a**/**")
@example("a**\n")
@example("**/a**/b")
@example("[ab]**/b")
@example("[!]a]*")
@example("[]-a]")
@example("[a-]")
@example("[[:space:][:upper:]]")
@example("a[[:space:]]b")
@example("[[:nonsense:]]")
@example("[[:]a]")
@example("[[:a]*")
@example("[b-a]")
@example("[")
@example("[ab]/[ab]")
@example("??")
@example("[é][é]")
@settings(max_examples=400, deadline=None)
def test_a_pattern_matches_what_git_matches(git: Git, text: str) -> None:
    try:
        pattern = compile_pattern(normal_path(text, "key"))
    except InvalidPath as error:
        assert "No path can match" not in error.message or git.matching(f":(glob){text}") == set()
        return
    covers_tree = text.endswith(("/", "/.")) or not set("*?[") & set(text.replace("\\*", "").replace("\\[", ""))
    specs = [re.sub(r"(/\.?)+\Z", "", text), f"{text}/**"] if covers_tree else [text]
    assert matching(pattern) == git.matching(*(f":(glob){spec}" for spec in specs))


CLASSES = "alnum alpha blank cntrl digit graph lower print punct space upper xdigit".split()


@pytest.mark.parametrize("negation", ["", "!", "^"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_named_class_holds_what_git_says(ascii_git: Git, name: str, negation: str) -> None:
    text = f"-[{negation}[:{name}:]]"
    pattern = compile_pattern(normal_path(text, "key"))
    assert {path for path in ASCII_PATHS if matches(pattern, path)} == ascii_git.matching(f":(glob){text}")


@pytest.mark.parametrize(
    "text", ["-\\*", "-\\?", "-\\[", "-\\\\", "-\\!", "-[\\*\\]]", "-[\\!-\\-]", "-[\\]-^]", "-[[-]]", "-[--0]"]
)
def test_an_escape_is_read_as_git_reads_it(ascii_git: Git, text: str) -> None:
    pattern = compile_pattern(normal_path(text, "key"))
    assert {path for path in ASCII_PATHS if matches(pattern, path)} == ascii_git.matching(f":(glob){text}")


@given(path=st.lists(st.sampled_from(HELD_NAMES), min_size=1, max_size=3).map("/".join))
def test_a_literal_path_matches_what_git_matches_literally(git: Git, path: str) -> None:
    assert matching(
        compile_pattern(normal_path(path, "key", is_literal=True), is_literal=True)
    ) == git.matching_literally(path)


def test_a_slash_at_the_end_adds_the_tree_below() -> None:
    pattern = compile_pattern("src/*/")
    assert matches(pattern, "src/a")
    assert matches(pattern, "src/a/b/c")
    assert not matches(pattern, "src")


def test_a_pattern_with_a_star_is_no_name() -> None:
    pattern = compile_pattern("src/*")
    assert matches(pattern, "src/*")
    assert not matches(pattern, "src/*/x")


def test_a_name_written_with_escapes_covers_the_tree_below() -> None:
    pattern = compile_pattern("app/\\[id]")
    assert matches(pattern, "app/[id]/page.tsx")
    assert not matches(pattern, "app/\\[id]")
    assert not matches(pattern, "app/i")
