"""The search language, its reference, and FTS5 held against the reference."""

import string
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_mail_core.search_query import (
    MAX_LEAVES,
    After,
    Before,
    Clause,
    From,
    Leaf,
    Query,
    QueryTooComplex,
    Searchable,
    Thread,
    Words,
    fts5_expression,
    matches,
    parse,
    phrase_needle,
)
from agent_mail_core.search_text import encode, parts, phrase_text, wholes
from agent_mail_core.snippets import snippet
from tests.unit.queries import NOON, QUERY_PIECES, any_query, mail, small_query, small_text

DAY = datetime(2026, 1, 31, tzinfo=UTC)


def leaves(text: str) -> list[list[Leaf]]:
    return [list(clause.leaves) for clause in parse(text).clauses]


def finds(query: str, subject: str = "", body: str = "") -> bool:
    return matches(parse(query), mail(subject, body))


@pytest.mark.parametrize(
    "text, leaf",
    [
        ("Auth", Words(("auth",))),
        ('"Two  words"', Words(("two", "words"))),
        ('"no end of it', Words(("no", "end", "of", "it"))),
        ("auth*", Words(("auth",), is_prefix=True)),
        ('"two wor"*', Words(("two", "wor"), is_prefix=True)),
        ('"two wor*"', Words(("two", "wor"))),
        ("src/auth.py", Words(("src", "auth", "py"), "src/auth.py")),
        ("(src/auth.py),", Words(("src", "auth", "py"), "src/auth.py")),
        ("src/au*", Words(("src", "au"), "src/au", is_prefix=True)),
        ("snake_case", Words(("snake", "case"), "snake_case")),
        ("a--b", Words(("a", "b"))),
        ("foo-*", Words(("foo",))),
        ("**foo**", Words(("foo",))),
        ("*foo", Words(("foo",))),
        ("東京", Words(("東", "京"))),
        ("東*", Words(("東",))),
        ("subject:auth*", Words(("auth",), is_prefix=True, in_subject=True)),
        ('subject:"two words"', Words(("two", "words"), in_subject=True)),
        ("-subject:x", Words(("x",), in_subject=True, is_negated=True)),
        ("-foo", Words(("foo",), is_negated=True)),
        ('-"a phrase"', Words(("a", "phrase"), is_negated=True)),
        ("--no-verify", Words(("no", "verify"), "no-verify")),
        ("from:Bob", From("Bob")),
        ("FROM:Bob@slug", From("Bob@slug")),
        ("-from:Bob", From("Bob", is_negated=True)),
        ('from:"Bob"', From("Bob")),
        ("from:", Words(("from",))),
        ('from:""', Words(("from",))),
        ("subject:***", Words(("subject",))),
        ("thread:FEAT-123", Thread("FEAT-123")),
        ("before:2026-01-31", Before(DAY)),
        ("after:2026-01-31T12:00:00Z", After(NOON)),
        ("after:2026-01-31t13:00:00.0+01:00", After(NOON)),
        ('after:"2026-01-31 12:00:00z"', After(NOON)),
        ("-before:2026-01-31", Before(DAY, is_negated=True)),
        ("before:soon", Words(("before", "soon"), "before:soon")),
        ("before:so*", Words(("before", "so"), "before:so", is_prefix=True)),
        ("-after:2026-02-30", Words(("after", "2026", "02", "30"), "after:2026-02-30", is_negated=True)),
        ("after:2026-01-31T12:00:00", Words(("after", "2026", "01", "31t12", "00", "00"), "after:2026-01-31t12:00:00")),
        ("before:٢٠٢٦-01-31", Words(("before", "٢٠٢٦", "01", "31"), "before:٢٠٢٦-01-31")),
        ("to:Bob", Words(("to", "bob"), "to:bob")),
        ('"OR"', Words(("or",))),
        ("-OR", Words(("or",), is_negated=True)),
        ("or", Words(("or",))),
        ("😀", Words(("😀",))),
    ],
)
def test_one_term(text: str, leaf: Leaf) -> None:
    (found,) = [leaf for clause in leaves(text) for leaf in clause]
    assert found == leaf


def test_a_date_out_of_range_is_text() -> None:
    (clause,) = parse("after:0001-01-01T00:00:00+10:00").clauses
    assert clause.leaves[0] == parse('"after:0001-01-01T00:00:00+10:00"').clauses[0].leaves[0]


def test_or_binds_tighter_than_and() -> None:
    a, b, c, d = (Words((letter,)) for letter in "abcd")
    assert leaves("a b OR c -d") == [[a], [b, c], [replace(d, is_negated=True)]]
    assert leaves("a OR b OR c d") == [[a, b, c], [d]]
    assert leaves("a OR -d") == [[a, replace(d, is_negated=True)]]
    assert leaves("(a OR b) c") == [[a, b], [c]]
    assert leaves("from:Bob OR subject:a") == [[From("Bob"), replace(a, in_subject=True)]]


@pytest.mark.parametrize("text", ["a OR", "OR a", "OR OR a OR OR", "a OR ***", "*** OR a", "() a -**"])
def test_an_or_without_two_sides_and_a_term_without_letters_are_dropped(text: str) -> None:
    assert leaves(text) == [[Words(("a",))]]


def test_or_reaches_across_what_is_dropped() -> None:
    assert leaves("a OR *** OR b") == leaves("a OR OR b") == leaves("a OR b")


@pytest.mark.parametrize("text", ["", "   ", "***", "()", '"', '""', "-", "--", "OR", "* OR *", "\u0301"])
def test_a_query_of_nothing_says_so(text: str) -> None:
    assert parse(text).is_empty


def test_a_query_has_at_most_32_leaves() -> None:
    assert len(parse("a " * MAX_LEAVES + "*** OR").clauses) == MAX_LEAVES
    with pytest.raises(QueryTooComplex, match="32"):
        parse("a " * MAX_LEAVES + "OR b")


@pytest.mark.parametrize(
    "query, subject, body, expected",
    [
        ("auth", "", "src/auth.py", True),
        ("auth", "Auth", "", True),
        ("aut", "Auth", "", False),
        ("aut*", "Auth", "", True),
        ('"broken auth"', "", "The broken, auth", True),
        ('"broken auth"', "", "auth broken", False),
        ('"broken auth"', "broken", "auth", False),
        ('"broken au"*', "", "broken auth", True),
        ('"bro auth"*', "", "broken auth", False),
        ("auth.py", "", "see src/auth.py:12", True),
        ("src/auth", "", "src auth", True),
        ("src/auth.py", "", "src/other.py auth", False),
        ("subject:auth", "", "auth", False),
        ("subject:auth", "auth", "", True),
        ("auth -login", "", "auth login", False),
        ("auth -login", "", "auth", True),
        ("-login", "", "", True),
        ("login OR -auth", "", "none of it", True),
        ("login OR -auth", "", "auth", False),
        ("a b OR c", "a", "c", True),
        ("a b OR c", "", "b c", False),
        ("京都", "", "東京都", True),
        ("京東", "", "東京都", False),
        ("가*", "", "서버가", True),
        ("CAFÉ", "", "cafe\u0301", True),
        ("👍", "", "ok 👍🏽", True),
    ],
)
def test_words_match(query: str, subject: str, body: str, expected: bool) -> None:
    assert finds(query, subject, body) is expected


def test_fields_match() -> None:
    assert finds("from:bluelake thread:feat-123")
    assert not finds("from:Blue")
    assert finds("-from:Bob")
    assert finds("after:2026-01-31T12:00:00Z -before:2026-01-31T12:00:00Z before:2026-02-01")
    assert not finds("after:2026-01-31T12:00:01Z")
    assert not finds("before:2026-01-31")


def test_times_compare_across_offsets() -> None:
    (clause,) = parse("before:2026-01-31T10:00:00-05:00").clauses
    assert clause.leaves == (Before(datetime(2026, 1, 31, 10, tzinfo=timezone(timedelta(hours=-5)))),)
    assert clause.leaves[0] == Before(NOON + timedelta(hours=3))


@settings(max_examples=300)
@given(any_query)
@example("ﷺ" * 500)
@example('"' + "ﷺ " * 249)
@example("a-" * 250)
@example("-" * 500)
@example('"' * 500)
def test_no_text_breaks_a_query(text: str) -> None:
    try:
        query = parse(text)
    except QueryTooComplex:
        return
    assert query.is_empty or all(clause.leaves for clause in query.clauses)
    assert all(leaf.parts for clause in query.clauses for leaf in clause.leaves if isinstance(leaf, Words))
    matches(query, mail(text[:200], text))
    snippet(text[:200], text, query)


@given(st.one_of(st.text(max_size=60), st.lists(QUERY_PIECES, max_size=12).map("".join)))
@example("src/a_b.py e\u0301\u0301/ﬁ ½ 東京/x Foo™ x\u00ady")
def test_every_word_of_a_text_finds_it(text: str) -> None:
    words = text.replace('"', " ").split()
    for message in (mail("", text.replace('"', " ")), mail(text.replace('"', " "), "")):
        for word in [word for word in words if parts(word)]:
            assert matches(parse(f'"{word}"'), message)
            assert matches(parse(f'"{word}"*'), message)
        for whole in wholes(text):
            assert whole in message.text.wholes
            assert matches(parse(f'"{whole}"'), message)
            assert matches(parse(f'"{whole.split("/", 1)[-1]}"'), message)
        for part in parts(text):
            assert matches(parse(part), message)
            assert matches(parse(f"{part}*"), message)


@given(st.lists(st.text(string.ascii_letters + "é東_./", min_size=1, max_size=8), max_size=6))
def test_a_word_as_typed_finds_its_text(words: list[str]) -> None:
    message = mail("", " ".join(words))
    for word in [word for word in words if parts(word)]:
        assert word == "OR" or matches(parse(word), message)
        assert matches(parse(f"{word}*"), message)


NAMES = st.text(alphabet=string.ascii_letters + "éß東", min_size=1, max_size=4)


@given(st.lists(NAMES, min_size=2, max_size=5), st.sampled_from("_-./:@#"), st.data())
def test_any_part_of_a_path_finds_it(names: list[str], joint: str, data: st.DataObject) -> None:
    path = joint.join(names)
    message = mail("about", f"Look at {path}, it is broken.")
    first = data.draw(st.integers(0, len(names) - 1))
    last = data.draw(st.integers(first + 1, len(names)))
    term = joint.join(names[first:last])
    if term != "OR" and term.split(":")[0].lower() not in ("from", "subject", "thread", "before", "after"):
        assert matches(parse(term), message)
        assert matches(parse(f"{term}*"), message)


@pytest.fixture(scope="module")
def table() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE search USING fts5(subject, body, wholes, content='', tokenize=\"ascii tokenchars '_'\")"
    )
    yield connection
    connection.close()


def words_of(text: str) -> list[Words]:
    """The words of a query, negation left out; none of a query that is too complex."""
    try:
        query = parse(text)
    except QueryTooComplex:
        return []
    found = (leaf for clause in query.clauses for leaf in clause.leaves)
    return [replace(leaf, is_negated=False) for leaf in found if isinstance(leaf, Words)]


def fill(table: apsw.Connection, messages: list[Searchable]) -> None:
    table.execute("INSERT INTO search(search) VALUES ('delete-all')")
    for number, message in enumerate(messages):
        text = message.text
        columns = [" ".join(map(encode, tokens)) for tokens in (text.subject_parts, text.body_parts, text.wholes)]
        table.execute("INSERT INTO search(rowid, subject, body, wholes) VALUES (?, ?, ?, ?)", (number, *columns))


def assert_fts5_finds_what_matches_says(table: apsw.Connection, messages: list[Searchable], leaf: Words) -> None:
    rows = table.execute("SELECT rowid FROM search WHERE search MATCH ?", (fts5_expression(leaf),))
    alone = Query((Clause((leaf,)),))
    expected = {number for number, message in enumerate(messages) if matches(alone, message)}
    assert {row[0] for row in rows} == expected, leaf


def test_fts5_finds_what_matches_says_of_every_small_phrase(table: apsw.Connection) -> None:
    phrases = [words for length in range(4) for words in product(["a", "ab", "b"], repeat=length)]
    messages = [mail(" ".join(subject), " ".join(body)) for subject in phrases[:13] for body in phrases]
    fill(table, messages)
    for words, is_prefix, in_subject in product(phrases[1:], (False, True), (False, True)):
        assert_fts5_finds_what_matches_says(table, messages, Words(words, None, is_prefix, in_subject))


@settings(max_examples=300)
@given(st.lists(st.tuples(small_text, small_text), min_size=1, max_size=6), any_query, small_query, st.data())
def test_fts5_finds_what_matches_says(
    table: apsw.Connection, texts: list[tuple[str, str]], wild: str, tame: str, data: st.DataObject
) -> None:
    messages = [mail(*pair) for pair in texts]
    fill(table, messages)
    source = data.draw(st.sampled_from([text for pair in texts for text in pair]))
    first, last = sorted((data.draw(st.integers(0, len(source))), data.draw(st.integers(0, len(source)))))
    excerpt = source[first:last]
    for text in (
        wild,
        tame,
        f"{tame}*",
        excerpt,
        f"{excerpt}*",
        f'"{excerpt}"',
        f'"{excerpt}"*',
        f'subject:"{excerpt}"*',
    ):
        for leaf in words_of(text):
            assert_fts5_finds_what_matches_says(table, messages, leaf)


@pytest.mark.parametrize(
    "body, query",
    [
        ("ﷺ" * 500, "ﷺ" * 500),
        ("a " * 300, '"' + "a " * 249),
        ("and or not near", '"AND OR NOT NEAR"'),
        ("x" * 300, "x" * 200),
    ],
)
def test_fts5_takes_any_phrase(table: apsw.Connection, body: str, query: str) -> None:
    messages = [mail("", body), mail(body[:200], ""), mail("", "other")]
    fill(table, messages)
    (leaf,) = words_of(query)
    assert_fts5_finds_what_matches_says(table, messages, leaf)
    assert matches(Query((Clause((leaf,)),)), messages[0])


def test_a_whole_lifts_the_rank(table: apsw.Connection) -> None:
    messages = [mail("", "src auth py"), mail("", "src/auth.py"), *(mail("", f"other {n}") for n in range(8))]
    (clause,) = parse("src/auth.py").clauses
    (leaf,) = clause.leaves
    assert isinstance(leaf, Words)
    fill(table, messages)
    rows = table.execute("SELECT rowid FROM search WHERE search MATCH ? ORDER BY rank", (fts5_expression(leaf),))
    assert [row[0] for row in rows] == [1, 0]


def test_fts5_expressions() -> None:
    assert fts5_expression(Words(("a",))) == '{subject body} : "a"'
    assert fts5_expression(Words(("a", "é"), is_prefix=True)) == '{subject body} : "a _0000e9" *'
    assert fts5_expression(Words(("a",), in_subject=True)) == 'subject : "a"'
    assert fts5_expression(Words(("a", "b"), "a/b")) == '({subject body} : "a b" OR wholes : "a_00002fb")'


def test_a_needle_lies_in_the_phrase_text_of_what_matches() -> None:
    assert phrase_needle(Words(("b", "c"))) in phrase_text(["a", "b", "c"])
    assert phrase_needle(Words(("b", "c"))) not in phrase_text(["a", "b", "cd"])
    assert phrase_needle(Words(("b", "c"), is_prefix=True)) in phrase_text(["a", "b", "cd"])
