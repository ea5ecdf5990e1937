"""Digests: what a thread comes to, from the notes of its messages. Pure: the same notes always give the same digest.

Which sentence stands for a message is decided as in SumBasic (Nenkova and Vanderwende, 2005): by how often its words
are used in the whole thread, here by how many messages, and earlier sentences first. Libraries that rank sentences
bring a numeric stack or a corpus with them, which four short sentences a message do not need.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agent_mail_core.remarks import QUOTE_LENGTH, is_acknowledgement, plain
from agent_mail_core.summaries import ActionItem, Digest, KeyMessage, MessageNotes, Noted, Remark, SummarySource

MOST_REMARKS = 20
"""Decisions, and open questions: the newest."""

MOST_ACTIONS = 40
MOST_KEY_MESSAGES = 5
MOST_ASKED = 100
"""Questions, the newest, that answers are looked for to."""

MOST_NAMED = 5
IN_TEXT = 3
SHORTEST_QUOTE = 8

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}|\w{3,}")
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_COMMON = frozenset(
    """
    about after all also and any are been before being both but can could did does doing done for from get got had has
    have her here him his how its just may might more most not now off one only other our out over same she should some
    such than that the their them then there these they this those too under until use very was way were what when where
    which while who why will with would yes you your
    """.split()
)


@dataclass(slots=True)
class _Found:
    """A message's remarks once it is known who takes part."""

    message: MessageNotes
    decisions: list[Remark] = field(default_factory=list)
    questions: list[Remark] = field(default_factory=list)
    actions: list[ActionItem] = field(default_factory=list)
    said: list[set[str]] = field(default_factory=list)
    """The words of each sentence that may answer a question."""


def digest(source: SummarySource) -> Digest:
    """The digest by rules."""
    names = {name.casefold(): name for name in source.participants}
    found = [_found(message, names) for message in source.notes]
    frequency = Counter(word for message in source.notes for word in set().union(*_sentence_words(message)))
    leads = {message.message_id: _lead(message, frequency) for message in source.notes}
    decisions = _distinct(remark for each in found for remark in each.decisions)[-MOST_REMARKS:]
    questions = _open_questions(found)[-MOST_REMARKS:]
    actions = _actions(found)[-MOST_ACTIONS:]
    return Digest(
        participants=list(source.participants),
        decisions=decisions,
        open_questions=questions,
        action_items=actions,
        key_messages=_key_messages(found, leads, questions),
        text=_text(source, leads, decisions, questions, actions),
    )


def _found(message: MessageNotes, names: dict[str, str]) -> _Found:
    found = _Found(message)
    for noted in message.noted:
        owner = next((names[word.casefold()] for word in noted.owners if word.casefold() in names), None)
        kind = "action" if owner is not None and noted.kind in ("statement", "question") else noted.kind
        if kind == "question":
            found.questions.append(_remark(message, noted))
            continue
        if kind == "decision":
            found.decisions.append(_remark(message, noted))
        elif kind in ("action", "done"):
            remark = _remark(message, noted)
            found.actions.append(ActionItem(**remark.model_dump(), owner=owner, done=kind == "done"))
        if not is_acknowledgement(noted.text):
            found.said.append(_words(noted.text))
    return found


def _remark(message: MessageNotes, noted: Noted) -> Remark:
    return Remark(text=noted.text, message_id=message.message_id, sender_name=message.sender_name)


def _words(text: str) -> set[str]:
    """What carries a text's meaning: words of three letters on that are not the commonest, pairs of spaceless ones."""
    words: set[str] = set()
    for word in _WORD.findall(text.casefold()):
        if _SPACELESS.match(word):
            words.update(word[at : at + 2] for at in range(len(word) - 1))
        elif word not in _COMMON:
            words.add(word)
    return words


def _sentence_words(message: MessageNotes) -> list[set[str]]:
    return [_words(noted.text) for noted in message.noted]


# --- lists ------------------------------------------------------------------------------------------------------------


def _distinct(remarks: Iterable[Remark]) -> list[Remark]:
    """Each wording once, where it was first used."""
    return list({plain(remark.text): remark for remark in reversed(list(remarks))}.values())[::-1]


def _actions(found: Sequence[_Found]) -> list[ActionItem]:
    """Each wording once, where it was first used; done when it was ever ticked, owned when it ever got an owner."""
    items: dict[str, ActionItem] = {}
    for item in (item for each in found for item in each.actions):
        known = items.setdefault(plain(item.text), item)
        if (item.done and not known.done) or (item.owner and not known.owner):
            update = {"done": known.done or item.done, "owner": known.owner or item.owner}
            items[plain(item.text)] = known.model_copy(update=update)
    return list(items.values())


def _open_questions(found: Sequence[_Found]) -> list[Remark]:
    asked = [(at, each, question) for at, each in enumerate(found) for question in each.questions]
    still_open = [
        question
        for at, each, question in asked[-MOST_ASKED:]
        if not any(_answers(later, each, question) for later in found[at + 1 :])
    ]
    return _distinct(still_open)


def _answers(later: _Found, asking: _Found, question: Remark) -> bool:
    """Whether somebody else's message answers a question: it quotes it, replies to its message, or speaks of it.

    A reply that quotes some of a message's questions answers only those. Thanks are no answer.
    """
    reply, asker = later.message, asking.message
    if not later.said or reply.sender_name == asker.sender_name:
        return False
    if reply.quotes:
        if _is_quoted(question, reply):
            return True
        if any(_is_quoted(other, reply) for other in asking.questions):
            return False
    if reply.parent_id == asker.message_id:
        return True
    wanted = _words(question.text)
    return any(len(shared := wanted & said) >= 2 and len(shared) * 2 >= len(wanted) for said in later.said)


def _is_quoted(question: Remark, reply: MessageNotes) -> bool:
    asked = plain(question.text)[:QUOTE_LENGTH]
    return any(len(quote) >= SHORTEST_QUOTE and (quote in asked or asked in quote) for quote in reply.quotes)


# --- ranking ----------------------------------------------------------------------------------------------------------


def _lead(message: MessageNotes, frequency: Counter[str]) -> str:
    """The sentence that stands for a message, or an empty text."""

    def weight(place: int, noted: Noted) -> float:
        words = _words(noted.text)
        common = sum(frequency[word] for word in words) / (len(words) or 1)
        return common * min(len(words), 5) / (place + 3)

    ranked = [
        (weight(place, noted), -place, noted.text)
        for place, noted in enumerate(message.noted)
        if not is_acknowledgement(noted.text)
    ]
    return max(ranked)[2] if ranked else ""


def _key_messages(found: Sequence[_Found], leads: dict[int, str], questions: Sequence[Remark]) -> list[KeyMessage]:
    replies = Counter(each.message.parent_id for each in found)
    unanswered = {question.message_id for question in questions}

    def weight(at: int, each: _Found) -> tuple[int, int]:
        message = each.message
        points = 2 * (at == 0) + (at == len(found) - 1)
        points += {"high": 1, "urgent": 2}.get(message.priority, 0) + message.ack_required
        points += min(replies[message.message_id], 3) + 2 * min(len(each.decisions), 2) + min(len(each.actions), 2)
        return points + (message.message_id in unanswered), at

    ranked = sorted(
        ((weight(at, each), each.message) for at, each in enumerate(found) if leads[each.message.message_id]),
        key=lambda entry: entry[0],
        reverse=True,
    )
    return [
        KeyMessage(
            message_id=message.message_id,
            sender_name=message.sender_name,
            created_at=message.created_at,
            excerpt=leads[message.message_id],
        )
        for message in sorted((message for _, message in ranked[:MOST_KEY_MESSAGES]), key=lambda each: each.message_id)
    ]


# --- the text ---------------------------------------------------------------------------------------------------------


def _text(
    source: SummarySource,
    leads: dict[int, str],
    decisions: Sequence[Remark],
    questions: Sequence[Remark],
    actions: Sequence[ActionItem],
) -> str:
    """A few lines that can be read alone."""
    first, last = source.notes[0], source.notes[-1]
    count = source.thread.message_count
    begin, end = first.created_at.date(), last.created_at.date()
    days = f"on {begin}" if begin == end else f"from {begin} to {end}"
    lines = [f"{count} message{'s' * (count != 1)} {days}, {_names(source.participants)}: {source.thread.subject}"]
    if leads[first.message_id]:
        lines.append(f"It begins, {first.sender_name}: {leads[first.message_id]}")
    to_do = [f"{item.owner}: {item.text}" if item.owner else item.text for item in actions if not item.done]
    for title, texts in (
        ("Decided", [remark.text for remark in decisions]),
        ("Open", [remark.text for remark in questions]),
        ("To do", to_do),
    ):
        if texts:
            lines.append(f"{title}: {' | '.join(texts[-IN_TEXT:])}")
    if last is not first and leads[last.message_id]:
        lines.append(f"Last, {last.sender_name}: {leads[last.message_id]}")
    return "\n".join(lines)


def _names(participants: Sequence[str]) -> str:
    named, more = participants[:MOST_NAMED], len(participants) - MOST_NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
