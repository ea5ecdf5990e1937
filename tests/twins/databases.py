"""Pairs of migrated, empty databases: copies of templates that are migrated once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.servers import query, with_database


@dataclass
class Pairs:
    """Makes them, and removes each when its block ends."""

    folder: Path
    sqlite_template: Path
    postgres_url: str
    """Its administrator's."""
    postgres_template: str

    def __post_init__(self) -> None:
        self._numbers = count()

    @contextmanager
    def fresh(self) -> Iterator[tuple[str, str]]:
        """The URLs of one on SQLite and one on PostgreSQL."""
        name = f"twin_{next(self._numbers)}"
        path = self.folder / f"{name}.db"
        shutil.copyfile(self.sqlite_template, path)
        query(self.postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{self.postgres_template}"')
        try:
            yield f"sqlite:///{path}", with_database(self.postgres_url, name)
        finally:
            query(self.postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')
            for left in self.folder.glob(f"{name}.db*"):
                left.unlink()
