"""Cursors: good for their own list or inbox, refused everywhere else and when a single character was changed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.cursors import inbox_cursor, list_cursor, list_scope, open_inbox_cursor, open_list_cursor
from agent_mail_core.errors import CursorExpired, InvalidCursor
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import StoreIdentity

HERE = StoreIdentity("epoch-1", b"k" * 32)
RESTORED = StoreIdentity("epoch-2", b"k" * 32)
ELSEWHERE = StoreIdentity("epoch-1", b"x" * 32)
SCOPE = list_scope("list_agents", 1, 7, None, False)
BOB = AgentId(5)


@given(last=st.lists(st.one_of(st.text(max_size=50), st.integers(0, 2**63)), min_size=1, max_size=3))
def test_a_list_cursor_gives_back_what_it_was_made_of(last: list[str | int]) -> None:
    cursor = list_cursor(HERE, SCOPE, last)
    assert open_list_cursor(HERE, SCOPE, cursor, *(type(value) for value in last)) == tuple(last)


def test_no_cursor_opens_to_none() -> None:
    assert open_list_cursor(HERE, SCOPE, None, str) is None


def test_a_cursor_fits_into_a_url() -> None:
    cursor = list_cursor(HERE, SCOPE, ["ü/&?=+ #", 2**53])
    assert all(character.isascii() and (character.isalnum() or character in "-_") for character in cursor)


@pytest.mark.parametrize(
    "scope",
    [
        list_scope("list_outbox", 1, 7, None, False),
        list_scope("list_agents", 2, 7, None, False),
        list_scope("list_agents", 1, 8, None, False),
        list_scope("list_agents", 1, 7, None, True),
        list_scope("list_agents", 1, 7, 0, False),
        list_scope("list_agents", 1, 7, None),
    ],
)
def test_a_cursor_of_another_list_team_or_filter_is_refused(scope: str) -> None:
    with pytest.raises(InvalidCursor):
        open_list_cursor(HERE, scope, list_cursor(HERE, SCOPE, ["a"]), str)


def test_filters_that_read_alike_when_joined_are_told_apart() -> None:
    """A query is free text: it must not be able to pose as another list's filters."""
    assert list_scope("search_messages", 1, "a", "b") != list_scope("search_messages", 1, "a\x1fb")
    assert list_scope("search_messages", 1, None) != list_scope("search_messages", 1, "")
    assert list_scope("search_messages", 1, "a\x1fb", "c") != list_scope("search_messages", 1, "a", "b\x1fc")
    assert list_scope("search_messages", 1, 1) != list_scope("search_messages", 1, "1")


@pytest.mark.parametrize("kinds", [(), (int,), (str, str), (bool,), (bytes,)])
def test_a_cursor_of_another_shape_is_refused(kinds: tuple[type, ...]) -> None:
    with pytest.raises(InvalidCursor):
        open_list_cursor(HERE, SCOPE, list_cursor(HERE, SCOPE, ["a"]), *kinds)


def test_true_is_no_number() -> None:
    cursor = list_cursor(HERE, SCOPE, [True])
    with pytest.raises(InvalidCursor):
        open_list_cursor(HERE, SCOPE, cursor, int)


def test_a_cursor_of_another_database_is_refused() -> None:
    with pytest.raises(InvalidCursor):
        open_list_cursor(HERE, SCOPE, list_cursor(ELSEWHERE, SCOPE, ["a"]), str)
    with pytest.raises(InvalidCursor):
        open_inbox_cursor(HERE, BOB, inbox_cursor(ELSEWHERE, BOB, 3))


def test_every_altered_character_is_noticed() -> None:
    cursor = list_cursor(HERE, SCOPE, ["some name", 12])
    for place, character in enumerate(cursor):
        for other in "A_z9":
            if other != character:
                altered = cursor[:place] + other + cursor[place + 1 :]
                with pytest.raises(InvalidCursor):
                    open_list_cursor(HERE, SCOPE, altered, str, int)


@given(cursor=st.text(min_size=1, max_size=300))
def test_no_text_opens_anything_but_invalid_cursor(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        open_list_cursor(HERE, SCOPE, cursor, str)
    with pytest.raises(InvalidCursor):
        open_inbox_cursor(HERE, BOB, cursor)


@pytest.mark.parametrize("position", [0, 1, 2**53, 2**63 - 1])
def test_an_inbox_cursor_gives_back_its_position(position: int) -> None:
    assert open_inbox_cursor(HERE, BOB, inbox_cursor(HERE, BOB, position)) == position


def test_an_inbox_cursor_of_another_agent_is_refused_and_one_of_another_epoch_has_expired() -> None:
    with pytest.raises(InvalidCursor):
        open_inbox_cursor(HERE, AgentId(6), inbox_cursor(HERE, BOB, 3))
    with pytest.raises(CursorExpired) as expired:
        open_inbox_cursor(RESTORED, BOB, inbox_cursor(HERE, BOB, 3))
    assert expired.value.data == {"suggestion": "check_inbox"}
    with pytest.raises(InvalidCursor):
        open_inbox_cursor(RESTORED, AgentId(6), inbox_cursor(HERE, BOB, 3))


def test_a_list_cursor_is_no_inbox_cursor_and_the_other_way_round() -> None:
    payload: list[Any] = ["epoch-1", 5, 3]
    with pytest.raises(InvalidCursor):
        open_inbox_cursor(HERE, BOB, list_cursor(HERE, SCOPE, payload))
    with pytest.raises(InvalidCursor):
        open_list_cursor(HERE, SCOPE, inbox_cursor(HERE, BOB, 3), str, int, int)


def test_nothing_may_be_added_to_a_cursor() -> None:
    cursor = list_cursor(HERE, SCOPE, ["a"])
    for altered in (cursor + "!!!", "*" + cursor, cursor + "=", cursor + "\n"):
        with pytest.raises(InvalidCursor):
            open_list_cursor(HERE, SCOPE, altered, str)
