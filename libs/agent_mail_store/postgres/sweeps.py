"""What sweeps look for, on PostgreSQL."""

from datetime import timedelta

from agent_mail_core.ids import MessageId, ProjectId, TeamId
from agent_mail_core.sweeps import OutboxSlice, Overdue, OverdueSlice, Sweeps
from agent_mail_store.postgres.statements import Statements

ESCALATED = "escalated_up_to"
"""The fact that says up to which message acknowledgements were escalated."""


class PostgresSweeps(Sweeps):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def newest_outbox(self, topic: str, limit: int) -> list[tuple[ProjectId, TeamId]]:
        rows = await self._db.rows(
            """
            SELECT DISTINCT e.project_id, e.team_id
            FROM (SELECT event_id FROM outbox WHERE topic = $1 ORDER BY id DESC LIMIT $2) o
            JOIN events e ON e.id = o.event_id
            """,
            topic,
            limit,
        )
        return [(row[0], row[1]) for row in rows]

    async def outbox(self, topic: str, after: int, limit: int) -> OutboxSlice:
        rows = await self._db.rows(
            """
            SELECT e.project_id, e.team_id, max(o.id), sum(count(*)) OVER ()
            FROM (SELECT id, event_id FROM outbox WHERE topic = $1 AND id > $2 ORDER BY id LIMIT $3) o
            JOIN events e ON e.id = o.event_id GROUP BY e.project_id, e.team_id
            """,
            topic,
            after,
            limit,
        )
        has_more = bool(rows) and rows[0][3] >= limit
        return OutboxSlice([(row[0], row[1]) for row in rows], max(row[2] for row in rows) if has_more else None)

    async def expired_leases(self, limit: int) -> list[tuple[ProjectId, TeamId]]:
        rows = await self._db.rows(
            """
            SELECT p.id, p.team_id FROM projects p
            WHERE p.deleted_at IS NULL AND p.id IN (
                SELECT r.project_id FROM reservations r
                WHERE r.released_at IS NULL AND r.expires_at <= clock_timestamp()
                UNION
                SELECT s.project_id FROM slot_leases l JOIN build_slots s ON s.id = l.slot_id
                WHERE l.released_at IS NULL AND l.expires_at <= clock_timestamp()
            ) ORDER BY p.id LIMIT $1
            """,
            limit,
        )
        return [(row[0], row[1]) for row in rows]

    async def forget_keys(self, older_than: timedelta, limit: int) -> int:
        # A key that is just being taken again is locked, and is passed over.
        rows = await self._db.rows(
            """
            DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM idempotency_keys
                WHERE created_at < (SELECT clock_timestamp() - $1::interval)  -- a value is a bound of the index
                ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
            )) RETURNING 1
            """,
            older_than,
            limit,
        )
        return len(rows)

    async def overdue(self, older_than: timedelta, limit: int) -> OverdueSlice:
        begin = await self._begin()
        row = await self._db.the_row(
            """
            SELECT max(id) AS last FROM (
                SELECT id, bool_and(created_at <= clock_timestamp() - $2::interval) OVER (ORDER BY id) AS is_old
                FROM (SELECT id, created_at FROM messages WHERE id > $1 ORDER BY id LIMIT $3) m
            ) counted WHERE is_old
            """,
            begin,
            older_than,
            limit,
        )
        end = row["last"] or begin
        rows = await self._db.rows(
            """
            SELECT d.message_id, m.team_id, a.project_id, own.slug, a.id, a.name
            FROM messages m
            JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL
            JOIN deliveries d ON d.message_id = m.id
                AND d.ack_required AND d.acknowledged_at IS NULL AND d.kind <> 2
            JOIN agents a ON a.id = d.agent_id
            JOIN projects own ON own.id = a.project_id AND own.deleted_at IS NULL
            WHERE m.id > $1 AND m.id <= $2 ORDER BY d.message_id, d.place
            """,
            begin,
            end,
        )
        return OverdueSlice(begin, MessageId(end), [Overdue(*row) for row in rows])

    async def escalated(self, found: OverdueSlice) -> bool:
        await self._db.rows("INSERT INTO facts (name, value) VALUES ($1, '0') ON CONFLICT DO NOTHING", ESCALATED)
        row = await self._db.row(
            "UPDATE facts SET value = $3 WHERE name = $1 AND value = $2 RETURNING 1",
            ESCALATED,
            str(found.begin),
            str(found.end),
        )
        return row is not None

    async def _begin(self) -> MessageId:
        row = await self._db.row("SELECT value FROM facts WHERE name = $1", ESCALATED)
        return MessageId(int(row["value"]) if row is not None else 0)
