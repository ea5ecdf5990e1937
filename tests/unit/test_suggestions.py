"""Near names: what a mistyped name probably meant."""

import difflib
import random

import pytest

from agent_mail_core.suggestions import CANDIDATES, near_names

KNOWN = ["GreenLake", "BlueLake", "greenlamp", "Ann", "Bob", "storefront"]


@pytest.mark.parametrize(
    "wanted, first",
    [("greenlake", "GreenLake"), ("GreenLak", "GreenLake"), ("An", "Ann"), ("BOB", "Bob"), ("storefrnt", "storefront")],
)
def test_the_most_alike_comes_first_ignoring_case(wanted: str, first: str) -> None:
    assert near_names(wanted, KNOWN)[0] == first


def test_what_is_near_to_nothing_has_no_near_names() -> None:
    assert near_names("zzzzzz", KNOWN) == []
    assert near_names("", KNOWN) == []
    assert near_names("Ann", []) == []


def test_a_name_that_only_begins_with_it_is_near() -> None:
    known = ["Shop-3f2a9c1d", "shop-0a1b2c3d", "workshop-3f2a9c1d"]
    assert near_names("shop", known) == ["shop-0a1b2c3d", "Shop-3f2a9c1d"]
    assert near_names("sh", known) == []
    assert near_names("shop", [*known, "shap"])[0] == "shap"


def test_there_are_at_most_three_unless_told_otherwise() -> None:
    known = [f"agent{number}" for number in range(9)]
    assert len(near_names("agent", known)) == 3
    assert len(near_names("agent", known, limit=1)) == 1


def test_names_that_differ_by_case_only_are_one() -> None:
    assert near_names("Ann", ["ann", "ANN"]) == ["ann"]


def test_a_thousand_names_that_all_look_alike_take_no_second() -> None:
    """Comparing each in full took 27 s for a hundred recipients; the work, not the time, is asserted."""
    compared = 0

    class Counting(difflib.SequenceMatcher[str]):
        def ratio(self) -> float:
            nonlocal compared
            compared += 1
            return super().ratio()

    shuffle = random.Random(1).sample
    known = ["".join(shuffle("01" * 32, 64)) for _ in range(1000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(difflib, "SequenceMatcher", Counting)
        near_names("01" * 32, known)
    assert 0 < compared <= 2 * CANDIDATES  # the library asks twice for those that are close
