"""Remarks: what a sentence of a message is by the way it is put: a decision, a question, something to do.

The rules know English phrases, and signs that no language owns: question marks of all scripts, headings, task lists,
`Name:` and `@Name`. A sentence that none of them fits is a statement, whatever its language. All patterns are linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from agent_mail_core.summaries import MessageNotes, Noted, RemarkKind, SourceMessage

CODE = "\ue000"
"""Stands for a piece of code, which is no language and holds no question."""

MOST_NOTED = 12
"""Of one message, statements apart."""

MOST_STATEMENTS = 4
MOST_QUOTES = 12
MOST_OWNERS = 4
TEXT_LENGTH = 280
QUOTE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence of an author's own words, or a list item, with CODE for each piece of code."""

    text: str
    code: tuple[str, ...] = ()
    heading: str = ""
    """The nearest heading above it."""
    is_item: bool = False
    is_done: bool | None = None
    """Of a task list's item: whether it is ticked; None for all else."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A body, taken apart."""

    passages: list[Passage]
    quotes: list[str]
    """The lines that it quotes."""


_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_QUESTION = re.compile(r"[?？؟⸮;՞፧]['\")\]»”’*_\s]*$")
_BULLET = re.compile(r"^[\s\-*•·>→]+")

_DECISION_HEADING = re.compile(
    r"\b(?:decisions?|decided|agreements?|agreed|resolutions?|conclusions?|outcomes?)\b", re.I
)
_ACTION_HEADING = re.compile(
    r"\b(?:action items?|actions|next steps?|to[- ]?dos?|tasks?|follow[- ]?ups?|assignments?|work items?)\b", re.I
)
_QUESTION_HEADING = re.compile(r"\b(?:open questions?|questions?|unresolved)\b", re.I)

_DECISION_LABEL = re.compile(
    r"^(?:decision|decided|resolution|resolved|agreed|conclusion|verdict|final call)\s*(?:[:—–]|-\s)", re.I
)
_DECISION = re.compile(
    r"""
    \b(?:we|i)(?:\ have|'ve|’ve)?(?:\ all|\ both|\ now|\ just|\ finally|\ then)?
        \ (?:decided|agreed|settled\ on|concluded|chose|opted|resolved\ to)\b
    | \b(?:it\ (?:is|was|has\ been)|it's|it’s)\ (?:decided|agreed|settled)\b
    | \b(?:decision|verdict|consensus|conclusion)\ (?:is|was|stands)\b
    | \b(?:let's|let’s|let\ us|we'll|we’ll|we\ will|we\ shall|we\ are\ going\ to|we're\ going\ to|i\ will|i'll|i’ll)
        (?:\ just|\ therefore|\ now|\ then|\ not|\ all)?
        \ (?:go(?:ing)?\ with|stick\ (?:with|to)|settle\ (?:on|for)|opt\ for)\b
    | \b(?:let's|let’s|let\ us|we'll|we’ll|we\ will|we\ shall|we\ are\ going\ to|we're\ going\ to)
        (?:\ just|\ therefore|\ now|\ then|\ not|\ no\ longer|\ only)?
        \ (?:use|keep|drop|adopt|switch|move\ to|postpone|defer|support|ship|remove|replace|standardi[sz]e|abandon)\b
    | \b(?:we're|we\ are|i'm|i\ am)\ (?:going|sticking|settling)\ (?:with|on|for)\b
    | \b(?:has|have|was|were|is|are)\ (?:been\ )?(?:approved|rejected|ruled\ out|signed\ off|vetoed)\b
    | ^(?:approved|agreed|rejected|final\ answer|sold)\b(?=\s*[.:,;!—–-]|$)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNDECIDED = re.compile(
    r"""
    ^(?:if|unless|suppose|in\ case)\b
    | \b(?:undecided|(?:not|n't|n’t|never)\ (?:yet\ )?(?:been\ )?(?:decided|agreed|settled|approved|concluded)
    |once\ (?:we|it)|before\ we|until\ we|whether|should\ (?:we|i)|could\ (?:we|i)|shall\ (?:we|i)|would\ (?:we|i)
    |might|maybe|perhaps|i\ (?:suggest|propose|wonder|guess)|my\ proposal)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)

_ACTION_LABEL = re.compile(
    r"^(?:todo|to-do|action(?: item)?|next step|task|follow-up)\s*(?:\([^()]{1,80}\)\s*)?(?:[:—–]|-\s)", re.I
)
_NO_TASK = r"(?:note|see|find|be aware|let me know|excuse|bear with|ignore my)\b"
_REQUEST = re.compile(
    rf"^(?:(?P<owner>@{_NAME}[,:]?|{_NAME}[,:])\s+)?(?:(?:so|and|also|then|ok|okay),?\s+)?"
    rf"(?:(?:please|kindly)\s+(?!{_NO_TASK})\w+|(?:can|could|would|will)\s+you\s+(?:please\s+|also\s+|then\s+)?(?P<verb>\w+))",
    re.I,
)
_ASKING = frozenset(
    "be have prefer say rather think confirm tell explain clarify elaborate know see remember recall mean need".split()
)
"""Whoever asks to do one of these wants an answer."""

_PLEASE = re.compile(rf"\bplease\s+(?!{_NO_TASK})\w+|\w,?\s+please[.!]*$", re.I)
_PROMISE = re.compile(
    r"""
    \b(?:i\ will|i'll|i’ll|i\ am\ going\ to|i'm\ going\ to|i’m\ going\ to|i\ shall|let\ me)
    (?:\ (?:also|now|then|next|first|just|still))?
    \ (?!(?:not|be|never|wait|have|know|assume|say|see|think|look|check\ back|get\ back|let\ you)\b)\w+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ASSIGNED = re.compile(
    rf"^(?P<owner>@?{_NAME})\s+(?:will|shall|is\ going\ to|must|should|needs?\ to|has\ to|takes?(?:\ over|\ on)?|owns)"
    r"\s+(?!(?:be|have|not|never)\b)\w+",
    re.I,
)
_ASKED = re.compile(rf"^(?:can|could|would|will)\s+(?P<owner>@?{_NAME})\s+(?P<verb>\w+)", re.I)
_OWNER_MARKS = re.compile(
    rf"\(\s*(?:(?:owner|assignee|who)\s*:\s*)?@?(?P<a>{_NAME})\s*\)|(?:→|->|=>|—|–)\s*@?(?P<b>{_NAME})\s*\.?$"
    rf"|\b(?:assigned\ to|owner:|owned\ by|assignee:)\s+@?(?P<c>{_NAME})|(?<![\w.])@(?P<d>{_NAME})",
    re.I,
)
_LEADING_NAME = re.compile(rf"^@?(?P<owner>{_NAME})\s*(?::|—|–|\s-\s|,)\s*\S")
_CONDITION = re.compile(r"(?:if|when|unless|once)\b", re.I)
_ACKNOWLEDGING = re.compile(
    r"^(?:thanks|thank you|thx|ok(?:ay)?|noted|got it|ack(?:nowledged)?|will do|on it|understood|roger|hi|hello|hey"
    r"|good (?:question|point)|looking into it|let me (?:check|look|see|think)"
    r"|i(?:'ll| will) (?:check|look|get back))\b",
    re.I,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WORD = re.compile(r"\w+")


def plain(text: str) -> str:
    """A text as quotes are compared: its words, case folded."""
    return " ".join(_WORD.findall(text.casefold()))


def is_acknowledgement(text: str) -> bool:
    """Whether a statement merely says that something was seen, and answers nothing."""
    return len(_WORD.findall(text)) <= 8 and _ACKNOWLEDGING.match(text) is not None


def notes_of(message: SourceMessage, reading: Reading) -> MessageNotes:
    """What is kept of a message: its first remarks of every kind, and its first statements."""
    noted: list[Noted] = []
    statements = 0
    for passage in reading.passages:
        found = remark(passage, message)
        if found.kind == "statement" and not found.owners:
            if statements >= MOST_STATEMENTS:
                continue
            statements += 1
        elif len(noted) - statements >= MOST_NOTED:
            continue
        noted.append(found)
    return MessageNotes(
        message_id=message.id,
        parent_id=message.parent_id,
        sender_name=message.sender_name,
        created_at=message.created_at,
        priority=message.priority,
        ack_required=message.ack_required,
        characters=len(message.body_md),
        is_cut=message.is_cut,
        noted=noted,
        quotes=[text for line in reading.quotes[:MOST_QUOTES] if (text := plain(line)[:QUOTE_LENGTH])],
    )


def remark(passage: Passage, message: SourceMessage) -> Noted:
    """What a passage is, for a message's author and addressee."""
    text = _BULLET.sub("", passage.text).strip()
    kind, owners = _judged(text, passage, message)
    return Noted(kind=kind, text=shown(text, passage.code), owners=list(dict.fromkeys(owners))[:MOST_OWNERS])


def _judged(text: str, passage: Passage, message: SourceMessage) -> tuple[RemarkKind, list[str]]:
    addressee = [message.addressee] if message.addressee else []
    if passage.is_done is not None:
        return ("done" if passage.is_done else "action"), _named_in(text)
    request = _REQUEST.match(text)
    if request and (request["verb"] or "").lower() not in _ASKING:
        return "action", _named_in(text) + addressee
    if _QUESTION.search(text):
        asked = _ASKED.match(text)
        return "question", [asked["owner"].removeprefix("@")] if asked and asked["verb"] not in _ASKING else []
    if passage.is_item and _QUESTION_HEADING.search(passage.heading):
        return "question", []
    if label := _ACTION_LABEL.match(text):
        return "action", _named_in(text) + _named_in(text[label.end() :].lstrip()) + _promised(text, message)
    if _DECISION_LABEL.match(text) or _DECISION_HEADING.search(passage.heading):
        return "decision", []
    if passage.is_item and _ACTION_HEADING.search(passage.heading):
        return "action", _named_in(text) + _promised(text, message)
    if _DECISION.search(text) and not _UNDECIDED.search(text):
        return "decision", []
    if _PLEASE.search(text):
        return "action", _named_in(text) + addressee
    if _CONDITION.match(text):
        return "statement", []
    if promised := _promised(text, message):
        return "action", promised
    assigned = _ASSIGNED.match(text)
    return "statement", [assigned["owner"].removeprefix("@")] if assigned else []


def _promised(text: str, message: SourceMessage) -> list[str]:
    return [message.sender_name] if _PROMISE.search(text) else []


def _named_in(text: str) -> list[str]:
    """Words in a place where the owner of a task stands."""
    words = [next(filter(None, mark.groups()), "") for mark in islice(_OWNER_MARKS.finditer(text), MOST_OWNERS)]
    words += [found["owner"] for pattern in (_ASSIGNED, _LEADING_NAME) if (found := pattern.match(text))]
    return [word.removeprefix("@") for word in words]


def shown(text: str, code: Iterable[str], length: int = TEXT_LENGTH) -> str:
    """A passage as it is read: with its code, on one line, cut where it is long."""
    pieces = iter(code)
    text = "".join(f"`{next(pieces, '')}`" if character == CODE else character for character in text)
    text = " ".join(_CONTROL.sub(" ", text).split())
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
