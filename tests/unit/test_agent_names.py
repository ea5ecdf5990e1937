"""Memorable names: enough of them, all of them valid."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.agent_names import ADJECTIVES, HINT_LENGTH, NOUNS, draw
from agent_mail_core.fields import AGENT_NAME, RESERVED_AGENT_NAMES


def test_there_are_at_least_ten_thousand_different_names() -> None:
    names = {(adjective + noun).lower() for adjective in ADJECTIVES for noun in NOUNS}
    assert len(names) >= 10_000
    assert len(names) == len(ADJECTIVES) * len(NOUNS)


def test_every_name_is_valid_and_none_is_reserved() -> None:
    names = [adjective + noun for adjective in ADJECTIVES for noun in NOUNS]
    assert all(re.fullmatch(r"[A-Z][a-z]+[A-Z][a-z]+", name) for name in names)
    assert all(re.fullmatch(AGENT_NAME, name) for name in names)
    assert not {name.lower() for name in names} & RESERVED_AGENT_NAMES


def test_drawn_names_differ_and_are_as_many_as_asked_for() -> None:
    names = draw(40)
    assert len(set(names)) == 40
    assert draw(16) != draw(16)
    assert draw(0) == []


@pytest.mark.parametrize("digits", [1, 2, 5])
def test_digits_stand_at_the_end(digits: int) -> None:
    assert all(re.fullmatch(rf"[A-Za-z]+[0-9]{{{digits}}}", name) for name in draw(20, digits))


def test_a_hint_takes_the_nouns_place() -> None:
    assert all(name.endswith("Backend") for name in draw(10, hint="backend"))
    assert all(name.endswith("DbTeam7") for name in draw(10, hint="db Team-7!"))
    assert all(any(name.endswith(noun) for noun in NOUNS) for name in draw(10, hint="東京 -- !"))


@given(hint=st.text(max_size=60), digits=st.integers(0, 5))
def test_every_hint_makes_valid_names(hint: str, digits: int) -> None:
    for name in draw(3, digits, hint):
        assert re.fullmatch(AGENT_NAME, name)
        assert len(name) <= max(len(word) for word in ADJECTIVES) + max(HINT_LENGTH, *map(len, NOUNS)) + 5
