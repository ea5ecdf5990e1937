"""What only exports read, in SQLite: each section by id, on a thread, as a page may take milliseconds."""

import orjson

from agent_mail_core.clock import from_microseconds
from agent_mail_core.ids import MessageId, ProjectId, ThreadId
from agent_mail_core.project_export import ExportRow, ProjectExports, Section
from agent_mail_core.threads import ThreadRecord
from agent_mail_store.sqlite.statements import Row, Statements

# The names of a section's columns, and what selects them.
_SECTIONS: dict[Section, tuple[str, str]] = {
    "contact": (
        "id agent_name agent_project contact_name contact_project status reason requested_at decided_at expires_at",
        """
        SELECT c.id, a.name, ap.slug, o.name, op.slug, c.status, c.reason, c.requested_at, c.decided_at, c.expires_at
        FROM contacts c
        CROSS JOIN agents a ON a.id = c.agent_id CROSS JOIN projects ap ON ap.id = a.project_id
        CROSS JOIN agents o ON o.id = c.contact_id CROSS JOIN projects op ON op.id = o.project_id
        WHERE c.id IN (
            SELECT c.id FROM agents a CROSS JOIN contacts c ON c.agent_id = a.id WHERE a.project_id = ?1
            UNION SELECT c.id FROM agents a CROSS JOIN contacts c ON c.contact_id = a.id WHERE a.project_id = ?1
        ) AND c.id > ?2
        ORDER BY c.id LIMIT ?3
        """,
    ),
    "reservation": (
        "id agent_name pattern is_literal is_exclusive is_advisory reason fence granted_at renewed_at expires_at"
        " released_at release_kind released_by release_reason",
        """
        SELECT r.id, a.name, r.pattern, r.is_literal, r.is_exclusive, r.is_advisory, r.reason, r.fence, r.granted_at,
            r.renewed_at, r.expires_at, r.released_at, r.release_kind, r.released_by, r.release_reason
        FROM reservations r CROSS JOIN agents a ON a.id = r.agent_id
        WHERE r.project_id = ?1 AND r.id > ?2 ORDER BY r.id LIMIT ?3
        """,
    ),
    "slot": (
        "id slot_name slot_type capacity agent_name fence acquired_at renewed_at expires_at released_at",
        """
        SELECT l.id, s.name, s.type, s.capacity, a.name, l.fence, l.acquired_at, l.renewed_at, l.expires_at,
            l.released_at
        FROM build_slots s CROSS JOIN slot_leases l ON l.slot_id = s.id CROSS JOIN agents a ON a.id = l.agent_id
        WHERE s.project_id = ?1 AND l.id > ?2 ORDER BY l.id LIMIT ?3
        """,
    ),
    "review": (
        "id thread_id message_id requester_name state paths note reviewer_names claimer_name verdict created_at"
        " claimed_at claim_expires_at ended_at",
        """
        SELECT v.id, t.key, v.message_id, r.name, v.state, v.paths, v.note,
            (SELECT json_group_array(a.name ORDER BY w.place) FROM review_reviewers w
             CROSS JOIN agents a ON a.id = w.agent_id WHERE w.review_id = v.id),
            c.name, v.verdict, v.created_at, v.claimed_at, v.claim_expires_at, v.ended_at
        FROM reviews v
        CROSS JOIN threads t ON t.id = v.thread_id
        CROSS JOIN agents r ON r.id = v.requester_id
        LEFT JOIN agents c ON c.id = v.claimer_id
        WHERE v.project_id = ?1 AND v.id > ?2 ORDER BY v.id LIMIT ?3
        """,
    ),
}


class SqliteProjectExports(ProjectExports):
    __slots__ = ("_statements",)

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def last_message(self, project_id: ProjectId) -> MessageId:
        rows = self._statements.rows("SELECT coalesce(max(id), 0) FROM messages WHERE project_id = ?", (project_id,))
        return MessageId(rows[0][0])

    async def threads(self, project_id: ProjectId, last: MessageId, after: ThreadId, limit: int) -> list[ThreadRecord]:
        rows = self._statements.rows(
            """
            SELECT id, project_id, key, subject, message_count, last_message_id, last_message_at, created_at
            FROM threads t
            WHERE project_id = ? AND id > ? AND coalesce((SELECT min(id) FROM messages WHERE thread_id = t.id), 0) <= ?
            ORDER BY id LIMIT ?
            """,
            (project_id, after, last, limit),
        )
        return [
            ThreadRecord(
                id=row[0],
                project_id=row[1],
                key=row[2],
                subject=row[3],
                message_count=row[4],
                last_message_id=row[5],
                last_message_at=from_microseconds(row[6]),
                created_at=from_microseconds(row[7]),
            )
            for row in rows
        ]

    async def rows(self, section: Section, project_id: ProjectId, after: int, limit: int) -> list[ExportRow]:
        names, sql = _SECTIONS[section]
        rows = await self._statements.apart(lambda statements: statements.rows(sql, (project_id, after, limit)))
        return [_as_row(names.split(), row) for row in rows]


def _as_row(names: list[str], values: Row) -> ExportRow:
    row = dict(zip(names, values, strict=True))
    for name, value in row.items():
        if name.endswith("_at") and value is not None:
            row[name] = from_microseconds(value)
        elif name.startswith("is_"):
            row[name] = bool(value)
        elif name in ("paths", "reviewer_names"):
            row[name] = orjson.loads(value)
    return row
