"""How much a page holds."""

from dataclasses import dataclass

from agent_mail_core.pages import PAGE_CHARACTERS, fitting


@dataclass(frozen=True)
class Entry:
    body_md: str | None


def test_a_page_holds_as_many_entries_as_were_asked_for() -> None:
    entries = [Entry(None), Entry("a"), Entry("b")]
    assert fitting(entries, 2) == entries[:2]
    assert fitting(entries, 5) == entries
    assert fitting([], 5) == []


def test_a_page_of_long_bodies_is_cut_and_never_empty() -> None:
    half = Entry("x" * (PAGE_CHARACTERS // 2))
    assert fitting([half, half, half], 5) == [half, half]
    too_long = Entry("x" * (PAGE_CHARACTERS + 1))
    assert fitting([too_long, half], 5) == [too_long]
