"""The operations, their arguments and the errors in words: what /docs shows and docs/*.md is written from."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agent_mail_core.errors import AgentMailError
from agent_mail_core.ids import LARGEST_ID
from agent_mail_server.errors import STATUS_AND_EXIT
from agent_mail_server.operations import OPERATIONS, Operation
from agent_mail_server.schemas import request_schema

_GROUPS = {
    "health": "Server",
    "ready": "Server",
    "metrics": "Server",
    "project": "Projects",
    "agent": "Agents",
    "message": "Mail",
    "inbox": "Mail",
    "outbox": "Mail",
    "overseer": "Mail",
    "thread": "Threads",
    "contact": "Contacts",
    "file": "File reservations",
    "build": "Build slots",
    "product": "Products",
    "session": "Sessions",
    "review": "Reviews",
    "attachment": "Attachments",
    "activity": "Activity and archive",
    "events": "Activity and archive",
    "archive": "Activity and archive",
    "webhook": "Webhooks",
    "admin": "Administration",
}
"""By the first part of the path, `/api` apart. One that is not here is a mistake."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an operation."""

    name: str
    place: str
    """path, query or body."""
    type: str
    limits: str
    is_required: bool
    default: str | None
    description: str


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One error code."""

    code: str
    status: int
    exit_code: int
    meaning: str


def group(operation: Operation) -> str:
    """Under which heading it stands."""
    path = operation.routes[0].partition(" ")[2]
    return _GROUPS[path.removeprefix("/api").split("/")[1]]


def grouped(operations: Iterable[Operation] = OPERATIONS) -> dict[str, list[Operation]]:
    """All operations by heading, in the table's order."""
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(group(operation), []).append(operation)
    return groups


def arguments(operation: Operation) -> list[Argument]:
    """Its arguments as its request model has them."""
    route = operation.routes[0]
    in_path = Operation.path_fields(route)
    place = "body" if route.startswith("POST ") else "query"
    schema = request_schema(operation.request_type)
    required = schema.get("required", [])
    return [
        Argument(
            name=name,
            place="path" if name in in_path else place,
            type=type_of(described),
            limits=limits_of(described),
            is_required=name in required,
            default=_default(described),
            description=described.get("description", ""),
        )
        for name, described in schema.get("properties", {}).items()
    ]


def type_of(schema: dict[str, Any]) -> str:
    """A JSON schema's type in a word or two."""
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(type_of(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}s"
    return "time" if schema.get("format") == "date-time" else str(schema.get("type", "any"))


def limits_of(schema: dict[str, Any]) -> str:
    """A JSON schema's bounds in words."""
    texts = []
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ):
        least, most = schema.get(low), schema.get(high)
        above = schema.get("exclusiveMinimum") if low == "minimum" else None
        if above is not None:
            texts.append(f"more than {_number(above)}")
        if least is not None and least == most:
            texts.append(f"{_number(least)}{unit}")
        elif least is not None and most is not None:
            texts.append(f"{_number(least)} to {_number(most)}{unit}")
        elif most is not None:
            texts.append(f"at most {_number(most)}{unit}")
        elif least is not None:
            texts.append(f"at least {_number(least)}{unit}")
    if "pattern" in schema:
        texts.append(schema["pattern"])
    if schema.get("type") == "array":
        texts += [f"{text} each" for text in (limits_of(schema.get("items", {})),) if text]
    return "; ".join(texts)


def _number(value: float) -> str:
    return f"{value:,.10g}" if abs(value) < LARGEST_ID else "2⁵³ − 1"


def _default(schema: dict[str, Any]) -> str | None:
    value = schema.get("default")
    if value is None or value == []:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def error_rows() -> list[ErrorRow]:
    """Every error code once, by status, then by code. Of classes that share one the first in the tree explains it."""
    rows: dict[str, ErrorRow] = {}
    for error in _tree(AgentMailError):
        status, exit_code = STATUS_AND_EXIT[error.kind]
        meaning = inspect.getdoc(error) or ""
        rows.setdefault(error.code, ErrorRow(error.code, status, exit_code, meaning))
    return sorted(rows.values(), key=lambda row: (row.status, row.code))


def _tree(error: type[AgentMailError]) -> Iterator[type[AgentMailError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)
