"""Rows of what happens behind requests: they have a cluster of their own, and drive it from this process.

No load process: either nothing is asked while the time is taken, or at a steady rate that leaves the generator idle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.archive import archive_lag, archived_backlog
from bench.report import Figures
from bench.searching import searches
from bench.setting import Setting
from bench.summaries import summaries


@dataclass(frozen=True)
class Background:
    """One or several rows of the table."""

    measure: Callable[[Setting], Iterable[Figures]]
    engine: str = "cluster"


BACKGROUND: Mapping[str, Background] = {
    "archive": Background(lambda setting: archived_backlog(setting, projects=1)),
    "archive-10": Background(lambda setting: archived_backlog(setting, projects=10)),
    "archive-lag": Background(archive_lag),
    "search-modes": Background(searches),
    "search-modes-alone": Background(searches, "sqlite"),
    "summary": Background(summaries),
    "summary-alone": Background(summaries, "sqlite"),
}
