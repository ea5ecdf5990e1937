"""Layout rules of the sources that no linter checks (STYLE 2 to 6)."""

import ast
import sys

from tests.repo.sources import ROOT, imports, python_files, tree

LONGEST_FILE = 500
# pydantic_core is pydantic's own other half.
CORE_MAY_IMPORT = sys.stdlib_module_names | {"agent_mail_core", "pydantic", "pydantic_core"}
# The store itself, and the core whose use cases open its transactions.
MAY_CALL_THE_STORE = ("agent_mail_core", "agent_mail_store")


def test_init_files_hold_a_docstring_and_nothing_else() -> None:
    wrong = []
    for path in python_files(*("libs", "services", "migrations", "tests")):
        if path.name == "__init__.py":
            module = tree(path)
            if ast.get_docstring(module) is None or len(module.body) != 1:
                wrong.append(str(path))
    assert wrong == []


def test_every_module_has_a_docstring() -> None:
    assert [str(path) for path in python_files() if not ast.get_docstring(tree(path))] == []


def test_no_file_is_over_500_lines() -> None:
    lengths = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_the_core_imports_the_standard_library_and_pydantic_alone() -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for path in python_files("libs/agent_mail_core")
        for line, name in imports(tree(path))
        if name.split(".")[0] not in CORE_MAY_IMPORT or name.split(".")[0] == "sqlite3"
    ]
    assert wrong == []


def test_only_the_core_opens_a_transaction_of_the_store() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path in python_files()
        if path.parts[1] not in MAY_CALL_THE_STORE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and _is_store_transaction(node.func)
    ]
    assert wrong == []


def _is_store_transaction(function: ast.expr) -> bool:
    """`store.read`, `app.store.write`, `self._store.read` …, whatever the path to the store."""
    if not (isinstance(function, ast.Attribute) and function.attr in {"read", "write"}):
        return False
    owner = function.value
    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    return name.strip("_").endswith("store")


def test_use_cases_and_port_methods_have_docstrings() -> None:
    """A use case's is its tool's description, a port method's the contract that the contract tests prove."""
    wrong = []
    for path in python_files("libs/agent_mail_core"):
        for node in tree(path).body:
            if isinstance(node, ast.AsyncFunctionDef) and [a.arg for a in node.args.args[:2]] == ["app", "caller"]:
                described = [node]
            elif isinstance(node, ast.ClassDef) and any(_is_protocol(base) for base in node.bases):
                described = [part for part in node.body if isinstance(part, ast.AsyncFunctionDef)]
            else:
                continue
            wrong += [
                f"{path}:{f.lineno} {f.name}"
                for f in described
                if not f.name.startswith("_") and not ast.get_docstring(f)
            ]
    assert wrong == []


def _is_protocol(base: ast.expr) -> bool:
    return isinstance(base, ast.Name) and base.id == "Protocol"
