"""Digests of threads: what they find in labelled mail, which questions stay open, which notes count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.digests import MOST_ACTIONS, MOST_REMARKS, digest
from agent_mail_core.ids import MessageId, ProjectId, TeamId, ThreadId
from agent_mail_core.remarks import notes_of
from agent_mail_core.summaries import (
    MOST_CHARACTERS,
    MOST_MESSAGES,
    Digest,
    MessageNotes,
    SourceMessage,
    SummarySource,
    SummaryThread,
)
from agent_mail_core.summary_jobs import counting
from agent_mail_summaries.reading import read
from tests.unit.labelled_threads import THREADS, mail


def notes(messages: Sequence[SourceMessage]) -> list[MessageNotes]:
    return [notes_of(message, read(message.body_md)) for message in messages]


def digest_of(messages: Sequence[SourceMessage], participants: Sequence[str], subject: str = "Plan") -> Digest:
    thread = SummaryThread(
        ThreadId(1), TeamId(1), ProjectId(1), "T-1", subject, len(messages), MessageId(messages[-1].id)
    )
    return digest(SummarySource(thread, participants, notes(messages)))


def score(found: list[tuple[str, str]], labels: list[tuple[str, str]]) -> tuple[Fraction, Fraction]:
    """Precision and recall; both lists name the thread."""
    right = [one for one in found if any(one[0] == thread and label in one[1] for thread, label in labels)]
    hit = [label for label in labels if any(one[0] == label[0] and label[1] in one[1] for one in found)]
    return Fraction(len(right), len(found)), Fraction(len(hit), len(labels))


# Measured when this was written: precision 9/9, 4/4, 16/16; recall 9/11, 4/5, 16/20.
@pytest.mark.parametrize("kind", ["decisions", "open_questions", "action_items"])
def test_most_of_what_a_reader_would_note_is_found(kind: str) -> None:
    found: list[tuple[str, str]] = []
    labels: list[tuple[str, str]] = []
    for thread in THREADS:
        made = digest_of(thread.messages, thread.participants, thread.subject)
        found += [(thread.subject, remark.text) for remark in getattr(made, kind)]
        labels += [(thread.subject, label) for label in getattr(thread, kind.replace("action_items", "actions"))]
    precision, recall = score(found, labels)
    assert precision >= Fraction(9, 10)
    assert recall >= Fraction(8, 10)


def test_nearly_all_owners_are_right() -> None:
    owners = [
        (item.owner, owner)
        for thread in THREADS
        for item in digest_of(thread.messages, thread.participants).action_items
        for label, owner in thread.actions.items()
        if label in item.text
    ]
    assert sum(found == wanted for found, wanted in owners) / len(owners) >= 0.9


# --- questions --------------------------------------------------------------------------------------------------------

ASKED = mail(1, "Ann", "Which port does the proxy use? Who owns the certificate?", "Bob")


def still_open(*answers: SourceMessage) -> list[str]:
    return [question.text for question in digest_of([ASKED, *answers], ["Ann", "Bob", "Cid"]).open_questions]


def test_a_reply_answers() -> None:
    assert still_open(mail(2, "Bob", "It is 8443, and Cid owns it.", "Ann", 1)) == []


def test_a_reply_that_quotes_one_question_answers_that_one() -> None:
    body = "> Who owns the certificate?\n\nCid."
    assert still_open(mail(2, "Bob", body, "Ann", 1)) == ["Which port does the proxy use?"]


def test_what_speaks_of_it_answers() -> None:
    assert still_open(mail(2, "Bob", "The proxy listens on port 8443.")) == ["Who owns the certificate?"]


@pytest.mark.parametrize(
    "answer",
    [
        mail(2, "Bob", "Thanks, I will look.", "Ann", 1),
        mail(2, "Ann", "The proxy port, I mean.", "Bob", 1),
        mail(2, "Bob", "Why do you ask?", "Ann", 1),
        mail(2, "Bob", "```\nport 8443 proxy certificate\n```", "Ann", 1),
        mail(2, "Bob", "Lunch was good."),
    ],
    ids=["thanks", "the asker", "a question", "code", "something else"],
)
def test_these_are_no_answers(answer: SourceMessage) -> None:
    assert still_open(answer)[:2] == still_open()


# --- lists ------------------------------------------------------------------------------------------------------------


def test_an_item_that_is_ticked_later_is_done_once() -> None:
    made = digest_of([mail(1, "Ann", "- [ ] write it"), mail(2, "Bob", "- [x] Write it!")], ["Ann", "Bob"])
    assert [(item.text, item.done, item.message_id) for item in made.action_items] == [("write it", True, 1)]


def test_nobody_who_does_not_take_part_is_named_an_owner() -> None:
    """A bcc recipient is no participant: that a text speaks of one does not make its task known."""
    message = mail(1, "Ann", "Zed will fix it. Zed, please test it. - @Zed: ship it", None)
    made = digest_of([message], ["Ann", "Bob"])
    assert [item.owner for item in made.action_items] == [None]
    assert "Zed" in [item.owner for item in digest_of([message], ["Ann", "Zed"]).action_items]


def test_long_threads_keep_the_newest_remarks() -> None:
    messages = [
        mail(number, "Ann", f"We decided on {number}. Is {number} fine? Please check number {number}.")
        for number in range(1, 61)
    ]
    made = digest_of(messages, ["Ann"])
    assert [len(made.decisions), len(made.open_questions), len(made.action_items)] == [MOST_REMARKS] * 2 + [
        MOST_ACTIONS
    ]
    assert made.decisions[-1].text == "We decided on 60."


def test_key_messages_are_those_that_matter() -> None:
    chat = [mail(number, "Bob", "The sun is out today.") for number in range(2, 30)]
    urgent = replace(mail(40, "Ann", "The build is broken on main."), priority="urgent", ack_required=True)
    made = digest_of([mail(1, "Ann", "We need a cache for the search."), *chat, urgent], ["Ann", "Bob"])
    ids = [message.message_id for message in made.key_messages]
    assert {1, 40} <= set(ids)
    assert ids == sorted(ids)


def test_a_thread_without_a_word_has_a_digest() -> None:
    made = digest_of([mail(1, "Ann", "```\nx\n```")], ["Ann"], "Logs")
    assert made == Digest(
        participants=["Ann"],
        decisions=[],
        open_questions=[],
        action_items=[],
        key_messages=[],
        text="1 message on 2026-11-20, Ann: Logs",
    )


# --- which notes count ------------------------------------------------------------------------------------------------


def noted(lengths: Sequence[int]) -> list[MessageNotes]:
    messages = [mail(number, "Ann", "") for number in range(1, len(lengths) + 1)]
    return [replace_size(one, size) for one, size in zip(notes(messages), lengths, strict=True)]


def replace_size(one: MessageNotes, size: int) -> MessageNotes:
    return one.model_copy(update={"characters": size})


@given(st.lists(st.sampled_from([0, 1, 5000, 8192, 8192]), max_size=300), st.lists(st.integers(0, 40), max_size=12))
def test_going_on_counts_the_same_notes_as_beginning_anew(lengths: list[int], steps: list[int]) -> None:
    everything = noted(lengths)
    kept: list[MessageNotes] = []
    done = 0
    for step in [*steps, len(lengths)]:
        kept = counting([*kept, *everything[done : done + step]])
        done += step
    assert kept == counting(everything)


def test_the_first_message_and_the_newest_count() -> None:
    everything = noted([1] * (MOST_MESSAGES + 50))
    counted = counting(everything)
    assert (counted[0], counted[1:], len(counted)) == (everything[0], everything[51:], MOST_MESSAGES)
    large = counting(noted([8192] * MOST_MESSAGES))
    assert sum(one.characters for one in large) <= MOST_CHARACTERS
    assert large[-1].message_id == MOST_MESSAGES
