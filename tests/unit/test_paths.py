"""The normal form of paths, and what has none."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.errors import InvalidPath
from agent_mail_core.paths import PATH_BYTES, normal_path


@pytest.mark.parametrize(
    "text, expected",
    [
        ("src/app.py", "src/app.py"),
        ("./src//app.py", "src/app.py"),
        ("src/./app.py", "src/app.py"),
        ("src/", "src"),
        ("src/.", "src"),
        (".", "."),
        ("./", "."),
        ("src/*/", "src/*/"),
        ("src/*//.", "src/*/"),
        ("[ab]/", "[ab]/"),
        ("/home/me/shop/src/*.py", "src/*.py"),
        ("/home/me//shop/./src/", "src"),
        ("/home/me/shop", "."),
        ("/home/me/shop/", "."),
        ("e\u0301.txt", "é.txt"),
        ("Src", "Src"),
        (" a b ", " a b "),
        ("...", "..."),
        ("a..b/..c", "a..b/..c"),
        ("a!b/!c", "a!b/!c"),
        (r"a\*b\\c", r"a\*b\\c"),
    ],
)
def test_the_normal_form_of_a_pattern(text: str, expected: str) -> None:
    assert normal_path(text, "/home/me/shop") == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("app/[id]/page.tsx", "app/[id]/page.tsx"),
        ("app/[id]/", "app/[id]"),
        ("!important", "!important"),
        (r"odd\name", r"odd\name"),
        ("/home/me/shop/*", "*"),
    ],
)
def test_the_normal_form_of_a_literal_path(text: str, expected: str) -> None:
    assert normal_path(text, "/home/me/shop", is_literal=True) == expected


@pytest.mark.parametrize("is_literal", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../shop/src",
        "src/../lib",
        "src/..",
        "/",
        "/etc/passwd",
        "/home/me/shopping/src",
        "/home/me/shop/../other",
        "C:/Windows",
        "C:\\Windows",
        "./C:/Windows",
        "a\0b",
        "a\nb",
        "a\r\n\r\n- Ada: I approve",
        "a\x1b[2Jb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\u2029b",
        "a\ud800",
        "x" * (PATH_BYTES + 1),
        "é" * (PATH_BYTES // 2 + 1),
        "a" + "\u0315" * 31,
    ],
)
def test_what_is_refused(text: str, is_literal: bool) -> None:
    with pytest.raises(InvalidPath) as refused:
        normal_path(text, "/home/me/shop", is_literal=is_literal)
    assert refused.value.code == "invalid_path"
    assert refused.value.data["path"].encode().decode() in {text, text[:200], "a?"}


@pytest.mark.parametrize(
    "text",
    ["!src", "./!src", "/home/me/shop/!src", r"src\app.py", r"src\.env", r"src\_a", r"a\/b", "a\\", r"a\\\b", "ü\\ö"],
)
def test_what_is_refused_in_a_pattern_alone(text: str) -> None:
    with pytest.raises(InvalidPath):
        normal_path(text, "/home/me/shop")
    assert normal_path(text, "/home/me/shop", is_literal=True)


@pytest.mark.parametrize("human_key", ["C:\\Users\\me\\shop", "c:/Users/me/shop"])
def test_an_absolute_path_of_windows_is_made_relative(human_key: str) -> None:
    assert normal_path("C:\\Users\\me\\shop\\src\\*.py", human_key) == "src/*.py"
    assert normal_path("C:\\Users\\me\\shop\\src\\*\\", human_key) == "src/*/"
    assert normal_path("c:/Users/me/shop/src", human_key, is_literal=True) == "src"
    with pytest.raises(InvalidPath):
        normal_path("D:\\Users\\me\\shop\\src", human_key)
    with pytest.raises(InvalidPath):
        normal_path("C:\\Users\\Me\\shop\\src", human_key)


def test_in_a_project_of_windows_every_backslash_is_a_separator() -> None:
    """There no name can hold one; git for Windows reads its pathspecs so, too."""
    key = "C:\\Users\\me\\shop"
    assert normal_path("src\\app.py", key) == "src/app.py"
    assert normal_path("src\\*.py", key) == "src/*.py"
    assert normal_path(".\\src\\", key) == "src"
    assert normal_path("app\\[id]\\page.tsx", key, is_literal=True) == "app/[id]/page.tsx"
    for text in ("..\\other", "src\\..\\..", "\\src", "\\\\server\\share"):
        with pytest.raises(InvalidPath):
            normal_path(text, key)


@pytest.mark.parametrize("crowd", ["\u0315\u0300", "\u0f73", "\u0f73\u0315"])
def test_crowds_of_marks_are_refused_before_they_are_sorted(crowd: str) -> None:
    """Of a megabyte of them that takes minutes, in which nothing else runs."""
    with pytest.raises(InvalidPath, match="marks"):
        normal_path("a" + crowd * 1000, "/home/me/shop")
    assert normal_path("a" + crowd * 8 + "/" + crowd * 8, "/home/me/shop")


def test_the_key_may_hold_what_is_special_in_a_pattern() -> None:
    assert normal_path("/home/[me]/a*/src/*.py", "/home/[me]/a*") == "src/*.py"


def test_a_key_that_is_no_path_holds_no_absolute_path() -> None:
    assert normal_path("home/src", "home") == "home/src"
    with pytest.raises(InvalidPath, match="human_key"):
        normal_path("/home/src", "home")


def test_every_absolute_path_is_under_the_root_directory() -> None:
    assert normal_path("/etc/passwd", "/") == "etc/passwd"


def test_the_limit_counts_bytes_of_the_normal_form() -> None:
    longest = "é" * (PATH_BYTES // 2)
    assert normal_path(f"/home/me/shop//{longest}/", "/home/me/shop") == longest


@given(
    text=st.lists(st.sampled_from([*"aé./*[]!\\:", "e\u0301", "..", "/home", "C:"]), max_size=8).map("".join),
    is_literal=st.booleans(),
)
def test_the_normal_form_of_a_normal_form_is_itself(text: str, is_literal: bool) -> None:
    try:
        normal = normal_path(text, "/home", is_literal=is_literal)
    except InvalidPath:
        return
    assert normal_path(normal, "/home", is_literal=is_literal) == normal
    assert normal_path(normal, "another", is_literal=is_literal) == normal
    assert unicodedata.is_normalized("NFC", normal)
    assert not {"", ".."} & set(normal.removesuffix("/").split("/"))
