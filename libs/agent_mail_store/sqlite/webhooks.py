"""Webhooks in SQLite."""

from datetime import timedelta

import orjson

from agent_mail_core.clock import MICROSECOND, from_microseconds
from agent_mail_core.events import EventPosition
from agent_mail_core.ids import ProjectId, TeamId, WebhookDeliveryId, WebhookId
from agent_mail_core.ports import Clock
from agent_mail_core.webhook_errors import TooManyWebhooks
from agent_mail_core.webhooks import (
    KEPT_DELIVERIES,
    Attempt,
    DeliveryRecord,
    DeliveryState,
    NewWebhook,
    WebhookRecord,
    Webhooks,
    WebhookTarget,
)
from agent_mail_store.sqlite.events import SqliteEvents
from agent_mail_store.sqlite.statements import Row, Statements

_RECORD = """
    SELECT w.id, p.slug, w.url, w.kinds, w.attempts, w.failing_since, w.next_attempt_at, w.disabled_at,
        w.disabled_reason, w.created_at
    FROM webhooks w LEFT JOIN projects p ON p.id = w.project_id
    WHERE p.deleted_at IS NULL
"""
_DELIVERY = """
    SELECT id, position_xact, event_id, kind, state, attempts, status_code, error, created_at, attempted_at
    FROM webhook_deliveries WHERE webhook_id = ?
"""


class SqliteWebhooks(Webhooks):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def add(self, new: NewWebhook, limit: int) -> WebhookRecord:
        [(count,)] = self._statements.rows("SELECT count(*) FROM webhooks WHERE team_id = ?", (new.team_id,))
        if count >= limit:
            raise TooManyWebhooks(limit=limit, suggestion="list_webhooks")
        position = await SqliteEvents(self._statements, self._clock).last_position()
        webhook_id = self._statements.insert(
            """
            INSERT INTO webhooks (team_id, project_id, url, kinds, secret, position_xact, position_id, created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                new.team_id,
                new.project_id,
                new.url,
                orjson.dumps(new.kinds).decode(),
                new.secret,
                position.transaction,
                position.event_id,
                self._clock.microseconds(),
            ),
        )
        record = await self.find(new.team_id, WebhookId(webhook_id))
        assert record is not None
        return record

    async def remove(self, team_id: TeamId, webhook_id: WebhookId) -> bool:
        return bool(
            self._statements.rows(
                "DELETE FROM webhooks WHERE team_id = ? AND id = ? RETURNING 1", (team_id, webhook_id)
            )
        )

    async def find(self, team_id: TeamId, webhook_id: WebhookId) -> WebhookRecord | None:
        row = self._statements.row(f"{_RECORD} AND w.team_id = ? AND w.id = ?", (team_id, webhook_id))
        return _record(row) if row is not None else None

    async def page(
        self, team_id: TeamId, project_id: ProjectId | None, after: WebhookId, limit: int
    ) -> list[WebhookRecord]:
        rows = self._statements.rows(
            f"{_RECORD} AND w.team_id = ?1 AND w.id > ?2 AND (?3 IS NULL OR w.project_id = ?3) ORDER BY w.id LIMIT ?4",
            (team_id, after, project_id, limit),
        )
        return [_record(row) for row in rows]

    async def target(self, webhook_id: WebhookId) -> WebhookTarget | None:
        row = self._statements.row(
            """
            SELECT w.id, w.team_id, t.name, w.project_id, w.url, w.kinds, w.secret, w.position_xact, w.position_id,
                w.attempts, coalesce(w.next_attempt_at, 0) - ?2, w.disabled_at IS NULL
            FROM webhooks w CROSS JOIN teams t ON t.id = w.team_id LEFT JOIN projects p ON p.id = w.project_id
            WHERE w.id = ?1 AND p.deleted_at IS NULL
            """,
            (webhook_id, self._clock.microseconds()),
        )
        if row is None:
            return None
        return WebhookTarget(
            id=row[0],
            team_id=row[1],
            team_name=row[2],
            project_id=row[3],
            url=row[4],
            kinds=orjson.loads(row[5]),
            secret=row[6],
            position=EventPosition(row[7], row[8]),
            attempts=row[9],
            due_in=row[10] * MICROSECOND,
            is_enabled=bool(row[11]),
        )

    async def tells_of(self, project_id: ProjectId) -> bool:
        return bool(self._statements.rows("SELECT 1 FROM projects WHERE id = ? AND deleted_at IS NULL", (project_id,)))

    async def behind(self, after: WebhookId, limit: int) -> list[tuple[WebhookId, TeamId]]:
        rows = self._statements.rows(
            """
            SELECT w.id, w.team_id FROM webhooks w LEFT JOIN projects p ON p.id = w.project_id
            WHERE w.id > ?1 AND w.disabled_at IS NULL AND coalesce(w.next_attempt_at, 0) <= ?2
                AND p.deleted_at IS NULL AND CASE
                    WHEN w.project_id IS NULL
                    THEN EXISTS (SELECT 1 FROM events e WHERE e.team_id = w.team_id AND e.id > w.position_id)
                    ELSE EXISTS (SELECT 1 FROM events e WHERE e.project_id = w.project_id AND e.id > w.position_id)
                END
            ORDER BY w.id LIMIT ?3
            """,
            (after, self._clock.microseconds(), limit),
        )
        return [(row[0], row[1]) for row in rows]

    async def move_on(self, webhook_id: WebhookId, position: EventPosition) -> None:
        self._statements.rows(
            """
            UPDATE webhooks SET position_xact = ?2, position_id = ?3
            WHERE id = ?1 AND (position_xact, position_id) < (?2, ?3)
            """,
            (webhook_id, position.transaction, position.event_id),
        )

    async def delivered(self, attempt: Attempt) -> bool:
        found = self._statements.rows(
            """
            UPDATE webhooks
            SET attempts = 0, failing_since = NULL, next_attempt_at = NULL, disabled_at = NULL, disabled_reason = NULL
            WHERE id = ? RETURNING 1
            """,
            (attempt.webhook_id,),
        )
        if not found:
            return False
        await self.move_on(attempt.webhook_id, attempt.position)
        self._note(attempt, "delivered")
        self._statements.rows(
            """
            DELETE FROM webhook_deliveries WHERE webhook_id = ?1 AND id <= (
                SELECT id FROM webhook_deliveries WHERE webhook_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2
            )
            """,
            (attempt.webhook_id, KEPT_DELIVERIES),
        )
        return True

    async def failed(self, attempt: Attempt, retry_after: timedelta | None) -> bool:
        if retry_after is None:
            self._note_only(attempt)
            return True
        now = self._clock.microseconds()
        found = self._statements.rows(
            """
            UPDATE webhooks SET attempts = attempts + 1, failing_since = coalesce(failing_since, ?2),
                next_attempt_at = ?2 + ?3
            WHERE id = ?1 AND disabled_at IS NULL RETURNING 1
            """,
            (attempt.webhook_id, now, retry_after // MICROSECOND),
        )
        if found:
            self._note(attempt, "waiting")
        return bool(found)

    async def switch_off(self, attempt: Attempt, reason: str) -> bool:
        now = self._clock.microseconds()
        found = self._statements.rows(
            """
            UPDATE webhooks SET attempts = attempts + 1, failing_since = coalesce(failing_since, ?2),
                next_attempt_at = NULL, disabled_at = ?2, disabled_reason = ?3
            WHERE id = ?1 AND disabled_at IS NULL RETURNING 1
            """,
            (attempt.webhook_id, now, reason),
        )
        if found:
            self._note(attempt, "failed")
        return bool(found)

    async def switch_on(self, webhook_id: WebhookId) -> None:
        self._statements.rows(
            """
            UPDATE webhooks
            SET attempts = 0, failing_since = NULL, next_attempt_at = NULL, disabled_at = NULL, disabled_reason = NULL
            WHERE id = ?
            """,
            (webhook_id,),
        )

    async def deliveries(
        self, webhook_id: WebhookId, before: WebhookDeliveryId | None, limit: int
    ) -> list[DeliveryRecord]:
        rows = self._statements.rows(
            f"{_DELIVERY} AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3", (webhook_id, before, limit)
        )
        return [_delivery(row) for row in rows]

    async def delivery(self, webhook_id: WebhookId, delivery_id: WebhookDeliveryId) -> DeliveryRecord | None:
        row = self._statements.row(f"{_DELIVERY} AND id = ?", (webhook_id, delivery_id))
        return _delivery(row) if row is not None else None

    def _note(self, attempt: Attempt, state: DeliveryState) -> None:
        now = self._clock.microseconds()
        self._statements.rows(
            """
            INSERT INTO webhook_deliveries (webhook_id, position_xact, event_id, kind, state, attempts, status_code,
                error, created_at, attempted_at)
            VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?8)
            ON CONFLICT DO UPDATE SET state = excluded.state, attempts = attempts + 1,
                status_code = excluded.status_code, error = excluded.error, attempted_at = excluded.attempted_at
            """,
            (
                attempt.webhook_id,
                attempt.position.transaction,
                attempt.position.event_id,
                attempt.kind,
                state,
                attempt.status_code,
                attempt.error,
                now,
            ),
        )

    def _note_only(self, attempt: Attempt) -> None:
        self._statements.rows(
            """
            UPDATE webhook_deliveries SET attempts = attempts + 1, status_code = ?3, error = ?4, attempted_at = ?5
            WHERE webhook_id = ?1 AND event_id = ?2
            """,
            (
                attempt.webhook_id,
                attempt.position.event_id,
                attempt.status_code,
                attempt.error,
                self._clock.microseconds(),
            ),
        )


def _record(row: Row) -> WebhookRecord:
    failing_since, next_attempt_at, disabled_at = (
        from_microseconds(value) if value is not None else None for value in row[5:8]
    )
    return WebhookRecord(
        id=row[0],
        project_slug=row[1],
        url=row[2],
        kinds=orjson.loads(row[3]),
        attempts=row[4],
        failing_since=failing_since,
        next_attempt_at=next_attempt_at,
        disabled_at=disabled_at,
        disabled_reason=row[8],
        created_at=from_microseconds(row[9]),
    )


def _delivery(row: Row) -> DeliveryRecord:
    return DeliveryRecord(
        id=row[0],
        position=EventPosition(row[1], row[2]),
        kind=row[3],
        state=row[4],
        attempts=row[5],
        status_code=row[6],
        error=row[7],
        created_at=from_microseconds(row[8]),
        attempted_at=from_microseconds(row[9]),
    )
