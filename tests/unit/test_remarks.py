"""What a sentence is by the way it is put, and what is noted of a message."""

from dataclasses import replace

import pytest

from agent_mail_core.remarks import (
    CODE,
    MOST_NOTED,
    MOST_STATEMENTS,
    TEXT_LENGTH,
    Passage,
    Reading,
    is_acknowledgement,
    notes_of,
    plain,
    remark,
)
from tests.unit.labelled_threads import mail

MESSAGE = mail(1, "Ann", "", "Bob")


@pytest.mark.parametrize(
    "text, kind",
    [
        ("We decided to use SQLite.", "decision"),
        ("Let's go with the second option.", "decision"),
        ("Decision: no floats.", "decision"),
        ("The plan was approved.", "decision"),
        ("If we decided that, it would break.", "statement"),
        ("We have not yet decided.", "statement"),
        ("Maybe we agreed on that.", "statement"),
        ("Have we decided on it?", "question"),
        ("你同意吗？", "question"),
        ("هل هذا صحيح؟", "question"),
        (f"Look at {CODE}", "statement"),
        ("TODO: write the tests", "action"),
        ("Please review it.", "action"),
        ("Please note that it is slow.", "statement"),
        ("Could you review it?", "action"),
        ("Would you prefer tea?", "question"),
        ("I'll fix it tomorrow.", "action"),
        ("I will be away.", "statement"),
        ("If it fails, I'll fix it.", "statement"),
        ("The build took six minutes.", "statement"),
    ],
)
def test_a_sentence_is_known_by_how_it_is_put(text: str, kind: str) -> None:
    assert remark(Passage(text), MESSAGE).kind == kind


@pytest.mark.parametrize(
    "text, owners",
    [
        ("Please review it.", ["Bob"]),
        ("Cid, please review it.", ["Cid", "Bob"]),
        ("@Cid please review it.", ["Cid", "Bob"]),
        ("I'll fix it.", ["Ann"]),
        ("TODO (Cid): fix it", ["Cid"]),
        ("Cid will fix it.", ["Cid"]),
        ("Can Cid fix it?", ["Cid"]),
        ("Action: assigned to Cid", ["Cid"]),
    ],
)
def test_owners_are_named_in_many_ways(text: str, owners: list[str]) -> None:
    assert remark(Passage(text), MESSAGE).owners[: len(owners)] == owners


@pytest.mark.parametrize(
    "heading, text, kind",
    [
        ("Decisions", "no floats", "decision"),
        ("Next steps", "write the tests", "action"),
        ("Open questions", "who is on call", "question"),
        ("Background", "write the tests", "statement"),
    ],
)
def test_an_item_is_what_its_heading_says(heading: str, text: str, kind: str) -> None:
    assert remark(Passage(text, heading=heading, is_item=True), MESSAGE).kind == kind


def test_a_ticked_box_is_done() -> None:
    kinds = [remark(Passage("write it", is_item=True, is_done=done), MESSAGE).kind for done in (False, True)]
    assert kinds == ["action", "done"]


def test_code_is_shown_again_and_long_sentences_are_cut() -> None:
    assert remark(Passage(f"Run {CODE} now.", ("make\ntest",)), MESSAGE).text == "Run `make test` now."
    assert len(remark(Passage("word " * 200), MESSAGE).text) <= TEXT_LENGTH


def test_a_message_with_much_to_say_is_noted_in_part() -> None:
    passages = [Passage(f"Is it {number}?") for number in range(50)] + [Passage("It is so.")] * 50
    notes = notes_of(replace(MESSAGE, body_md="x" * 100, is_cut=True), Reading(passages, ["quoted"] * 99))
    kinds = [noted.kind for noted in notes.noted]
    assert (kinds.count("question"), kinds.count("statement")) == (MOST_NOTED, MOST_STATEMENTS)
    assert (notes.characters, notes.is_cut, len(notes.quotes)) == (100, True, 12)


def test_thanks_are_no_answer() -> None:
    assert is_acknowledgement("Thanks, got it!")
    assert not is_acknowledgement("Yes.")
    assert not is_acknowledgement("Thanks, the limit is four hours and it is set in the configuration.")


def test_quotes_compare_by_their_words() -> None:
    assert plain("Should we use `Postgres`?") == plain("should WE use Postgres")
