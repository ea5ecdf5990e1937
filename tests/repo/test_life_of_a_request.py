"""The tour for newcomers names files and things that are there, and shows code as it stands."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.repo.sources import ROOT

DOCUMENT = ROOT / "docs" / "life-of-a-request.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
STATION = re.compile(r"^In \[`([^`]+)`\]\(([^)]+)\): (.+)\.$", re.MULTILINE)
STATIONS = [(path, link, re.findall(r"`([^`]+)`", names)) for path, link, names in STATION.findall(TEXT)]


def defined(path: str) -> set[str]:
    """What a module defines, methods and fields as `Class.name`; what a SQL file creates."""
    source = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".sql"):
        return set(re.findall(r"^CREATE (?:VIRTUAL )?TABLE (\w+)", source, re.MULTILINE))
    return set(_names(ast.parse(source), ""))


def _names(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for part in node.body:
        if isinstance(part, ast.ClassDef):
            yield prefix + part.name
            yield from _names(part, f"{prefix}{part.name}.")
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + part.name
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            yield prefix + part.target.id
        elif isinstance(part, ast.Assign):
            yield from (prefix + target.id for target in part.targets if isinstance(target, ast.Name))


def test_the_tour_has_its_stations() -> None:
    assert TEXT.count("\nIn [") == len(STATIONS) >= 6


@pytest.mark.parametrize("path, link, names", STATIONS, ids=[path for path, _, _ in STATIONS])
def test_a_station_names_what_is_there(path: str, link: str, names: list[str]) -> None:
    assert (DOCUMENT.parent / link).resolve() == ROOT / path
    assert names
    assert [name for name in names if name not in defined(path)] == []


def bare(line: str) -> str:
    """A line without its indentation, and SQL without the quotes that Python puts around it."""
    return line.strip(' ",')


def test_code_is_shown_as_it_stands() -> None:
    """Every line of a Python or SQL block is a line of one of the stations' files."""
    sources = [(ROOT / path).read_text(encoding="utf-8") for path, _, _ in STATIONS]
    lines = {bare(line) for source in sources for line in source.splitlines()}
    blocks = re.findall(r"^```(?:python|sql)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    shown = [bare(line) for block in blocks for line in block.splitlines() if bare(line)]
    assert shown
    assert [line for line in shown if line not in lines] == []
