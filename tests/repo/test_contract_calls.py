"""Each operation's use case is called by contract tests, which run on both engines.

By its name, or through a method that is given the operation's name. A name that only stands in a list calls nothing.
What the calls must come to is the tests' own matter.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_mail_server.operations import OPERATIONS, Operation
from tests.repo.sources import python_files, tree

ONE_ENGINE = ("test_sqlite_", "test_postgres_", "test_pooled_")
"""Beginnings of files whose tests run on one engine alone."""

BY_NAME = frozenset({"call", "ask", "answer"})
"""Methods that call the operation whose name is their first argument: those of `Office` and of what is built on it."""


def calls_of(module: ast.Module) -> Iterator[str]:
    """Names of functions that a module calls, and of operations that it has called by their name."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node.func, ast.Attribute) and node.func.attr in BY_NAME and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def contract_modules() -> Iterator[Path]:
    """Those that both engines run."""
    yield from (path for path in python_files("tests/contract") if not path.name.startswith(ONE_ENGINE))


CALLED = frozenset(name for path in contract_modules() for name in calls_of(tree(path)))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_called_by_contract_tests(operation: Operation) -> None:
    assert operation.name in CALLED


def test_a_name_that_is_not_called_does_not_count() -> None:
    listed = 'NAMES = ["health", ready]\nprint("metrics")\noffice.send("whois")\n'
    assert set(calls_of(ast.parse(listed))) == {"print"}
    called = 'await ready(app)\nawait office.call("whois", name="Ann")\nawait place.ask("health")\n'
    assert set(calls_of(ast.parse(called))) == {"ready", "whois", "health"}


def test_those_that_call_by_name_do() -> None:
    """Each such method of the contract tests passes its first argument on, or looks it up in the operations table."""
    found = 0
    for path in python_files("tests/contract"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.AsyncFunctionDef) and node.name in BY_NAME:
                parameters = [argument.arg for argument in node.args.args if argument.arg != "self"]
                if "operation" in parameters:
                    text = ast.unparse(node)
                    assert "BY_NAME[operation]" in text or "(operation" in text, path
                    found += 1
    assert found >= 2
