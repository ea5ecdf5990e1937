"""Searching by meaning: what of a query is meant literally, vectors and their codes, and how two lists become one."""

from array import array

import pytest

from agent_mail_core.embeddings import TEXT_CHARACTERS, code_of, embedded_text, vector_of
from agent_mail_core.ids import MessageId
from agent_mail_core.search_by_meaning import fused
from agent_mail_core.search_query import parse
from agent_mail_core.settings import Settings, check_together
from agent_mail_core.settings_errors import SettingsError


@pytest.mark.parametrize(
    "text, meaning, demands, is_free",
    [
        ("who broke the login", "who broke the login", "", True),
        ("don't retry src/auth.py", "don't retry src/auth.py", "", True),
        ('login "after reset"', "login after reset", '"after reset"', True),
        ("login from:Ann -crash", "login", "from:Ann -crash", True),
        ("login OR signin", "login signin", "", True),
        ("login OR from:Ann", "login", "login OR from:Ann", False),
        ("pass* subject:reset", "pass reset", "pass* subject:reset", False),
        ("from:Ann after:2026-01-01", "", "from:Ann after:2026-01-01", False),
        ("-login", "", "-login", False),
        ("from: Ann", "from: Ann", "", True),
    ],
)
def test_what_is_typed_bare_may_be_said_otherwise(text: str, meaning: str, demands: str, is_free: bool) -> None:
    query = parse(text)
    assert (query.meaning, query.demands, query.has_free_words) == (meaning, parse(demands), is_free)


def test_a_vector_has_length_one_and_its_code_is_its_signs() -> None:
    vector = vector_of([3, 0, -4] + [0] * 6, 9)
    assert vector == array("f", [0.6, 0, -0.8] + [0] * 6)
    assert code_of(vector) == b"\x80\x00"
    assert code_of(vector_of([1.0] * 16, 16)) == b"\xff\xff"


@pytest.mark.parametrize("numbers", [[], [1.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [1e308, 1e308]])
def test_numbers_that_are_no_direction_are_refused(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match=r"dimensions|direction"):
        vector_of(numbers, 2)


def test_a_message_is_embedded_up_to_a_bound() -> None:
    assert embedded_text("Subject", "") == "Subject"
    assert embedded_text("Subject", "Body") == "Subject\n\nBody"
    assert len(embedded_text("Subject", "x" * 10_000)) == TEXT_CHARACTERS


def test_ranks_are_fused() -> None:
    def ids(*numbers: int) -> list[MessageId]:
        return [MessageId(number) for number in numbers]

    assert fused(ids(1, 2, 3), ids(3, 4)) == ids(3, 1, 4, 2)
    assert fused(ids(), ids(2, 1)) == ids(2, 1)
    assert fused(ids(1), ids(2)) == ids(2, 1)


@pytest.mark.parametrize(
    "settings, named",
    [
        (
            {"embeddings": "http", "embeddings_model": "m", "embeddings_base_url": "http://a/v1"},
            "EMBEDDINGS_DIMENSIONS",
        ),
        ({"embeddings": "local"}, "EMBEDDINGS_PATH"),
    ],
)
def test_a_model_without_what_it_needs_stops_the_start(settings: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        check_together(Settings.model_validate(settings))
