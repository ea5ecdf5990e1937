"""Taking a Markdown body apart: an author's own sentences, with code set aside and quotes told from them.

Markdown is parsed by markdown-it-py, sentences are split by sentencex (rules and abbreviations of some 300 languages).
Both are held to short texts, for neither is linear in all: sentencex compares every pair of opened quotation marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import sentencex  # type: ignore[import-untyped]  # a native module without stubs
from markdown_it import MarkdownIt
from markdown_it.token import Token

from agent_mail_core.remarks import CODE, Passage, Reading

PARAGRAPH_LENGTH = 4000
"""Characters of a paragraph that are split into sentences; the rest is left out."""

MOST_PASSAGES = 400
MOST_QUOTED_LINES = 40
SHORTEST_LETTERS = 2

_MARKDOWN = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])
_TASK = re.compile(r"^\[([ xX])\]\s+")
_ATTRIBUTION = re.compile(r"(?:\bwrote|\bschrieb|\ba écrit|\bescribió|\bsaid)\s*:\s*$", re.I)
_PLAIN_QUOTE = re.compile(r"^\s*(?:>|-{3,}\s*(?:original|forwarded) message)", re.I)
_LETTER = re.compile(r"[^\W\d_]")
_UNWANTED = re.compile(f"[{CODE}\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")


@dataclass(slots=True)
class _Place:
    """Where in a body its reader is."""

    quotes: int = 0
    items: int = 0
    heading: str = ""
    in_heading: bool = False
    passages: list[Passage] = field(default_factory=list)
    quoted: list[str] = field(default_factory=list)


def read(body: str) -> Reading:
    """The passages and quotes of a body, in order. Never raises for what it holds."""
    place = _Place()
    for token in _MARKDOWN.parse(_UNWANTED.sub(" ", body)):
        if len(place.passages) >= MOST_PASSAGES:
            break
        _step(place, token)
    return Reading(place.passages[:MOST_PASSAGES], place.quoted)


def _step(place: _Place, token: Token) -> None:
    match token.type:
        case "blockquote_open" | "blockquote_close":
            place.quotes += token.nesting
        case "list_item_open" | "list_item_close":
            place.items += token.nesting
        case "heading_open" | "heading_close":
            place.in_heading = token.nesting == 1
        case "tr_open" | "tr_close" | "table_open" | "table_close":
            pass
        case "inline":
            _inline(place, token)


def _inline(place: _Place, token: Token) -> None:
    text, code = _own_text(token)
    if place.quotes:
        lines = [line.strip() for line in _with_code(text, code).splitlines()]
        place.quoted += [line for line in lines if line][: MOST_QUOTED_LINES - len(place.quoted)]
        return
    if place.in_heading:
        place.heading = " ".join(text.split())[:200]
        return
    is_done = None
    if place.items and (task := _TASK.match(text)):
        is_done = task[1] != " "
        text = text[task.end() :]
    # A bold line of its own is a heading to its readers.
    if not place.items and (title := _bold_title(token)):
        place.heading = title
        return
    place.passages += _passages(text, code, place, is_done)


def _own_text(token: Token) -> tuple[str, list[str]]:
    """The text of an inline token, with CODE in the place of code and of struck-out text nothing."""
    parts: list[str] = []
    code: list[str] = []
    struck = 0
    for child in token.children or ():
        match child.type:
            case "text" | "text_special":
                parts.append("" if struck else child.content)
            case "softbreak" | "hardbreak":
                parts.append("\n")
            case "code_inline":
                code.append(child.content)
                parts.append(CODE)
            case "image":
                parts.append(child.content)
            case "s_open" | "s_close":
                struck += child.nesting
    return "".join(parts), code


def _with_code(text: str, code: list[str]) -> str:
    pieces = iter(code)
    return re.sub(CODE, lambda _: next(pieces, ""), text)


def _bold_title(token: Token) -> str:
    children = [child for child in token.children or () if child.content or child.nesting]
    if len(children) == 3 and children[0].type == "strong_open" and children[2].type == "strong_close":
        return children[1].content[:200] if children[1].type == "text" else ""
    return ""


def _passages(text: str, code: list[str], place: _Place, is_done: bool | None) -> Iterator[Passage]:
    pieces = iter(code)
    for sentence in _sentences(text):
        own = tuple(next(pieces, "") for _ in range(sentence.count(CODE)))
        if len(_LETTER.findall(sentence[:400])) >= SHORTEST_LETTERS and not _ATTRIBUTION.search(sentence):
            yield Passage(sentence, own, place.heading, place.items > 0, is_done)


def _sentences(text: str) -> Iterator[str]:
    """Sentences of a paragraph; lines that break where a sentence goes on are joined."""
    lines = [line for line in text[:PARAGRAPH_LENGTH].split("\n") if not _PLAIN_QUOTE.match(line)]
    paragraph = " ".join(line.strip() for line in lines).strip()
    if not paragraph:
        return
    for sentence in sentencex.segment("en", paragraph):
        if stripped := sentence.strip():
            yield stripped
