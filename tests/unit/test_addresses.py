"""Addresses: read and shown by one rule, so that what is shown can be written back."""

import pytest
from pydantic import TypeAdapter, ValidationError

from agent_mail_core.addresses import Address, ThreadRef, elsewhere, is_service, parse, seen_from, show


@pytest.mark.parametrize(
    "text, name, slug",
    [
        ("Bob", "Bob", None),
        ("Bob@shop", "Bob", "shop"),
        ("FEAT-123@shop-1a2b3c4d", "FEAT-123", "shop-1a2b3c4d"),
        ("Bob@", "Bob", ""),
        ("@shop", "", "shop"),
        ("Bob@shop@depot", "Bob", "shop@depot"),
        ("Bob@/code/shop", "Bob", "/code/shop"),
    ],
)
def test_an_address_is_split_at_its_first_at(text: str, name: str, slug: str | None) -> None:
    assert parse(text) == Address(name, slug)


def test_a_bare_name_is_of_the_project_at_hand() -> None:
    assert parse("Bob").is_in("shop")
    assert parse("Bob@shop").is_in("shop")
    assert not parse("Bob@depot").is_in("shop")
    assert not parse("Bob@").is_in("shop")
    assert not parse("Bob@SHOP").is_in("shop")


@pytest.mark.parametrize("project, asked, shown", [("shop", "shop", "Bob"), ("depot", "shop", "Bob@depot")])
def test_what_is_shown_means_the_same_to_who_reads_it(project: str, asked: str, shown: str) -> None:
    assert show("Bob", elsewhere(project, asked)) == shown
    assert parse(shown).is_in(asked) == (project == asked)


@pytest.mark.parametrize("name, expected", [("Overseer", True), ("SYSTEM", True), ("Systems", False), ("all", False)])
def test_overseer_and_system_are_known_in_any_case(name: str, expected: bool) -> None:
    assert is_service(name) is expected


@pytest.mark.parametrize(
    "asked, text, seen",
    [
        ("shop", "Bob", "Bob"),
        ("shop", "Bob@depot", "Bob@depot"),
        ("depot", "Bob", "Bob@shop"),
        ("depot", "Bob@depot", "Bob"),
        ("depot", "Bob@attic", "Bob@attic"),
        ("depot", "Bob@-deleted", "Bob@-deleted"),
    ],
)
def test_what_the_shop_writes_is_seen_from_elsewhere_as_it_is_written_there(asked: str, text: str, seen: str) -> None:
    assert seen_from(asked, "shop", text) == seen


def test_what_a_deleted_project_is_called_in_the_database_is_shown_to_nobody() -> None:
    assert show("Bob", "-deleted-0123456789abcdef") == "Bob@-deleted"


@pytest.mark.parametrize("text", ["FEAT-123", "a@b", "F" * 128 + "@" + "s" * 100])
def test_a_thread_may_be_of_another_project(text: str) -> None:
    assert TypeAdapter(ThreadRef).validate_python(text) == text


@pytest.mark.parametrize("text", ["", "@shop", "FEAT@", "FEAT@SHOP", "list", "LIST@shop", "a@b@c", "F" * 129, "a@b\n"])
def test_what_cannot_be_a_thread_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ThreadRef).validate_python(text)
