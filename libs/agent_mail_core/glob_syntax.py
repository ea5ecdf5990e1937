"""How git reads a `:(glob)` pathspec: the text of a pattern made into the alternatives that it stands for.

Git is the oracle (`git ls-files ':(glob)…'`; its wildmatch with WM_PATHNAME, and what its pathspecs add to that):
- Git matches bytes of UTF-8. `?` is one byte: `caf?` does not match `café`, `caf*` and `caf??` do.
- `*`, `?` and classes never match a slash, and do match a dot at the start of a name.
- A run of two or more stars is `**`. It crosses directories where it is a whole name, and also where it ends a name
  without other wildcards before it: `lib**` is `lib*` and all below, `lib**/x` is `libx` and `lib*/**/x`. Anywhere
  else it is `*`.
- Class names are ASCII, and `[:space:]` has neither vertical tab nor form feed. A class without its end, or with a
  class name that does not exist, matches nothing.
- A pattern is a name, too: `app/[id]` is `app/i`, `app/d` and the tree of `app/[id]`.

Where this differs, so that reservations do what was meant:
- A slash at the end adds all below what the pattern matches; for git no file matches `src/*/`.
- Escapes are no wildcards: `app/\\[id]` is a name, and covers the tree below.
- A pattern with `*`, `?` or a backslash is no name: else `src/*` and `src/*/x` would meet in a directory called `*`.
- A slash in a class is refused; git takes it for a character of the class, which then matches nothing.
"""

import re
from collections.abc import Iterable
from itertools import dropwhile
from typing import Literal, TypeAlias, cast

from agent_mail_core.errors import InvalidPath
from agent_mail_core.wildcards import ANY_NAME, Byte, Choice, Name, Parts, wild_name

MAX_WILDCARDS = 16

_Tokens: TypeAlias = list[Byte | Literal["*", "**"]]
_CROSSES: _Tokens = ["**"]

_GLUED_STARS = re.compile(rb"[^*?\[\\]*[^*?\[\\/]\*\*+(?:/|\Z)")
_NAMED_CLASS = re.compile(rb"\[:([^\]]++)(?<=:)\]")
_STARS = re.compile(rb"\*+")
_SLASH, _QUESTION, _OPEN, _CLOSE, _BACKSLASH, _DASH = b"/?[]\\-"
_BYTES = frozenset(range(1, 256)) - {_SLASH}

_PRINTABLE = frozenset(range(0x20, 0x7F))
_DIGITS = frozenset(b"0123456789")
_LOWER = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_UPPER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ALNUM = _LOWER | _UPPER | _DIGITS
_CLASSES = {
    b"alnum": _ALNUM,
    b"alpha": _LOWER | _UPPER,
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset(range(1, 0x20)) | {0x7F},
    b"digit": _DIGITS,
    b"graph": _PRINTABLE - {0x20},
    b"lower": _LOWER,
    b"print": _PRINTABLE,
    b"punct": _PRINTABLE - _ALNUM - {0x20},
    b"space": frozenset(b" \t\n\r"),
    b"upper": _UPPER,
    b"xdigit": _DIGITS | frozenset(b"abcdefABCDEF"),
}


def alternatives(pattern: str) -> tuple[Parts[Name], ...]:
    """What a pattern in normal form stands for, as paths of names between stars that stand for any names, even none.

    InvalidPath for more than 16 wildcards, a slash in a class, and a pattern that no path can match.
    """
    text = pattern.encode()
    is_directory = text.endswith(b"/")
    text = text.rstrip(b"/")
    found: list[Parts[Name] | None] = []
    tokens = _tokens(text)
    if tokens is not None:
        wildcards = sum(not isinstance(token, int) for token in tokens)
        if wildcards > MAX_WILDCARDS:
            raise InvalidPath(f"A pattern may have {MAX_WILDCARDS} wildcards.", path=pattern)
        covers_tree = is_directory or wildcards == 0
        readings = _readings(_split(tokens), text)
        found += [_parts(names, covers_tree or is_tree) for names, is_tree in readings]
    if not any(special in text for special in b"*?\\"):
        found.append((tuple(text.split(b"/")), ()))
    possible = tuple(parts for parts in found if parts is not None)
    if not possible:
        raise InvalidPath("No path can match this pattern: look at its brackets, or use literal=true.", path=pattern)
    return possible


def _tokens(text: bytes) -> _Tokens | None:
    """Slashes are tokens too; None when git reads no pattern here."""
    tokens: _Tokens = []
    at = 0
    while at < len(text):
        if stars := _STARS.match(text, at):
            tokens.append("*" if len(stars[0]) == 1 else "**")
            at = stars.end()
        elif text[at] == _QUESTION:
            tokens.append(_ANY_BYTE)
            at += 1
        elif text[at] == _OPEN:
            found = _read_class(text + b"\0", at)
            if found is None:
                return None
            chosen, end = found
            if _SLASH in text[at:end]:
                raise InvalidPath(
                    "Brackets cannot hold a slash; literal=true takes names with brackets.", path=text.decode()
                )
            tokens.append(chosen)
            at = end
        else:
            byte, at = _read_byte(text, at)
            tokens.append(byte)
    return tokens


def _read_class(text: bytes, start: int) -> tuple[Choice, int] | None:
    """The bytes of the class that opens at `start`, at least one, and its end; the text ends in a zero byte.

    None when it does not close, or names a class that does not exist.
    """
    is_negated = text[start + 1] in b"!^"
    at = start + 1 + is_negated
    chosen: set[int] = set()
    previous = 0  # what a range can begin with: not a named class, nor the end of another range
    while True:
        if named := _NAMED_CLASS.match(text, at):
            name = named[1].removesuffix(b":")
            if name not in _CLASSES:
                return None
            chosen |= _CLASSES[name]
            previous, at = 0, named.end()
        elif text[at] == _DASH and previous and text[at + 1] not in {0, _CLOSE}:
            last, at = _read_byte(text, at + 1)
            chosen.update(range(previous, last + 1))
            previous = 0
        else:
            previous, at = _read_byte(text, at)
            chosen.add(previous)
        if at >= len(text) - 1:
            return None
        if text[at] == _CLOSE:
            return _choice(_BYTES - chosen if is_negated else _BYTES & chosen), at + 1


def _read_byte(text: bytes, at: int) -> tuple[int, int]:
    at += text[at] == _BACKSLASH
    return text[at], at + 1


def _choice(chosen: Iterable[int]) -> Choice:
    return Choice(sum(1 << byte for byte in chosen))


def _split(tokens: _Tokens) -> list[_Tokens]:
    names: list[_Tokens] = [[]]
    for token in tokens:
        if token == _SLASH:
            names.append([])
        else:
            names[-1].append(token)
    return names


def _readings(names: list[_Tokens], text: bytes) -> list[tuple[list[_Tokens], bool]]:
    """The pattern with each `**` that crosses directories as a name of its own, and whether all below is in it, too."""
    glued = _GLUED_STARS.match(text)
    if glued is None:
        return [(names, False)]
    before = names[: glued[0].rstrip(b"/").count(b"/")]
    start = names[len(before)][:-1]
    rest = list(dropwhile(_CROSSES.__eq__, names[len(before) + 1 :]))
    if not rest:
        return [([*before, [*start, "*"]], True)]
    return [([*before, [*start, *rest[0]], *rest[1:]], False), ([*before, [*start, "*"], _CROSSES, *rest], False)]


def _parts(names: list[_Tokens], is_tree: bool) -> Parts[Name] | None:
    """None when a name among them matches nothing."""
    parts: list[list[Name]] = [[]]
    for tokens in names:
        if tokens != _CROSSES:
            name = _name(tokens)
            if name is None:
                return None
            parts[-1].append(name)
        elif len(parts) == 1 or parts[-1]:
            parts.append([])
    if names[-1] == _CROSSES:
        parts[-2].append(ANY_NAME)  # at the end it is all below, in the middle it may be nothing
    elif is_tree:
        parts.append([])
    return tuple(map(tuple, parts))


def _name(tokens: _Tokens) -> Name | None:
    parts: list[list[Byte]] = [[]]
    for token in tokens:
        if isinstance(token, str):
            parts.append([])
        else:
            parts[-1].append(token)
    if len(parts) == 1 and all(isinstance(token, int) for token in parts[0]):
        return bytes(cast(list[int], parts[0]))
    return wild_name(tuple(map(tuple, parts)))


_ANY_BYTE = _choice(_BYTES)
