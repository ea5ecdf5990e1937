"""Arguments that are declared have an effect (SPEC §3.1), as far as one test can tell for all of them.

This proves that every argument of every operation is advertised, by MCP and by REST, is accepted over the wire, and is
read by the use case while a call is performed: none is declared and forgotten. It does not prove that the answer
depends on it in the right way: that is what the tests of each noun are for, and the last test here only sees that they
call every operation.
"""

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from agent_mail_core.fields import Request
from agent_mail_server.examples import EXAMPLES, Example
from agent_mail_server.operations import OPERATIONS, Operation
from tests.repo.sources import python_files, tree
from tests.wire.server import client_of, served

_SHOP = {"project_slug": "shop"}

MORE: dict[str, list[dict[str, Any]]] = {
    "register_agent": [{**_SHOP, "program": "p", "model": "m", "idempotency_key": "k"}],
}
"""Calls beside the examples, for arguments that are read only in the company of others."""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[tuple[type[Request], str]]:
    """Which fields of which requests are read by Python code, while the test runs."""
    seen: set[tuple[type[Request], str]] = set()
    for request_type in {operation.request_type for operation in OPERATIONS}:

        def look(self: Request, name: str, fields: Any = frozenset(request_type.model_fields)) -> Any:
            if name in fields:
                seen.add((type(self), name))
            return object.__getattribute__(self, name)

        monkeypatch.setattr(request_type, "__getattribute__", look, raising=False)
    return seen


async def test_every_declared_argument_is_read(fresh_sqlite: str, read: set[tuple[type[Request], str]]) -> None:
    async with served(fresh_sqlite, rate_limit_enabled=False) as server, client_of(server) as client:
        answers: dict[str, Any] = {}
        for example in EXAMPLES:
            filled = example.after(answers[example.taken_from].json()) if example.taken_from else example
            extra = [Example(example.operation, arguments) for arguments in MORE.get(example.operation, ())]
            for each in (filled, *extra):
                method, path, body = each.request()
                answers[example.operation] = await client.request(method, path, json=body)
                assert answers[example.operation].is_success, (each, answers[example.operation].text)
    unread = [
        (operation.name, field)
        for operation in OPERATIONS
        for field in operation.request_type.model_fields
        if (operation.request_type, field) not in read
    ]
    assert unread == []


async def test_every_declared_argument_is_advertised_by_rest(fresh_sqlite: str) -> None:
    async with served(fresh_sqlite) as server, client_of(server) as client:
        document = (await client.get("/openapi.json")).json()
    for operation in OPERATIONS:
        method, _, path = operation.routes[0].partition(" ")
        described = document["paths"][path][method.lower()]
        shown = {parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] != "header"}
        assert shown | _body_fields(document, described) == set(operation.request_type.model_fields), operation.name


def _body_fields(document: Any, described: Any) -> set[str]:
    schema = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema.get("properties", ()))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_has_contract_tests(operation: Operation) -> None:
    """Some test calls its use case on both engines. Over the wire its examples are performed, see `test_examples`."""
    assert operation.name in CALLED


def _used_names() -> Iterator[str]:
    for path in python_files("tests/contract"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


CALLED = frozenset(_used_names())
"""What the contract tests call, as a function or by its name."""
