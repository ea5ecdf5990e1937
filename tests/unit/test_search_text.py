"""Tokens: the same for every spelling of a text, never too many, and never slow."""

import random
import sys
import time
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent_mail_core.search_text import (
    MAX_TOKEN,
    MAX_TOKENS,
    MAX_UNIQUE_BYTES,
    encode,
    index_text,
    parts,
    phrase_text,
    places,
    wholes,
)

TRICKY = (
    "aB9_-./:@#*\" \n'ßẞİıſΐ\u0345ᾳΑé\u0301\u0327\u0338=<क\u093f\u094dน\u0e33ำ東が\u304b\u3099カｶﾞ\uff9eー々〇각가"
    "\u11a8ㄱㅏ\u1161\uffc2😀❤\ufe0f👍🏽\u200d\u200b\u00ad\u3164\U000e0001½①㎏™㈱´ﷺﬁ²０Ａ＿：…—│✓©\ud800\U00010400"
    "\U0001d400\U00020000\U0001e944"
)
tricky_text = st.text(st.one_of(st.sampled_from(TRICKY), st.characters()), max_size=30)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Hello, World-wide 42!", ["hello", "world", "wide", "42"]),
        ("src/agent_mail/auth.py", ["src", "agent", "mail", "auth", "py"]),
        ("again and again", ["again", "and", "again"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ＦＵＬＬ ｗｉｄｔｈ ﬁne ½", ["full", "width", "fine", "1", "2"]),
        ("don’t", ["don", "t"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("東京へ行く", ["東", "京", "へ", "行", "く"]),
        ("ｶﾞｷﾞ", ["ガ", "ギ"]),
        ("서버가 down", ["서", "버", "가", "down"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("done 👍🏽 ✓ ❤️", ["done", "👍", "✓", "❤"]),
        ("├── src │ lib", ["src", "lib"]),
        ("exam\u00adple می\u200cخواهم", ["example", "میخواهم"]),
        ("one\u200btwo", ["one", "two"]),
        ("x" * 200, ["x" * MAX_TOKEN]),
        ("*** () -- \u0301", []),
        ("", []),
    ],
)
def test_parts_of(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("see src/auth.py, please", ["src/auth.py"]),
        ("Call login_handler() for FEAT-123", ["login_handler", "feat-123"]),
        ("https://example.com/A?b", ["example.com/a"]),
        ("me@host:8080 a#b C:\\x 1.2+3 a~b", ["me@host:8080", "a#b", "1.2+3", "a~b"]),
        ("a--b __init__ .hidden end. 'quoted'", []),
        ("a.b A.B a.b", ["a.b"]),
        ("é/ü 東京-大阪", ["é/ü", "東京-大阪"]),
        ("e\u0301/u\u0308", ["é/ü"]),
        ("x\u0302y-z", ["x\u0302y-z"]),
        (f"{'a.' * 63}aa", [f"{'a.' * 63}aa"]),
        (f"{'a.' * 64}a", []),
    ],
)
def test_wholes_of(text: str, expected: list[str]) -> None:
    assert wholes(text) == expected


def test_every_character_is_normalised_once_and_for_all() -> None:
    for code in range(sys.maxunicode + 1):
        for part in parts(chr(code)):
            assert parts(part) == [part], hex(code)


def test_a_row_of_marks_is_cut_at_thirty_whatever_makes_it() -> None:
    starters = {c for c in map(chr, range(sys.maxunicode + 1)) if not unicodedata.combining(c)}
    becoming = {c for c in starters if unicodedata.combining(unicodedata.normalize("NFKD", c)[0])}
    for character in (*becoming, "\u0301", "\u0327"):
        assert len(parts("a" + character * 1000)[0]) <= 1 + 2 * 30, character  # one of them may be two marks


@given(tricky_text)
@example("-\u0345")
@example("=\u0338x")
def test_spellings_that_unicode_calls_the_same_have_the_same_parts(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert parts(unicodedata.normalize(form, text)) == parts(text)
        assert wholes(unicodedata.normalize(form, text)) == wholes(text)


@given(tricky_text)
def test_parts_are_their_own_parts(text: str) -> None:
    assert parts(" ".join(parts(text))) == parts(text)


@given(tricky_text)
def test_nothing_that_python_calls_a_letter_or_digit_is_lost(text: str) -> None:
    normal = unicodedata.normalize("NFKC", text).casefold()
    visible = [c for c in normal if c.isalnum() and c not in "\u115f\u1160\u3164\uffa0"]
    assert bool(parts(text)) >= bool(visible)


@given(tricky_text)
@example("exam\u00adple ½ㄱㅏ\uff9e-ﾞ가\u11a8=\u0338x™")
def test_places_are_the_parts_and_where_they_stand(text: str) -> None:
    assume("\u0345" not in text)
    found = places(text, 1000)
    assert [part for part, _, _ in found] == parts(text)
    for part, start, end in found:
        assert part in parts(text[start:end])
    assert places(text, 2) == found[:2]


@pytest.mark.parametrize("before", ["", "a", "e", "ก", "가", "ガ", "=", "😀", "\u1100", "\u00ad"])
def test_places_are_the_parts_around_every_character(before: str) -> None:
    codes = [code for code in range(0x20000) if code != 0x345]
    text = " ".join(f"{before}{chr(code)} {before}{chr(code)}a" for code in codes)
    for chunk in range(0, len(text), 10_000):
        piece = text[chunk : chunk + 10_000]
        assert [part for part, _, _ in places(piece, 20_000)] == parts(piece)


def test_places_point_into_the_text_as_written() -> None:
    text = "Cafe\u0301 ❤\ufe0f ½ ＯＫ"
    assert [text[start:end] for _, start, end in places(text, 9)] == ["Cafe\u0301", "❤\ufe0f", "½", "½", "ＯＫ"]


@given(st.lists(tricky_text.map(lambda text: text.replace("\n", " ")), max_size=6).map(" ".join))
def test_who_has_a_whole_has_its_parts_in_sequence(text: str) -> None:
    for whole in wholes(text):
        assert phrase_text(parts(whole)) in phrase_text(parts(text))


def test_a_phrase_text_has_a_space_on_each_side() -> None:
    assert phrase_text(["a", "bc"]) == " a bc "
    assert phrase_text(["b"]) not in phrase_text(["ab", "bc"])


def test_encoded_tokens_are_plain_words() -> None:
    assert encode("auth2") == "auth2"
    assert encode("a_é") == "a_00005f_0000e9"
    assert encode("A") == "_000041"
    assert encode("😀") == "_01f600"
    assert encode("") == ""


@given(st.text(max_size=12), st.text(max_size=12), st.booleans())
def test_encoding_keeps_apart_and_keeps_prefixes(one: str, other: str, is_longer: bool) -> None:
    other = one + other if is_longer else other
    assert (encode(one) == encode(other)) == (one == other)
    assert encode(other).startswith(encode(one)) == other.startswith(one)
    assert set(encode(one)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


def test_an_index_holds_subject_and_body_apart_and_wholes_once() -> None:
    index = index_text("Fix src/auth.py", "In src/auth.py, FEAT-1")
    assert index.subject_parts == ["fix", "src", "auth", "py"]
    assert index.body_parts == ["in", "src", "auth", "py", "feat", "1"]
    assert index.wholes == ["src/auth.py", "feat-1"]


def test_an_index_drops_the_end_of_too_many_words() -> None:
    index = index_text("the subject", " ".join(f"w{n}-x" for n in range(40_000)))
    assert index.subject_parts == ["the", "subject"]
    assert len(index.body_parts) == MAX_TOKENS - 2
    assert index.body_parts[:2] == ["w0", "x"]
    assert index.wholes == []


def test_an_index_drops_the_end_of_too_many_bytes() -> None:
    words = [chr(0x10450 + n % 78) * 100 + str(n) for n in range(2000)]
    index = index_text("subject", " ".join(words))
    assert index.body_parts == words[: len(index.body_parts)]
    used = sum(len(word.encode()) for word in {*index.subject_parts, *index.body_parts})
    assert MAX_UNIQUE_BYTES - 512 < used <= MAX_UNIQUE_BYTES


def test_repeats_cost_no_bytes() -> None:
    word = "\U00010450" * 100
    assert len(index_text("", f"{word} " * 3000).body_parts) == 3000


SPACED = ["a ", "a.b ", "ﷺ ", "a_é ", " ", "\u200b", "\u00ad", "-", "—"]
MARKED = ["e\u0301-", "\u0301\u0327", "\u0301" * 29 + "\uff9e", "\u0390", "कि", "\U0001e000"]
ENDLESS = ["a", "a.", "ß_", "é", "東", "ㅏ", "😀", "ﷺ", "㌀", "\U00010400"]


@pytest.mark.parametrize("unit", SPACED + MARKED + ENDLESS)
def test_any_body_is_indexed_in_linear_time(unit: str) -> None:
    size = len(unit.encode())
    started = time.perf_counter()
    for body in (unit * (256 * 1024 // size), "a" + unit * (256 * 1024 // size)):
        index = index_text("subject", body)
        tokens = [*index.subject_parts, *index.body_parts, *index.wholes]
        assert len(tokens) <= MAX_TOKENS
        assert sum(len(token.encode()) for token in set(tokens)) <= MAX_UNIQUE_BYTES
        assert all(0 < len(token) <= MAX_TOKEN for token in set(tokens))
    # Measured below 0.3 s; what is quadratic takes minutes.
    assert time.perf_counter() - started < 5


def test_random_bodies_stay_within_the_limits() -> None:
    draw = random.Random(7)
    body = "".join(draw.choices([*TRICKY, *map(chr, range(0x4E00, 0x9000))], k=80_000)).replace("\ud800", "")
    index = index_text(body[:200], body)
    tokens = {*index.subject_parts, *index.body_parts, *index.wholes}
    assert sum(len(token.encode()) for token in tokens) <= MAX_UNIQUE_BYTES
