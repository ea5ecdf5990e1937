"""What sweeps look for, in SQLite."""

from datetime import timedelta

from agent_mail_core.clock import MICROSECOND
from agent_mail_core.ids import MessageId, ProjectId, TeamId
from agent_mail_core.ports import Clock
from agent_mail_core.sweeps import OutboxSlice, Overdue, OverdueSlice, Sweeps
from agent_mail_store.sqlite.statements import Statements

ESCALATED = "escalated_up_to"
"""The fact that says up to which message acknowledgements were escalated."""


class SqliteSweeps(Sweeps):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def newest_outbox(self, topic: str, limit: int) -> list[tuple[ProjectId, TeamId]]:
        rows = self._statements.rows(
            """
            SELECT DISTINCT e.project_id, e.team_id
            FROM (SELECT event_id FROM outbox WHERE topic = ? ORDER BY id DESC LIMIT ?) o
            CROSS JOIN events e ON e.id = o.event_id
            """,
            (topic, limit),
        )
        return [(row[0], row[1]) for row in rows]

    async def outbox(self, topic: str, after: int, limit: int) -> OutboxSlice:
        rows = self._statements.rows(
            """
            SELECT e.project_id, e.team_id, max(o.id), count(*)
            FROM (SELECT id, event_id FROM outbox WHERE topic = ? AND id > ? ORDER BY id LIMIT ?) o
            CROSS JOIN events e ON e.id = o.event_id GROUP BY e.project_id, e.team_id
            """,
            (topic, after, limit),
        )
        has_more = sum(row[3] for row in rows) >= limit
        return OutboxSlice([(row[0], row[1]) for row in rows], max(row[2] for row in rows) if has_more else None)

    async def expired_leases(self, limit: int) -> list[tuple[ProjectId, TeamId]]:
        rows = self._statements.rows(
            """
            SELECT p.id, p.team_id FROM projects p
            WHERE p.deleted_at IS NULL AND p.id IN (
                SELECT r.project_id FROM reservations r WHERE r.released_at IS NULL AND r.expires_at <= ?1
                UNION
                SELECT s.project_id FROM slot_leases l JOIN build_slots s ON s.id = l.slot_id
                WHERE l.released_at IS NULL AND l.expires_at <= ?1
            ) ORDER BY p.id LIMIT ?2
            """,
            (self._clock.microseconds(), limit),
        )
        return [(row[0], row[1]) for row in rows]

    async def forget_keys(self, older_than: timedelta, limit: int) -> int:
        rows = self._statements.rows(
            """
            DELETE FROM idempotency_keys WHERE (team_id, principal, agent_id, operation, key) IN (
                SELECT team_id, principal, agent_id, operation, key FROM idempotency_keys
                WHERE created_at < ? ORDER BY created_at LIMIT ?
            ) RETURNING 1
            """,
            (self._clock.microseconds() - older_than // MICROSECOND, limit),
        )
        return len(rows)

    async def overdue(self, older_than: timedelta, limit: int) -> OverdueSlice:
        begin = self._begin()
        [(last,)] = self._statements.rows(
            """
            SELECT max(id) FROM (
                SELECT id, min(created_at <= ?2) OVER (ORDER BY id) AS is_old
                FROM (SELECT id, created_at FROM messages WHERE id > ?1 ORDER BY id LIMIT ?3)
            ) WHERE is_old
            """,
            (begin, self._clock.microseconds() - older_than // MICROSECOND, limit),
        )
        end = last or begin
        rows = self._statements.rows(
            """
            SELECT d.message_id, m.team_id, a.project_id, own.slug, a.id, a.name
            FROM messages m
            CROSS JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL
            CROSS JOIN deliveries d ON d.message_id = m.id
                AND d.ack_required AND d.acknowledged_at IS NULL AND d.kind <> 2
            CROSS JOIN agents a ON a.id = d.agent_id
            CROSS JOIN projects own ON own.id = a.project_id AND own.deleted_at IS NULL
            WHERE m.id > ? AND m.id <= ? ORDER BY d.message_id, d.place
            """,
            (begin, end),
        )
        return OverdueSlice(begin, MessageId(end), [Overdue(*row) for row in rows])

    async def escalated(self, found: OverdueSlice) -> bool:
        if self._begin() != found.begin:
            return False
        self._statements.rows(
            "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (ESCALATED, str(found.end)),
        )
        return True

    def _begin(self) -> MessageId:
        row = self._statements.row("SELECT value FROM facts WHERE name = ?", (ESCALATED,))
        return MessageId(int(row[0]) if row is not None else 0)
