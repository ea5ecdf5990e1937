"""What a text, a name, a key, a time may be; each rule by examples on both sides of its line."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from agent_mail_core.fields import (
    BODY_LIMIT,
    Address,
    AgentName,
    Body,
    Cursor,
    Description,
    HumanKey,
    Id,
    IdempotencyKey,
    Line,
    NewAgentName,
    PageSize,
    Priority,
    PriorityRank,
    Profile,
    Request,
    Slug,
    Subject,
    Text,
    ThreadKey,
    Timestamp,
)


class Arguments(Request):
    """One argument of every kind."""

    text: Text | None = None
    line: Line | None = None
    human_key: HumanKey | None = None
    slug: Slug | None = None
    new_name: NewAgentName | None = None
    name: AgentName | None = None
    address: Address | None = None
    thread: ThreadKey | None = None
    subject: Subject | None = None
    profile: Profile | None = None
    description: Description | None = None
    message_id: Id | None = None
    limit: PageSize | None = None
    cursor: Cursor | None = None
    key: IdempotencyKey | None = None
    at: Timestamp | None = None
    body: Body | None = None
    priority: Priority | None = None


def read(field: str, value: Any) -> Any:
    return getattr(Arguments.model_validate({field: value}), field)


GOOD: list[tuple[str, Any]] = [
    ("text", "two\nlines\tand \x1b"),
    ("line", ""),
    ("line", "é 東京 👍🏽 \u202e"),
    ("human_key", "x" * 1024),
    ("slug", "a"),
    ("slug", "a" * 100),
    ("slug", "a-b--c1"),
    ("new_name", "A"),
    ("new_name", "a" * 64),
    ("new_name", "0_-"),
    ("new_name", "Alliance"),
    ("name", "anything at all, it is only looked up"),
    ("address", "Bob@some-slug"),
    ("address", "x" * 170),
    ("thread", "FEAT-123"),
    ("thread", "a.b:c_d-e"),
    ("thread", "x" * 128),
    ("thread", "listing"),
    ("subject", "x" * 200),
    ("subject", "😀" * 200),
    ("subject", "\u200ba"),
    ("subject", "❤\ufe0f"),
    ("profile", "x" * 128),
    ("description", "x" * 4000),
    ("description", "two\nlines"),
    ("message_id", 1),
    ("message_id", 2**53 - 1),
    ("limit", 1),
    ("limit", 100),
    ("cursor", "x" * 2048),
    ("key", "x" * 128),
    ("key", "any ✓ text"),
    ("body", ""),
    ("body", "x" * BODY_LIMIT),
    ("body", "é" * (BODY_LIMIT // 2)),
    ("body", "😀" * (BODY_LIMIT // 4)),
    ("body", "\r\n\t\x1b[0m"),
    ("priority", "low"),
]


@pytest.mark.parametrize("field, value", GOOD)
def test_it_is_taken_as_it_is(field: str, value: Any) -> None:
    assert read(field, value) == value


BAD: list[tuple[str, Any]] = [
    *(
        (field, value)
        for field in ("text", "line", "human_key", "name", "subject", "body")
        for value in ("\x00", "a\x00b")
    ),
    *((field, "\ud800") for field in ("text", "line", "human_key", "name", "subject", "body", "key", "description")),
    *(
        (field, f"a{control}b")
        for field in ("line", "subject", "key", "address", "profile")
        for control in "\n\r\t\x1b\x7f\x85\u2028\u2029"
    ),
    *((field, 5) for field in ("text", "line", "human_key", "slug", "subject", "body", "key", "cursor")),
    ("human_key", ""),
    ("human_key", "   "),
    ("human_key", "x" * 1025),
    ("human_key", "\u0958" * 1000),  # twice as long once normalized
    ("slug", ""),
    ("slug", "-a"),
    ("slug", "a-"),
    ("slug", "A"),
    ("slug", "a_b"),
    ("slug", "a\n"),
    ("slug", "a" * 101),
    ("new_name", ""),
    ("new_name", "_a"),
    ("new_name", "-a"),
    ("new_name", "a b"),
    ("new_name", "a@b"),
    ("new_name", "é"),
    ("new_name", "a\n"),
    ("new_name", "a" * 65),
    *(("new_name", name) for name in ("Overseer", "system", "ALL", "everyone", "Me")),
    ("name", ""),
    ("name", "x" * 65),
    ("address", ""),
    ("address", "x" * 171),
    ("thread", ""),
    ("thread", ".a"),
    ("thread", "a b"),
    ("thread", "a/b"),
    ("thread", "a\n"),
    ("thread", "x" * 129),
    *(("thread", key) for key in ("list", "Search", "SUMMARIZE")),
    ("subject", ""),
    ("subject", " \u3000"),
    *(
        (field, unseen)
        for field in ("subject", "profile", "human_key")
        for unseen in ("\u200b", "\u2060 \ufeff", "\u00ad", "\u3164", "\u2800\uffa0", "\ufe0f", "\u034f", "\U000e0041")
    ),
    ("subject", "x" * 201),
    ("profile", ""),
    ("profile", " "),
    ("profile", "x" * 129),
    ("description", "x" * 4001),
    ("description", "\x00"),
    *(("message_id", value) for value in (0, -1, 2**53, 10**30, "1", 1.0, True)),
    *(("limit", value) for value in (0, 101, -1, "20", 20.0, True)),
    ("cursor", ""),
    ("cursor", "x" * 2049),
    ("key", ""),
    ("key", "x" * 129),
    ("body", "x" * (BODY_LIMIT + 1)),
    ("body", "é" * (BODY_LIMIT // 2 + 1)),
    *(("priority", value) for value in ("Low", "", "highest", -2, 3, 1.0, True, "3", "1.0")),
    *(
        ("at", value)
        for value in (
            "2026-11-22",
            "2026-11-22T13:41:00",
            "2026-11-22T13:41Z",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-11-22T24:00:01Z",
            "20261122T134100Z",
            "2026-11-22T13:41:00+0100",
            "now",
            "",
            1_700_000_000,
            1.5,
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone, as it is to be refused
        )
    ),
]


@pytest.mark.parametrize("field, value", BAD)
def test_it_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        read(field, value)
    assert refused.value.errors()[0]["loc"][0] == field


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ValidationError):
        Arguments.model_validate({"lime": "x"})


def test_a_refusal_does_not_echo_the_input() -> None:
    with pytest.raises(ValidationError) as refused:
        read("key", "secret\n")
    assert "secret" not in str(refused.value)


def test_requests_do_not_change() -> None:
    arguments = Arguments(line="x")
    with pytest.raises(ValidationError):
        arguments.line = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    "key, normal",
    [("/code/shop/", "/code/shop"), ("/code/shop///", "/code/shop"), ("/", "/"), ("//", "/"), ("cafe\u0301", "café")],
)
def test_keys_have_one_spelling(key: str, normal: str) -> None:
    assert read("human_key", key) == normal


@pytest.mark.parametrize("number, word", [(-1, "low"), (0, "normal"), (1, "high"), (2, "urgent")])
def test_priorities_are_read_as_the_seeds_integers_too(number: int, word: str) -> None:
    assert read("priority", number) == word
    assert PriorityRank[word] == number


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2026-11-22T13:41:00Z", datetime(2026, 11, 22, 13, 41, tzinfo=UTC)),
        ("2026-11-22t13:41:00z", datetime(2026, 11, 22, 13, 41, tzinfo=UTC)),
        ("2026-11-22 13:41:00Z", datetime(2026, 11, 22, 13, 41, tzinfo=UTC)),
        ("2026-11-22T13:41:00.5Z", datetime(2026, 11, 22, 13, 41, 0, 500_000, tzinfo=UTC)),
        ("2026-11-22T13:41:00.123456789Z", datetime(2026, 11, 22, 13, 41, 0, 123_456, tzinfo=UTC)),
        ("2026-11-22T13:41:00+01:30", datetime(2026, 11, 22, 12, 11, tzinfo=UTC)),
        ("2026-11-22T13:41:00-00:00", datetime(2026, 11, 22, 13, 41, tzinfo=UTC)),
    ],
)
def test_times_are_rfc_3339_and_become_utc(text: str, expected: datetime) -> None:
    at = read("at", text)
    assert at == expected
    assert at.tzinfo is UTC


def test_times_are_read_alike_from_json_text_and_python() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Arguments)
    at = datetime(2026, 11, 22, 13, 41, tzinfo=UTC)
    assert adapter.validate_json('{"at": "2026-11-22T13:41:00Z"}').at == at
    assert adapter.validate_strings({"at": "2026-11-22T13:41:00Z"}).at == at
    assert adapter.validate_python({"at": at}).at == at
