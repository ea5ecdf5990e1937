"""What only exports read, on PostgreSQL: each section by id, so that a page begins where the last one ended."""

import json

from agent_mail_core.ids import MessageId, ProjectId, ThreadId
from agent_mail_core.project_export import ExportRow, ProjectExports, Section
from agent_mail_core.threads import ThreadRecord
from agent_mail_store.postgres.statements import Statements

_SECTIONS: dict[Section, str] = {
    "contact": """
        SELECT c.id, a.name AS agent_name, ap.slug AS agent_project, o.name AS contact_name, op.slug AS contact_project,
               c.status, c.reason, c.requested_at, c.decided_at, c.expires_at
        FROM contacts c
        JOIN agents a ON a.id = c.agent_id JOIN projects ap ON ap.id = a.project_id
        JOIN agents o ON o.id = c.contact_id JOIN projects op ON op.id = o.project_id
        WHERE c.id IN (
            (SELECT c.id FROM agents a JOIN contacts c ON c.agent_id = a.id WHERE a.project_id = $1 AND c.id > $2)
            UNION
            (SELECT c.id FROM agents a JOIN contacts c ON c.contact_id = a.id WHERE a.project_id = $1 AND c.id > $2)
        )
        ORDER BY c.id LIMIT $3
    """,
    "reservation": """
        SELECT r.id, a.name AS agent_name, r.pattern, r.is_literal, r.is_exclusive, r.is_advisory, r.reason, r.fence,
               r.granted_at, r.renewed_at, r.expires_at, r.released_at, r.release_kind, r.released_by, r.release_reason
        FROM reservations r JOIN agents a ON a.id = r.agent_id
        WHERE r.project_id = $1 AND r.id > $2 ORDER BY r.id LIMIT $3
    """,
    "slot": """
        SELECT l.id, s.name AS slot_name, s.type AS slot_type, s.capacity, a.name AS agent_name, l.fence, l.acquired_at,
               l.renewed_at, l.expires_at, l.released_at
        FROM build_slots s JOIN slot_leases l ON l.slot_id = s.id JOIN agents a ON a.id = l.agent_id
        WHERE s.project_id = $1 AND l.id > $2 ORDER BY l.id LIMIT $3
    """,
    "review": """
        SELECT v.id, t.key AS thread_id, v.message_id, r.name AS requester_name, v.state, v.paths, v.note,
               ARRAY (
                   SELECT a.name FROM review_reviewers w JOIN agents a ON a.id = w.agent_id
                   WHERE w.review_id = v.id ORDER BY w.place
               ) AS reviewer_names,
               c.name AS claimer_name, v.verdict, v.created_at, v.claimed_at, v.claim_expires_at, v.ended_at
        FROM reviews v
        JOIN threads t ON t.id = v.thread_id
        JOIN agents r ON r.id = v.requester_id
        LEFT JOIN agents c ON c.id = v.claimer_id
        WHERE v.project_id = $1 AND v.id > $2 ORDER BY v.id LIMIT $3
    """,
}


class PostgresProjectExports(ProjectExports):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def last_message(self, project_id: ProjectId) -> MessageId:
        row = await self._db.the_row(
            "SELECT coalesce(max(id), 0)::bigint AS last FROM messages WHERE project_id = $1", project_id
        )
        return MessageId(row["last"])

    async def threads(self, project_id: ProjectId, last: MessageId, after: ThreadId, limit: int) -> list[ThreadRecord]:
        rows = await self._db.rows(
            """
            SELECT id, project_id, key, subject, message_count, last_message_id, last_message_at, created_at
            FROM threads t
            WHERE project_id = $1 AND id > $2
              AND coalesce((SELECT min(id) FROM messages WHERE thread_id = t.id), 0) <= $3
            ORDER BY id LIMIT $4
            """,
            project_id,
            after,
            last,
            limit,
        )
        return [ThreadRecord(*row) for row in rows]

    async def rows(self, section: Section, project_id: ProjectId, after: int, limit: int) -> list[ExportRow]:
        rows = [dict(row) for row in await self._db.rows(_SECTIONS[section], project_id, after, limit)]
        for row in rows:
            if section == "review":
                row["paths"] = json.loads(row["paths"])
        return rows
