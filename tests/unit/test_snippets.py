"""Snippets: one line of any body, in no time, with what matches marked."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.search_query import QueryTooComplex, matches, parse
from agent_mail_core.snippets import snippet
from tests.unit.queries import any_query, mail, small_query, small_text


@pytest.mark.parametrize(
    "query, body, expected",
    [
        ("auth", "The src/auth.py file", "The src/**auth**.py file"),
        ("src/auth.py", "The src/auth.py file", "The **src/auth.py** file"),
        ("src/auth.py auth", "The src/auth.py file", "The **src/auth.py** file"),
        ("logi*", "login,\n\n  logins", "**login**, **logins**"),
        ('"two words"', "two\nwords", "**two words**"),
        ("two -words", "two words", "**two** words"),
        ("subject:two words", "two words", "two **words**"),
        ("bold", "is **bold** here", "is ****bold**** here"),
        ("京都 東", "東京都", "**東京都**"),
        ("café", "un Cafe\u0301!", "un **Cafe\u0301**!"),
        ("nothing", "  the start \n of it  ", "the start of it"),
        ("a", "a a", "**a** **a**"),
        ("from:Bob", "a", "a"),
    ],
)
def test_snippet_marks_matches(query: str, body: str, expected: str) -> None:
    assert snippet("subject", body, parse(query)) == expected


def test_snippet_of_an_empty_body_is_the_subject() -> None:
    assert snippet("A subject", " \n", parse("subject:subject")) == "A **subject**"
    assert snippet("", "", parse("a")) == ""


def test_snippet_shows_the_place_of_most_leaves() -> None:
    body = "one " + "filler " * 50 + "two, one, three " + "filler " * 50 + "three"
    shown = snippet("", body, parse("one two three"), width=60)
    assert "**two**, **one**, **three**" in shown
    assert shown.startswith("…filler ")
    assert shown.endswith(" filler…")
    assert len(shown) <= 60 + 2 + 3 * 4


def test_snippet_falls_back_to_the_start() -> None:
    assert snippet("", "word " * 100, parse("other"), width=12) == "word word…"
    assert snippet("", "x" * 100, parse("other"), width=12) == "x" * 12 + "…"
    assert snippet("", "x" * 100, parse("x*"), width=12) == "**" + "x" * 12 + "**…"


@given(any_query, st.text(max_size=300), st.integers(1, 80))
def test_snippet_is_one_line_of_the_text(query_text: str, body: str, width: int) -> None:
    try:
        query = parse(query_text)
    except QueryTooComplex:
        return
    shown = snippet("", body, query, width)
    assert len(shown.splitlines()) <= 1
    if "*" not in body and "…" not in body:
        assert len(shown.replace("**", "")) <= width + 2
        assert "".join(shown.replace("**", "").strip("…").split()) in "".join(body.split())


@given(small_text, small_query)
def test_snippet_marks_something_of_each_matching_body(body: str, text: str) -> None:
    query = parse(text)
    is_one_plain_leaf = len(query.clauses) == 1 and not any(leaf.is_negated for leaf in query.clauses[0].leaves)
    if is_one_plain_leaf and matches(query, mail("", body)):
        assert "**" in snippet("", body, query)


@pytest.mark.parametrize(
    "unit", ["a ", "a", "abcdefgh ", "東", "東a", "e\u0301 ", "ﷺ", "㌀", "ㅏ", " ", "é—", "\u0301", "❤\ufe0f "]
)
@pytest.mark.parametrize("query", ["a b c d e f g h", "a* ab* abc* abcd*", '"' + "a " * 240, "東", "zz"])
def test_snippet_of_any_body_is_quick(unit: str, query: str) -> None:
    body = unit * (256 * 1024 // len(unit.encode())) + " end"
    started = time.perf_counter()
    snippet("subject", body, parse(query))
    # Measured below 20 ms; what is quadratic takes minutes.
    assert time.perf_counter() - started < 2
