"""From what a client sent to a checked request."""

from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.errors import Invalid, MalformedRequest
from agent_mail_server.arguments import MOST_CONTAINERS, parse_json, read_object, read_query
from agent_mail_server.operations import BY_NAME

SEND = BY_NAME["send_message"]
INBOX = BY_NAME["check_inbox"]
GET_MESSAGE = BY_NAME["get_message"]
MAIL = {"project_slug": "shop", "sender_name": "A", "recipient_names": ["B"], "subject": "s", "body_md": "b"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def problems(operation: Any, arguments: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as refused:
        read_object(operation, arguments)
    return [(problem["pointer"], problem["type"]) for problem in refused.value.data.get("errors", [])]


# --- JSON -------------------------------------------------------------------------------------------------------------


@given(json_values)
def test_json_is_read_as_it_is(value: Any) -> None:
    assert parse_json(orjson.dumps(value), 64) == value


@given(st.integers(1, 40), st.integers(8, 20), st.booleans())
def test_depth_is_counted_in_brackets(depth: int, limit: int, in_objects: bool) -> None:
    body = b'{"a":' * depth + b"1" + b"}" * depth if in_objects else b"[" * depth + b"]" * depth
    if depth <= limit:
        assert parse_json(body, limit) is not None
        return
    with pytest.raises(MalformedRequest):
        parse_json(body, limit)


def test_many_shallow_brackets_are_fine() -> None:
    lists = [b"[]"] * (MOST_CONTAINERS - 1)
    assert len(parse_json(b"[" + b",".join(lists) + b"]", 8)) == len(lists)


@pytest.mark.parametrize("piece", [b"[]", b"{}", b'{"a": 1}', b'"\\"[", []'])
def test_a_body_has_only_so_many_lists_and_objects(piece: bytes) -> None:
    with pytest.raises(MalformedRequest, match="lists and objects"):
        parse_json(b"[" + b",".join([piece] * MOST_CONTAINERS) + b"]", 8)


@pytest.mark.parametrize("text", ["[{", '"[', '\\"{', "\\[", "\n[\u2028"])
def test_brackets_in_a_text_are_no_lists(text: str) -> None:
    body = {"body_md": text * MOST_CONTAINERS, "again": [text]}
    assert parse_json(orjson.dumps(body), 8) == body


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nul", b'{"a":NaN}', b'"\xff"', b'"\\ud800"', b"{} {}", b"[1,]", b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_json(body, 64)


# --- objects ----------------------------------------------------------------------------------------------------------


def test_each_problem_has_a_pointer() -> None:
    wrong = {**MAIL, "subject": "", "recipient_names": ["ok", 7], "ack_required": "yes"}
    assert problems(SEND, wrong) == [
        ("/recipient_names/1", "string_type"),
        ("/subject", "string_too_short"),
        ("/ack_required", "bool_type"),
    ]


@pytest.mark.parametrize(
    "operation, name, value, words",
    [
        ("ensure_product", "name", "", "String should have at least 1 character"),
        ("ensure_product", "name", "x" * 101, "String should have at most 100 characters"),
        ("acquire_build_slot", "slot_name", "x" * 129, "String should have at most 128 characters"),
        ("add_attachment", "content_base64", 7, "Input should be a valid string"),
        ("mark_read", "message_ids", [], "List should have at least 1 item after validation, not 0"),
    ],
)
def test_a_problem_with_a_text_is_told_as_one(operation: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_object(BY_NAME[operation], {name: value})
    told = {problem["pointer"]: problem["message"] for problem in refused.value.data["errors"]}
    assert told[f"/{name}"] == words


def test_types_are_not_converted() -> None:
    assert problems(GET_MESSAGE, {"message_id": "1"}) == [("/message_id", "int_type")]
    assert problems(GET_MESSAGE, {"message_id": 1.0}) == [("/message_id", "int_type")]
    assert problems(GET_MESSAGE, {"message_id": True}) == [("/message_id", "int_type")]


def test_an_unknown_argument_is_named_with_the_one_it_resembles() -> None:
    with pytest.raises(Invalid) as refused:
        read_object(SEND, {**MAIL, "subjct": "s", "a/b~c": 1})
    first, second = refused.value.data["errors"]
    assert (first["pointer"], first["suggestion"]) == ("/subjct", "subject")
    assert second["pointer"] == "/a~1b~0c"
    assert "subject" in refused.value.message


def test_no_value_is_echoed() -> None:
    for wrong in (
        {**MAIL, "subject": ["secret-value"]},
        {**MAIL, "priority": "secret-value"},
        {**MAIL, "x": "secret-value"},
    ):
        with pytest.raises(Invalid) as refused:
            read_object(SEND, wrong)
        assert "secret-value" not in str(refused.value.data) + refused.value.message


def test_long_and_many_names_give_a_short_error() -> None:
    with pytest.raises(Invalid) as refused:
        read_object(SEND, {**{f"x{number}": 1 for number in range(5000)}, "y" * 100_000: 1})
    assert len(orjson.dumps(refused.value.data)) + len(refused.value.message) < 6000


@pytest.mark.parametrize("arguments", [None, [], "x", 1])
def test_arguments_are_an_object(arguments: Any) -> None:
    assert problems(SEND, arguments) == []


# --- aliases ----------------------------------------------------------------------------------------------------------


def test_aliases_are_read_as_their_arguments() -> None:
    ported = {
        "project_key": "shop",
        "sender_name": "A",
        "to": "B, C",
        "cc": ["D"],
        "subject": "s",
        "body_md": "b",
        "importance": 2,
    }
    request: Any = read_object(SEND, ported)
    assert (request.project_slug, request.recipient_names, request.cc_names) == ("shop", ["B", "C"], ["D"])
    assert request.priority == "urgent"


def test_an_alias_beside_its_argument_is_refused() -> None:
    assert problems(SEND, {**MAIL, "to": "C"}) == [("/to", "unknown_argument")]


def test_an_alias_counts_only_where_its_argument_exists() -> None:
    assert problems(BY_NAME["list_projects"], {"project_key": "shop"}) == [("/project_key", "unknown_argument")]


def test_agent_name_is_an_alias_for_register_agent_alone() -> None:
    request: Any = read_object(
        BY_NAME["register_agent"], {"project_slug": "s", "program": "p", "model": "m", "agent_name": "A"}
    )
    assert request.name == "A"
    inbox: Any = read_object(INBOX, {"project_slug": "s", "agent_name": "A"})
    assert inbox.agent_name == "A"


# --- queries ----------------------------------------------------------------------------------------------------------


def query(**arguments: Any) -> bytes:
    return urlencode(arguments, doseq=True).encode()


def test_texts_become_the_types_of_the_arguments() -> None:
    texts = query(project_slug="shop", agent_name="A", limit="5", unread_only="true", since="2026-11-22T13:41:00Z")
    request: Any = read_query(INBOX, texts, {})
    assert (request.limit, request.unread_only, request.since.year) == (5, True, 2026)


@pytest.mark.parametrize(
    "name, text",
    [
        ("limit", "x"),
        ("limit", "5.5"),
        ("limit", ""),
        ("limit", "1e2"),
        ("limit", "٣" * 30),
        ("unread_only", "perhaps"),
        ("since", "2026-11-22"),
        ("since", "1700000000"),
        ("min_priority", "huge"),
        ("cursor", ""),
        ("thread_id", "a b"),
    ],
)
def test_a_text_that_does_not_fit_is_pointed_at(name: str, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_query(INBOX, query(project_slug="shop", agent_name="A", **{name: text}), {})
    assert refused.value.data["errors"][0]["pointer"] == f"/{name}"


def test_path_and_query_make_one_request() -> None:
    request: Any = read_query(GET_MESSAGE, b"project_slug=shop", {"message_id": "7"})
    assert (request.message_id, request.project_slug) == (7, "shop")
    with pytest.raises(Invalid):
        read_query(GET_MESSAGE, b"message_id=8", {"message_id": "7"})


def test_plus_and_percent_are_decoded_once() -> None:
    request: Any = read_query(BY_NAME["search_messages"], b"query=a+b%2Bc%2525", {})
    assert request.query == "a b+c%25"


@given(st.binary(max_size=40))
def test_any_query_is_a_request_or_a_coded_error(raw: bytes) -> None:
    try:
        read_query(INBOX, raw, {})
    except (Invalid, MalformedRequest) as error:
        assert error.code in ("invalid_arguments", "malformed_request")
