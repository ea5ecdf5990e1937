"""The OpenAPI 3.1 description of the REST operations, from the operations table and the models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent_mail_core.health import ready
from agent_mail_server.event_stream import FOLLOW
from agent_mail_server.examples import examples_of
from agent_mail_server.http_request import dumped
from agent_mail_server.operations import OPERATIONS, Operation
from agent_mail_server.reference import error_rows, group
from agent_mail_server.schemas import component_schemas

REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    400: "The request is not well-formed.",
    401: "A valid credential is needed.",
    403: "Refused.",
    404: "Something that the request names does not exist.",
    409: "What is stored does not allow it.",
    410: "The cursor is from before the database was restored.",
    413: "The body is too large.",
    422: "Some arguments are not valid; `data.errors` points to each.",
    429: "Too many requests or waiting calls.",
    500: "A fault of the server; its log has the cause under the request id.",
    503: "The server cannot answer now; try again, with the same idempotency_key if it was a write.",
}
_RETRIED = (429, 503)
DESCRIBED = (*OPERATIONS, FOLLOW)
"""What REST answers, in the order of the page."""


def openapi_json(version: str, needs_credential: bool, operations: Iterable[Operation] = DESCRIBED) -> bytes:
    """The description as JSON."""
    return dumped(openapi(version, needs_credential, operations))


def openapi(version: str, needs_credential: bool, operations: Iterable[Operation] = DESCRIBED) -> dict[str, Any]:
    """The description. An operation's id is its name."""
    operations = tuple(operations)
    models = {model for operation in operations for model in (operation.request_type, operation.result_type)}
    schemas = component_schemas(sorted(models, key=lambda model: model.__name__), REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        method, _, path = operation.routes[0].partition(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Agent Mail",
            "version": version,
            "summary": "Mail for coding agents: identities, inboxes, threads.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}] if needs_credential else [],
        "tags": [{"name": name} for name in dict.fromkeys(group(operation) for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _error_schema()},
            "responses": {f"Error{status}": _error_response(status) for status in _ERRORS},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    method, _, _ = operation.routes[0].partition(" ")
    schema = schemas.get(operation.request_type.__name__, {})
    answer: dict[str, Any] = {
        "description": "Done.",
        "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
        "content": _answer_content(operation),
    }
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.title,
        "description": operation.description,
        "tags": [group(operation)],
        "responses": {
            str(operation.status): answer,
            **{str(status): {"$ref": f"#/components/responses/Error{status}"} for status in _statuses(operation)},
        },
    }
    if operation.use_case is ready:
        described["responses"]["503"] = {**answer, "description": "Not ready."}
    if operation.is_public:
        described["security"] = []
    parameters = _parameters(operation, schema)
    if parameters:
        described["parameters"] = parameters
    if method == "POST":
        described["requestBody"] = _body(operation, schema)
    return described


def _answer_content(operation: Operation) -> dict[str, Any]:
    if operation.file_types:
        return {media_type: {} for media_type in operation.file_types}
    return {"application/json": {"schema": {"$ref": REFERENCE.format(model=operation.result_type.__name__)}}}


def _statuses(operation: Operation) -> list[int]:
    """The statuses of the errors that it may answer with."""
    takes_arguments = bool(operation.request_type.model_fields)
    wanted = {
        400: takes_arguments,
        401: not operation.is_public,
        403: not operation.is_public,
        404: takes_arguments,
        409: operation.is_write,
        410: "cursor" in operation.request_type.model_fields,
        413: operation.is_write,
        422: True,
        429: not operation.is_public,
        500: True,
        503: True,
    }
    return [status for status, is_wanted in wanted.items() if is_wanted]


def _parameters(operation: Operation, schema: dict[str, Any]) -> list[dict[str, Any]]:
    route = operation.routes[0]
    in_path = Operation.path_fields(route)
    in_query = [] if route.startswith("POST ") else list(schema.get("properties", {}))
    example = next((dict(example.arguments) for example in examples_of(operation.name)), {})
    parameters: list[dict[str, Any]] = []
    for name in dict.fromkeys([*in_path, *in_query]):
        field = dict(schema["properties"][name])
        parameter = {"name": name, "in": "path" if name in in_path else "query", "schema": field}
        if name in in_path or name in schema.get("required", ()):
            parameter["required"] = True
        if "description" in field:
            parameter["description"] = field.pop("description")
        if name in example:
            parameter["example"] = example[name]
        parameters.append(parameter)
    if operation.takes_key:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same as `idempotency_key` in the body.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 128},
            }
        )
    if operation is FOLLOW:
        parameters.append(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The same as `last_event_id`; clients of event streams send it by themselves.",
                "schema": {"type": "string"},
            }
        )
    return parameters


def _body(operation: Operation, schema: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": REFERENCE.format(model=operation.request_type.__name__)}}
    examples = examples_of(operation.name)
    if examples:
        content["example"] = examples[0].request()[2]
    return {"required": bool(schema.get("required")), "content": {"application/json": content}}


def _error_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "data", "request_id"],
                "properties": {
                    "code": {"type": "string", "enum": [row.code for row in error_rows()]},
                    "message": {"type": "string", "description": "One sentence on what is wrong and what to do."},
                    "data": {
                        "type": "object",
                        "description": "Facts; `suggestion` says what to call next, `errors` points at arguments.",
                    },
                    "request_id": {"type": "string", "description": "Also in X-Request-Id and in the server's log."},
                },
            }
        },
    }


def _error_response(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="Error")}}},
    }
    if status in _RETRIED:
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}
    return response
