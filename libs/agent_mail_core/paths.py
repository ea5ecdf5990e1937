"""Paths and patterns as callers write them, made into one normal form (SPEC §3.6).

The normal form is relative to the project's root, in NFC, without `.`, `..` and `//`; `.` alone is the whole project.
A name has no slash at its end; a pattern with wildcards keeps one, which says that it covers the trees below as well.
What a pattern in normal form means is in `globs`.
"""

import re
import unicodedata
from typing import NoReturn

from agent_mail_core.errors import InvalidPath
from agent_mail_core.fields import CONTROL

PATH_BYTES = 1024
MARKS_IN_A_ROW = 30
"""As in the stream-safe text format of UAX #15. To normalize more of them takes the square of their number in time."""

WHOLE_PROJECT = "."

_SHOWN_CHARACTERS = 200
SPECIAL = re.compile(r"[*?\[\\]")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


def normal_path(text: str, human_key: str, *, is_literal: bool = False) -> str:
    """The normal form of a path or, unless `is_literal`, a pattern; InvalidPath for what has none.

    - An absolute path is made relative to `human_key` when that is an absolute path too and holds it.
    - A path with a drive letter is one of Windows, and so is every path of a project whose `human_key` has one: their
      backslashes are separators, as in git for Windows.
    - In any other pattern a backslash is an escape. Before a letter, a digit, `.`, `_`, `/` or the end an escape would
      be useless, and is far more often a Windows path: it is refused. In a literal path a backslash is a character.
    - A pattern cannot begin with `!`, which elsewhere excludes; a literal path can.
    - `..` is refused even where it would stay inside: behind a symbolic link it leads elsewhere.
    - The normal form of a normal form is itself.
    """
    root = _with_slashes(unicodedata.normalize("NFC", human_key))
    path = _with_slashes(unicodedata.normalize("NFC", _whole_characters(text)), is_of_windows=_has_drive(human_key))
    is_directory = path.endswith(("/", "/."))
    names = _names(path)
    if ".." in names:
        _refuse(text, "`..` is not allowed in a path")
    if _is_absolute(path):
        above = _names(root)
        if not _is_absolute(root) or names[: len(above)] != above:
            _refuse(
                text, "an absolute path must be under the project's human_key: give it relative to the project's root"
            )
        names = names[len(above) :]
    normal = "/".join(names) or WHOLE_PROJECT
    if _is_absolute(normal):
        _refuse(text, "a path cannot begin with a drive letter")
    if not is_literal:
        _check_pattern(text, normal)
        if is_directory and SPECIAL.search(normal):
            normal += "/"
    if len(normal.encode()) > PATH_BYTES:
        _refuse(text, f"a path may have {PATH_BYTES} bytes of UTF-8")
    return normal


def _whole_characters(text: str) -> str:
    if not text:
        _refuse(text, "a path cannot be empty: `.` is the whole project")
    if CONTROL.search(text):  # file names may hold them in theory; in a list or a commit they forge a line
        _refuse(text, "a path cannot hold control characters or line breaks")
    if not text.isascii() and _is_crowded(text):
        _refuse(text, f"a path cannot hold more than {MARKS_IN_A_ROW} combining marks in a row")
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(text, "a path cannot hold a lone surrogate")
    return text


def _is_crowded(text: str) -> bool:
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
        if marks > MARKS_IN_A_ROW:
            return True
    return False


def _with_slashes(path: str, is_of_windows: bool = False) -> str:
    """A path of Windows with the separators of all others; other paths as they are."""
    if _has_drive(path):
        return path[0].lower() + path[1:].replace("\\", "/")
    return path.replace("\\", "/") if is_of_windows else path


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or _has_drive(path)


def _has_drive(path: str) -> bool:
    return _DRIVE.match(path) is not None


def _check_pattern(text: str, normal: str) -> None:
    if normal.startswith("!"):
        _refuse(text, "a pattern cannot begin with `!`; literal=true takes a name that does")
    for escape in _ESCAPE.finditer(normal):
        escaped = escape[1]
        if escaped.isalnum() or escaped in {"", ".", "_", "/"}:
            _refuse(
                text, "a backslash is an escape: write `/` between names, or literal=true for a name that holds one"
            )


def _refuse(text: str, message: str) -> NoReturn:
    shown = text[:_SHOWN_CHARACTERS].encode(errors="replace").decode()
    raise InvalidPath(f"{message[0].upper()}{message[1:]}.", path=shown)
