"""Threads in SQLite. Keys are compared by the column's NOCASE collation."""

from datetime import datetime

import orjson

from agent_mail_core.clock import from_microseconds, to_microseconds
from agent_mail_core.ids import ProjectId, ThreadId
from agent_mail_core.threads import ThreadFilter, ThreadRecord, Threads
from agent_mail_store.sqlite.statements import Row, Statements, Value, piece


class SqliteThreads(Threads):
    __slots__ = ("_statements",)

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def find(self, project_id: ProjectId, key: str) -> ThreadRecord | None:
        row = self._statements.row(
            """
            SELECT id, project_id, key, subject, message_count, last_message_id, last_message_at, created_at
            FROM threads WHERE project_id = ? AND key = ?
            """,
            (project_id, key),
        )
        return _record(row) if row is not None else None

    async def page(
        self, project_id: ProjectId, wanted: ThreadFilter, before: tuple[datetime, ThreadId] | None, limit: int
    ) -> list[ThreadRecord]:
        conditions = ["t.project_id = ?"]
        values: list[Value] = [project_id]
        if before is not None:
            conditions.append("(t.last_message_at, t.id) < (?, ?)")
            values += [to_microseconds(before[0]), before[1]]
        if wanted.agent_id is not None:
            conditions.append(
                "EXISTS (SELECT 1 FROM thread_participants p WHERE p.thread_id = t.id AND p.agent_id = ?"
                " AND p.is_hidden <= ?)"
            )
            values += [wanted.agent_id, int(wanted.with_hidden)]
        if wanted.query is not None:
            conditions.append(r"(t.key LIKE ? ESCAPE '\' OR t.subject LIKE ? ESCAPE '\')")
            values += [piece(wanted.query)] * 2
        sql = " ".join(
            [
                """
                SELECT t.id, t.project_id, t.key, t.subject, t.message_count, t.last_message_id, t.last_message_at,
                    t.created_at
                FROM threads t WHERE
                """,
                " AND ".join(conditions),
                "ORDER BY t.last_message_at DESC, t.id DESC LIMIT ?",
            ]
        )

        def work(statements: Statements) -> list[Row]:
            return statements.rows(sql, (*values, limit))

        # Filters walk along the project's threads.
        is_filtered = wanted.agent_id is not None or wanted.query is not None
        rows = await self._statements.apart(work) if is_filtered else work(self._statements)
        return [_record(row) for row in rows]

    async def participants(self, thread_ids: list[ThreadId]) -> dict[ThreadId, list[str]]:
        rows = self._statements.rows(
            """
            SELECT p.thread_id, a.name
            FROM json_each(?) wanted
            CROSS JOIN thread_participants p ON p.thread_id = wanted.value AND NOT p.is_hidden
            CROSS JOIN agents a ON a.id = p.agent_id
            ORDER BY a.name
            """,
            (orjson.dumps(thread_ids).decode(),),
        )
        names: dict[ThreadId, list[str]] = {thread_id: [] for thread_id in thread_ids}
        for thread_id, name in rows:
            names[thread_id].append(name)
        return names

    async def keys(self, project_id: ProjectId, limit: int) -> list[str]:
        rows = self._statements.rows(
            "SELECT key FROM threads WHERE project_id = ? ORDER BY last_message_at DESC, id DESC LIMIT ?",
            (project_id, limit),
        )
        return [row[0] for row in rows]


def _record(row: Row) -> ThreadRecord:
    return ThreadRecord(
        row[0], row[1], row[2], row[3], row[4], row[5], from_microseconds(row[6]), from_microseconds(row[7])
    )
