"""Markdown bodies taken apart: whose words they are, and what is no language at all."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.remarks import CODE, Passage
from agent_mail_core.summaries import BODY_CHARACTERS
from agent_mail_summaries.reading import MOST_PASSAGES, MOST_QUOTED_LINES, PARAGRAPH_LENGTH, read


def texts(body: str) -> list[str]:
    return [passage.text for passage in read(body).passages]


@pytest.mark.parametrize(
    "code",
    [
        "```python\n# Decision: what is this?\n```",
        "~~~\nTODO: fix?\n~~~",
        "    indented(code)?",
        "```\nnever closed? Yes.",
    ],
)
def test_blocks_of_code_hold_no_sentences(code: str) -> None:
    assert texts(f"Before it.\n\n{code}") == ["Before it."]


def test_code_in_a_sentence_does_not_part_it() -> None:
    (passage,) = read("Call `a.b()? c.d!` and `x` now.").passages
    assert passage == Passage(f"Call {CODE} and {CODE} now.", ("a.b()? c.d!", "x"))


def test_a_code_mark_in_a_body_is_not_taken_for_code() -> None:
    (passage,) = read(f"A{CODE}B and `c`.").passages
    assert (passage.text.count(CODE), passage.code) == (1, ("c",))


def test_quoted_text_is_not_the_authors() -> None:
    reading = read("> We decided on MySQL.\n> Is that fine?\n\nYes, it is.\n\n- > nested quote")
    assert [passage.text for passage in reading.passages] == ["Yes, it is."]
    assert reading.quotes == ["We decided on MySQL.", "Is that fine?", "nested quote"]


def test_who_wrote_a_quote_is_not_said_by_its_reader() -> None:
    assert texts("On Friday, Ann wrote:\n\n> Hello.\n\nHello to you.") == ["Hello to you."]


def test_struck_out_text_is_not_said() -> None:
    assert texts("We keep ~~SQLite~~ Postgres.") == ["We keep  Postgres."]


def test_headings_stand_over_what_follows() -> None:
    passages = read("Intro here.\n\n## Next *steps*\n\nDo it.\n\n**Decisions**\n\n- keep it").passages
    assert [(passage.heading, passage.text) for passage in passages] == [
        ("", "Intro here."),
        ("Next steps", "Do it."),
        ("Decisions", "keep it"),
    ]


def test_task_lists_say_what_is_done() -> None:
    passages = read("- [ ] write it\n- [x] test it\n- plain item\n\n[ ] no list").passages
    assert [(passage.text, passage.is_item, passage.is_done) for passage in passages] == [
        ("write it", True, False),
        ("test it", True, True),
        ("plain item", True, None),
        ("[ ] no list", False, None),
    ]


def test_links_are_their_text() -> None:
    assert texts("See [the plan](https://example.com/a?b=c) first. Then go.") == ["See the plan first.", "Then go."]


@pytest.mark.parametrize(
    "body, sentences",
    [
        ("See src/app.py, v1.2.3, e.g. line 4. Good? Yes!", ["See src/app.py, v1.2.3, e.g. line 4.", "Good?", "Yes!"]),
        ("我们决定使用它。你同意吗？好的！", ["我们决定使用它。", "你同意吗？", "好的！"]),
        ("Das gilt z. B. hier. Ist das gut?", ["Das gilt z. B. hier.", "Ist das gut?"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("One line\ngoes on. Next.", ["One line goes on.", "Next."]),
        ("🎉 … 123 --- ***", []),
        ("", []),
    ],
)
def test_sentences_of_many_languages(body: str, sentences: list[str]) -> None:
    assert texts(body) == sentences


@given(st.text(max_size=300))
def test_no_text_raises(body: str) -> None:
    for passage in read(body).passages:
        assert passage.text.count(CODE) == len(passage.code)


@pytest.mark.parametrize(
    "piece",
    ["[", "![](", "**a", "`", "> ", "- a\n", "* ", "a\n", "# a\n", "|a|b|\n|-|-|\n", "_a*", "\"'", "“a ", "<a", "~~a"],
)
def test_hostile_markdown_is_bounded(piece: str) -> None:
    began = time.process_time()
    reading = read((piece * BODY_CHARACTERS)[:BODY_CHARACTERS])
    assert time.process_time() - began < 2  # 60 ms where nothing else runs; quadratic rules took 20 s for such bodies
    assert len(reading.passages) <= MOST_PASSAGES
    assert len(reading.quotes) <= MOST_QUOTED_LINES


def test_a_long_paragraph_is_cut() -> None:
    assert sum(map(len, texts("Word one. " * 2000))) <= PARAGRAPH_LENGTH
