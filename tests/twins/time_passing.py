"""Time that passes without anybody waiting: everything in a database becomes so much older."""

from __future__ import annotations

from datetime import timedelta

import apsw
import asyncpg

SQLITE_COLUMNS = """
    SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
    WHERE t.type = 'table' AND t.sql NOT LIKE 'CREATE VIRTUAL%' AND c.name LIKE '%\\_at' ESCAPE '\\'
"""
POSTGRES_COLUMNS = """
    SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables t USING (table_name)
    WHERE t.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND data_type LIKE 'timestamp%'
"""


async def pass_time(database_url: str, seconds: int) -> None:
    """Every time in the database is that much earlier."""
    if database_url.startswith("sqlite"):
        _age_sqlite(database_url.removeprefix("sqlite:///"), seconds)
    else:
        await _age_postgres(database_url, seconds)


def _age_sqlite(path: str, seconds: int) -> None:
    connection = apsw.Connection(path)
    try:
        connection.set_busy_timeout(5000)
        with connection:
            for table, column in list(connection.execute(SQLITE_COLUMNS)):
                connection.execute(f"UPDATE {table} SET {column} = {column} - ?", (seconds * 1_000_000,))
    finally:
        connection.close()


async def _age_postgres(url: str, seconds: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            for table, column in await connection.fetch(POSTGRES_COLUMNS):
                await connection.execute(
                    f"UPDATE {table} SET {column} = {column} - $1::interval", timedelta(seconds=seconds)
                )
    finally:
        await connection.close()
