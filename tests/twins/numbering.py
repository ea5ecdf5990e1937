"""Ids without gaps. PostgreSQL's sequences keep what a failed transaction drew from them; SQLite's numbers come again.

Nobody may rely on either, but twins are compared by their ids.
"""

from __future__ import annotations

import asyncpg

LAST_VALUES = "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public'"


class Numbering:
    """The sequences of a PostgreSQL database."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self._noted: dict[str, int] = {}

    async def note(self) -> None:
        """What is drawn by now was drawn rightly."""
        self._noted = await self._last_values()

    async def go_back(self) -> None:
        """Give back what was drawn since, as far as no row has it."""
        for name, last in (await self._last_values()).items():
            if last != self._noted.get(name, 0):
                newest = await self._connection.fetchval(f"SELECT max(id) FROM {name.removesuffix('_id_seq')}")
                value = max(self._noted.get(name, 0), newest or 0)
                await self._connection.execute(f"SELECT setval('{name}', $1, $2)", max(value, 1), value > 0)

    async def _last_values(self) -> dict[str, int]:
        return {row[0]: row[1] for row in await self._connection.fetch(LAST_VALUES)}
