"""The search language: what a query means, and which messages it matches.

    words "a phrase" prefix* from:Name subject:word thread:KEY before:2026-01-31 after:2026-01-31T09:00:00Z a OR b -not

Terms are joined by AND; OR binds tighter: ``a b OR c -d`` is a AND (b OR c) AND NOT d. All else is text to look for:
no input is a syntax error. `matches` is the contract that both engines keep; ranks are theirs.

What a leaf matches:
- `Words` of one part: a message with that part in its subject or body.
- `Words` of several parts: one with the parts in sequence inside the subject or inside the body, not across the two.
  A term with joints (``src/auth.py``) is such a phrase; its `whole` helps ranking and never decides.
- with `is_prefix` the last part need only be a prefix of the part at its place; `in_subject` leaves the body out.
- `From` and `Thread`: the sender's name or the thread's key, ignoring case.
- `Before`: created before the instant; `After`: at or after it, so that the two part all messages between them.
- with `is_negated`: a message that the leaf without it does not match, also inside an OR.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias

from agent_mail_core.search_text import IndexedText, encode, parts, phrase_text, wholes

MAX_LEAVES = 32
_TERM = re.compile(
    r"(?P<minus>-(?=[^\s-]))?(?:(?P<field>from|subject|thread|before|after):)?"
    r'(?:"(?P<phrase>[^"]*)(?:"(?P<star>\*?)|$)|(?P<bare>\S+))',
    re.IGNORECASE,
)
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?P<time>[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2}))?",
    re.IGNORECASE,
)


class QueryTooComplex(ValueError):
    """A query may have 32 terms."""


@dataclass(frozen=True, slots=True)
class Words:
    """At least one part, as `search_text.parts` makes them; `whole` when the term is one of `search_text.wholes`."""

    parts: tuple[str, ...]
    whole: str | None = None
    is_prefix: bool = False
    in_subject: bool = False
    is_negated: bool = False
    written: str = field(default="", compare=False)
    """As typed, without field, minus, quotes and star."""
    is_free: bool = field(default=False, compare=False)
    """Typed bare: what it means may be said in other words. All else is meant literally."""


@dataclass(frozen=True, slots=True)
class From:
    """Name as typed: the store folds its case, and decides what `Name@slug` means."""

    name: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Thread:
    """Key as typed: the store folds its case, and decides what `KEY@slug` means."""

    key: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Before:
    at: datetime
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class After:
    at: datetime
    is_negated: bool = False


Leaf: TypeAlias = Words | From | Thread | Before | After


@dataclass(frozen=True, slots=True)
class Clause:
    """Met when one of its leaves is; never empty."""

    leaves: tuple[Leaf, ...]

    @property
    def is_free(self) -> bool:
        return all(isinstance(leaf, Words) and leaf.is_free for leaf in self.leaves)


@dataclass(frozen=True, slots=True)
class Query:
    """Met when all its clauses are."""

    clauses: tuple[Clause, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the text could be looked for, as in ``***``."""
        return not self.clauses

    @property
    def meaning(self) -> str:
        """What is asked about, in the words of who asks; empty when the query only filters."""
        leaves = (leaf for clause in self.clauses for leaf in clause.leaves)
        return " ".join(leaf.written for leaf in leaves if isinstance(leaf, Words) and not leaf.is_negated)

    @property
    def demands(self) -> Query:
        """What also holds for a message that says it in other words: all clauses but those of free words alone."""
        return Query(tuple(clause for clause in self.clauses if not clause.is_free))

    @property
    def has_free_words(self) -> bool:
        return any(clause.is_free for clause in self.clauses)


@dataclass(frozen=True, slots=True)
class Searchable:
    """What a message is to a query."""

    text: IndexedText
    sender_name: str
    thread_key: str
    created_at: datetime


def parse(text: str) -> Query:
    """The query that a text stands for; more than 32 leaves raise QueryTooComplex, nothing else raises.

    - A quote opens a phrase only at the start of a term or after its field; one without an end runs to the end.
    - ``*`` counts directly behind the last letter of a term or behind the closing quote; more than one is text.
    - ``-`` negates the term that follows at once; ``--flag`` is text.
    - Fields are read in any case. Without a value that has a letter or digit, or with a date that RFC 3339 does not
      know (a date, which is midnight UTC, or a date-time with its offset), the whole term is text.
    - A term without anything to index is dropped. OR, in capitals, without a term on each side is dropped too; write
      ``"OR"`` to look for the word.
    """
    clauses: list[list[Leaf]] = []
    is_joined = False
    for found in _TERM.finditer(text):
        if found[0] == "OR":
            is_joined = bool(clauses)
            continue
        leaf = _leaf(found)
        if leaf is None:
            continue
        if is_joined:
            clauses[-1].append(leaf)
        else:
            clauses.append([leaf])
        is_joined = False
    if sum(map(len, clauses)) > MAX_LEAVES:
        raise QueryTooComplex(f"A query may have {MAX_LEAVES} terms: quote them to look for a phrase.")
    return Query(tuple(Clause(tuple(leaves)) for leaves in clauses))


def matches(query: Query, message: Searchable) -> bool:
    """Whether the query finds the message: the reference for both engines."""
    return all(any(_is_met(leaf, message) != leaf.is_negated for leaf in clause.leaves) for clause in query.clauses)


def phrase_needle(leaf: Words) -> str:
    """What lies in the `phrase_text` of a subject or body that the leaf matches, and of no other."""
    text = phrase_text(leaf.parts)
    return text[:-1] if leaf.is_prefix else text


def fts5_expression(leaf: Words) -> str:
    """The MATCH expression of one leaf, negation left out, over columns subject, body and wholes of encoded tokens.

    `wholes` only adds to the rank: a whole is in the index only when its parts are, in sequence.
    """
    phrase = _fts5_phrase(leaf.parts, leaf.is_prefix)
    if leaf.in_subject:
        return f"subject : {phrase}"
    if leaf.whole is None:
        return f"{{subject body}} : {phrase}"
    return f"({{subject body}} : {phrase} OR wholes : {_fts5_phrase((leaf.whole,), leaf.is_prefix)})"


def _leaf(term: re.Match[str]) -> Leaf | None:
    is_negated = term["minus"] is not None
    named = (term["field"] or "").lower()
    text, is_prefix = term["bare"], False
    if text is None:
        text, is_prefix = term["phrase"], term["star"] == "*"
    elif text.endswith("*") and not text.endswith("**"):
        text, is_prefix = text[:-1], True
    if named == "" or not parts(text):
        # A field without a value is text, like all that follows it.
        literal = text if named == "" else f"{named}:{text}"
        words = _words(literal, is_prefix, is_negated=is_negated)
        is_free = term["bare"] is not None and not is_prefix and not is_negated
        return replace(words, is_free=is_free) if words is not None and is_free else words
    if named == "subject":
        return _words(text, is_prefix, in_subject=True, is_negated=is_negated)
    value = term["phrase"] if term["bare"] is None else term["bare"]
    if named == "from":
        return From(value, is_negated)
    if named == "thread":
        return Thread(value, is_negated)
    at = _instant(value)
    if at is None:
        return _words(f"{named}:{text}", is_prefix, is_negated=is_negated)
    return Before(at, is_negated) if named == "before" else After(at, is_negated)


def _words(text: str, is_prefix: bool, *, in_subject: bool = False, is_negated: bool = False) -> Words | None:
    found = parts(text)
    if not found:
        return None
    joined = wholes(text)
    whole = joined[0] if len(joined) == 1 and parts(joined[0]) == found else None
    # A star behind anything but the last part's own letters is punctuation: a letter there would start a new part.
    is_prefix = is_prefix and len(parts(f"{text}a")) == len(found)
    return Words(tuple(found), whole, is_prefix, in_subject, is_negated, text)


def _instant(text: str) -> datetime | None:
    form = _INSTANT.fullmatch(text)
    if form is None:
        return None
    try:
        at = datetime.fromisoformat(text.upper())
        return at.astimezone(UTC) if form["time"] else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _is_met(leaf: Leaf, message: Searchable) -> bool:
    match leaf:
        case Words():
            needle = phrase_needle(leaf)
            is_in_subject = needle in phrase_text(message.text.subject_parts)
            return is_in_subject or (not leaf.in_subject and needle in phrase_text(message.text.body_parts))
        case From():
            return leaf.name.casefold() == message.sender_name.casefold()
        case Thread():
            return leaf.key.casefold() == message.thread_key.casefold()
        case Before():
            return message.created_at < leaf.at
        case After():
            return message.created_at >= leaf.at


def _fts5_phrase(tokens: tuple[str, ...], is_prefix: bool) -> str:
    return f'"{" ".join(map(encode, tokens))}"{" *" if is_prefix else ""}'
