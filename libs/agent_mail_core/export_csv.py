"""Exports as CSV (RFC 4180) that no spreadsheet takes for formulas, and that gives back exactly what went in.

A cell that begins with a character that starts a formula, or with an apostrophe, gets an apostrophe before it (OWASP,
CSV injection). To undo it, take one leading apostrophe off each cell that has one: `unguarded`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def guarded(cell: str) -> str:
    """The cell as it is written."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_STARTS_A_FORMULA) else cell


def unguarded(cell: str) -> str:
    """The cell as it was before `guarded`."""
    if cell.startswith("'"):
        return cell[1:]
    return cell


def csv_line(cells: Iterable[str]) -> str:
    """One record, every cell quoted and guarded."""
    line = io.StringIO(newline="")
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow([guarded(cell) for cell in cells])
    return line.getvalue()
