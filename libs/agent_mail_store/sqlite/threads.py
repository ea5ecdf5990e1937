"""Threads in SQLite. Keys are compared by the column's NOCASE collation."""

from datetime import datetime

import orjson

from agent_mail_core.addresses import show
from agent_mail_core.clock import from_microseconds, to_microseconds
from agent_mail_core.ids import AgentId, ProjectId, ThreadId
from agent_mail_core.threads import Share, ThreadFilter, ThreadRecord, Threads
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

    async def elsewhere(
        self, agent_id: AgentId, query: str | None, before: tuple[datetime, ThreadId] | None, limit: int
    ) -> list[tuple[ThreadRecord, str]]:
        last_at, last_id = (to_microseconds(before[0]), before[1]) if before is not None else (None, None)
        text = piece(query) if query is not None else None

        def work(statements: Statements) -> list[Row]:
            return statements.rows(
                r"""
                SELECT t.id, t.project_id, t.key, t.subject, t.message_count, t.last_message_id, t.last_message_at,
                    t.created_at, p.slug
                FROM agents a
                CROSS JOIN thread_participants q ON q.agent_id = a.id
                CROSS JOIN threads t ON t.id = q.thread_id AND t.project_id <> a.project_id
                CROSS JOIN projects p ON p.id = t.project_id AND p.deleted_at IS NULL
                WHERE a.id = ?1 AND (?2 IS NULL OR (t.last_message_at, t.id) < (?2, ?3))
                    AND (?4 IS NULL OR t.key LIKE ?4 ESCAPE '\' OR t.subject LIKE ?4 ESCAPE '\')
                ORDER BY t.last_message_at DESC, t.id DESC LIMIT ?5
                """,
                (agent_id, last_at, last_id, text, limit),
            )

        return [(_record(row), row[8]) for row in await self._statements.apart(work)]

    async def participants(self, thread_ids: list[ThreadId]) -> dict[ThreadId, list[str]]:
        rows = self._statements.rows(
            """
            SELECT p.thread_id, a.name,
                CASE WHEN a.project_id <> t.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END
            FROM json_each(?) wanted
            CROSS JOIN threads t ON t.id = wanted.value
            CROSS JOIN thread_participants p ON p.thread_id = t.id AND NOT p.is_hidden
            CROSS JOIN agents a ON a.id = p.agent_id
            ORDER BY a.name, a.id
            """,
            (orjson.dumps(thread_ids).decode(),),
        )
        names: dict[ThreadId, list[str]] = {thread_id: [] for thread_id in thread_ids}
        for thread_id, name, slug in rows:
            names[thread_id].append(show(name, slug))
        return names

    async def share(self, thread_id: ThreadId, agent_id: AgentId) -> Share:
        def work(statements: Statements) -> Row:
            return statements.rows(
                """
                SELECT EXISTS (SELECT 1 FROM messages m WHERE m.thread_id = ?1 AND (m.sender_id = ?2 OR EXISTS (
                        SELECT 1 FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = ?2))),
                    EXISTS (SELECT 1 FROM messages m WHERE m.thread_id = ?1 AND m.sender_id <> ?2 AND NOT EXISTS (
                        SELECT 1 FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = ?2))
                """,
                (thread_id, agent_id),
            )[0]

        has_own, has_others = await self._statements.apart(work)
        return "none" if not has_own else "some" if has_others else "all"

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
