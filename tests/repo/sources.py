"""The project's files as the checks of this folder see them."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE_FOLDERS = ("libs", "services", "migrations")


def python_files(*folders: str) -> list[Path]:
    """Every module below the folders, all source folders when none is named; sorted, relative to the root."""
    found = [path for folder in folders or SOURCE_FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert found, f"no module below {folders}: the layout has changed and this check sees nothing"
    return sorted(path.relative_to(ROOT) for path in found)


def tree(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of every absolute import, also of those inside functions."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."
