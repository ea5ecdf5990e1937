"""From what a client sent to a checked request: the one way in for REST and MCP.

Whatever is wrong becomes one error that lists every problem with a JSON pointer; nothing is guessed, and nothing of the
input is echoed but names of arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agent_mail_core.errors import Invalid, MalformedRequest
from agent_mail_core.fields import Request
from agent_mail_core.suggestions import near_names
from agent_mail_server.aliases import resolve_aliases
from agent_mail_server.operations import Operation

MAX_QUERY_FIELDS = 1200
MAX_PROBLEMS = 20
MOST_CONTAINERS = 5000
"""Lists and objects of a body. Of 1 MiB of empty lists Python makes 350,000 objects, in more than a second."""

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A string in JSON; one without an end goes to the body's, so that no byte is looked at twice."""


def parse_json(body: bytes, max_depth: int) -> Any:
    """The JSON value of a body in UTF-8.

    Raises MalformedRequest for what is none, nests deeper than `max_depth`, or has more than MOST_CONTAINERS.
    """
    brackets = _brackets(body)
    if brackets > MOST_CONTAINERS and _brackets(STRING.sub(b"", body)) > MOST_CONTAINERS:
        raise MalformedRequest(f"The body has more than {MOST_CONTAINERS} lists and objects.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"The body is not valid JSON in UTF-8: {error.msg}.") from None
    except RecursionError:
        raise MalformedRequest("The body nests too deep.", max_depth=max_depth) from None
    # Only a body with that many brackets can be that deep.
    if brackets > max_depth and _is_deeper_than(value, max_depth):
        raise MalformedRequest(f"The body nests deeper than {max_depth} levels.", max_depth=max_depth)
    return value


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _is_deeper_than(value: Any, depth: int) -> bool:
    level: list[Any] = [value]
    for _ in range(depth):
        level = [child for item in level for child in _children(item) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_object(operation: Operation, arguments: Any) -> Request:
    """Arguments given as a JSON value; types are taken as they are, never converted. Raises Invalid."""
    if not isinstance(arguments, dict):
        raise Invalid("Arguments must be a JSON object.")
    named = _named(operation, arguments)
    try:
        validated: Request = operation.request_type.__pydantic_validator__.validate_python(named)
        return validated
    except ValidationError as error:
        raise _invalid(operation, error) from None


def read_query(operation: Operation, query: bytes, path_values: Mapping[str, str]) -> Request:
    """Arguments given as texts, in query string and path; a list is repeated. Raises Invalid, MalformedRequest."""
    try:
        pairs = (
            parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
            if query
            else []
        )
    except UnicodeDecodeError:
        raise MalformedRequest("The query string is not percent-encoded UTF-8.") from None
    except ValueError:
        raise MalformedRequest(f"The query string has more than {MAX_QUERY_FIELDS} fields.") from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    for name in path_values.keys() & values.keys():
        raise Invalid(
            f"{name} stands in the path already.", errors=[_problem(f"/{name}", "stands in the path", "twice")]
        )
    named = _named(operation, {**values, **{name: [value] for name, value in path_values.items()}})
    fields = operation.request_type.model_fields
    texts: dict[str, Any] = {}
    for name, given in named.items():
        is_list = name in fields and "list[" in str(fields[name].annotation)
        if not is_list and len(given) > 1:
            raise Invalid(f"{name} is given more than once.", errors=[_problem(f"/{name}", "given twice", "twice")])
        texts[name] = given if is_list else given[0]
    try:
        if any(isinstance(given, list) for given in texts.values()):
            # Pydantic's reading of texts knows no lists; without strictness it converts texts the same way.
            return operation.request_type.model_validate(texts, strict=False)
        return operation.request_type.model_validate_strings(texts)
    except ValidationError as error:
        raise _invalid(operation, error) from None


def _named(operation: Operation, arguments: dict[str, Any]) -> dict[str, Any]:
    fields = operation.request_type.__pydantic_fields__
    if arguments.keys() <= fields.keys():
        return arguments
    named = resolve_aliases(operation.name, set(fields), arguments)
    unknown = [name for name in named if name not in fields]
    if unknown:
        problems = []
        for name in unknown[:MAX_PROBLEMS]:
            near = near_names(name, fields, limit=1)
            hint = f"unknown argument; did you mean {near[0]}?" if near else "unknown argument"
            problems.append(_problem(f"/{_pointer_part(name[:100])}", hint, "unknown_argument", *near))
        known = ", ".join(fields) or "none"
        raise Invalid(f"{operation.name} has no argument {unknown[0][:100]!r}; it takes: {known}.", errors=problems)
    return named


def _pointer_part(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _problem(pointer: str, message: str, kind: str, suggestion: str | None = None) -> dict[str, str]:
    problem = {"pointer": pointer, "message": message, "type": kind}
    if suggestion is not None:
        problem["suggestion"] = suggestion
    return problem


def problem_words(item: ErrorDetails) -> str:
    """What is wrong with an argument.

    Pydantic speaks of items where the length of a text is checked after a function of ours, and of bytes for base64.
    """
    context = item.get("ctx", {})
    match item["type"], context.get("field_type"):
        case "too_short", "Value":
            count = context["min_length"]
            return f"String should have at least {count} character{'s' if count > 1 else ''}"
        case "too_long", "Value":
            return f"String should have at most {context['max_length']} characters"
        case "bytes_type", _:
            return "Input should be a valid string"
        case _:
            return item["msg"].removeprefix("Value error, ")


def _invalid(operation: Operation, error: ValidationError) -> Invalid:
    problems = [
        _problem(
            "".join(f"/{_pointer_part(part)}" for part in item["loc"]),
            problem_words(item),
            item["type"],
        )
        for item in error.errors(include_url=False, include_input=False)[:MAX_PROBLEMS]
    ]
    first = problems[0]
    where = first["pointer"].lstrip("/") or "arguments"
    return Invalid(f"{operation.name}: {where}: {first['message']}", errors=problems)
