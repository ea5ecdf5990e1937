"""File names and media types: harmless, and as near to what was given as that allows."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.file_names import LONGEST, OCTETS, media_type_of, safe_file_name, served_media_type


@pytest.mark.parametrize(
    "name, safe",
    [
        ("plan.md", "plan.md"),
        (".gitignore", ".gitignore"),
        ("Ünïcode 東京.txt", "Ünïcode 東京.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\x.txt", "x.txt"),
        ("/", "attachment"),
        ("..", "attachment"),
        ("...", "attachment"),
        ("", "attachment"),
        (" . ", "attachment"),
        ("trailing. . ", "trailing"),
        ("a\r\nSet-Cookie: b", "aSet-Cookie_ b"),
        ("exe\u202efdp.txt", "exefdp.txt"),
        ("zero\u200bwidth", "zerowidth"),
        ('a<b>:"|?*.c', "a_b______.c"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("COM1", "_COM1"),
        ("com¹.tar.gz", "_com¹.tar.gz"),
        ("nul .txt", "_nul .txt"),
        ("CONIN$", "_CONIN$"),
        ("common", "common"),
        ("e\u0301", "é"),
    ],
)
def test_a_name_is_made_harmless(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_file_name("a" * 300 + ".tar") == "a" * 251 + ".tar"
    assert safe_file_name("東" * 300 + ".txt") == "東" * 83 + ".txt"
    assert len(safe_file_name("x." + "e" * 300)) == LONGEST


@given(st.text(max_size=400))
def test_no_name_is_harmful(name: str) -> None:
    safe = safe_file_name(name)
    assert 1 <= len(safe.encode()) <= LONGEST
    assert not set(safe) & set('/\\<>:"|?*')
    assert safe.strip(". ")
    assert safe == safe.rstrip(". ")
    assert all(unicodedata.category(c)[0] != "C" for c in safe)
    assert safe_file_name(safe) == safe


@pytest.mark.parametrize(
    "declared, name, content, media_type",
    [
        ("image/png", "x", b"", "image/png"),
        ("Text/Plain; charset=utf-8", "x", b"", "text/plain"),
        ("nonsense", "x.json", b"", "application/json"),
        ("text/html\r\nx: y", "x.png", b"", "image/png"),
        (None, "plan.md", b"# Plan", "text/markdown"),
        (None, "x", b"text", "text/plain"),
        (None, "x", "東".encode(), "text/plain"),
        (None, "x", b"a\0b", OCTETS),
        (None, "x", b"\xff", OCTETS),
        (None, "x.tar.gz", b"\x1f\x8b", OCTETS),
        (None, "x.gz", b"not really", OCTETS),
    ],
)
def test_the_media_type_is_as_said_else_as_named_else_as_it_looks(
    declared: str | None, name: str, content: bytes, media_type: str
) -> None:
    assert media_type_of(declared, name, content) == media_type


@pytest.mark.parametrize(
    "media_type",
    ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "application/pdf", "message/rfc822"],
)
def test_what_a_browser_runs_is_served_as_octets(media_type: str) -> None:
    assert served_media_type(media_type) == OCTETS


@pytest.mark.parametrize("media_type", ["text/plain", "image/png", "application/json", "application/zip"])
def test_other_types_are_served_as_they_are(media_type: str) -> None:
    assert served_media_type(media_type) == media_type
