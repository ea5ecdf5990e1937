"""Webhooks on PostgreSQL."""

import json
from datetime import timedelta

from agent_mail_core.events import EventPosition
from agent_mail_core.ids import ProjectId, TeamId, WebhookDeliveryId, WebhookId
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
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.statements import Statements

_RECORD = """
    SELECT w.id, p.slug, w.url, w.kinds, w.attempts, w.failing_since, w.next_attempt_at, w.disabled_at,
           w.disabled_reason, w.created_at
    FROM webhooks w LEFT JOIN projects p ON p.id = w.project_id
    WHERE p.deleted_at IS NULL
"""
_DELIVERY = """
    SELECT id, position_xact, event_id, kind, state, attempts, status_code, error, created_at, attempted_at
    FROM webhook_deliveries WHERE webhook_id = $1
"""


class PostgresWebhooks(Webhooks):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def add(self, new: NewWebhook, limit: int) -> WebhookRecord:
        await self._db.rows("SELECT FROM teams WHERE id = $1 FOR NO KEY UPDATE", new.team_id)
        counted = await self._db.the_row("SELECT count(*) FROM webhooks WHERE team_id = $1", new.team_id)
        if counted[0] >= limit:
            raise TooManyWebhooks(limit=limit, suggestion="list_webhooks")
        row = await self._db.the_row(
            """
            WITH held AS (SELECT id FROM projects WHERE id = $2 AND deleted_at IS NULL FOR KEY SHARE)
            INSERT INTO webhooks (team_id, project_id, url, kinds, secret, position_xact, position_id)
                SELECT $1, $2, $3, $4, $5, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, 0
                WHERE $2::bigint IS NULL OR EXISTS (SELECT FROM held)
            RETURNING id
            """,
            new.team_id,
            new.project_id,
            new.url,
            json.dumps(new.kinds),
            new.secret,
        )
        record = await self.find(new.team_id, row["id"])
        assert record is not None
        return record

    async def remove(self, team_id: TeamId, webhook_id: WebhookId) -> bool:
        rows = await self._db.rows(
            "DELETE FROM webhooks WHERE team_id = $1 AND id = $2 RETURNING 1", team_id, webhook_id
        )
        return bool(rows)

    async def find(self, team_id: TeamId, webhook_id: WebhookId) -> WebhookRecord | None:
        row = await self._db.row(f"{_RECORD} AND w.team_id = $1 AND w.id = $2", team_id, webhook_id)
        return _record(row) if row is not None else None

    async def page(
        self, team_id: TeamId, project_id: ProjectId | None, after: WebhookId, limit: int
    ) -> list[WebhookRecord]:
        rows = await self._db.rows(
            f"{_RECORD} AND w.team_id = $1 AND w.id > $2 AND ($3::bigint IS NULL OR w.project_id = $3)"
            " ORDER BY w.id LIMIT $4",
            team_id,
            after,
            project_id,
            limit,
        )
        return [_record(row) for row in rows]

    async def target(self, webhook_id: WebhookId) -> WebhookTarget | None:
        row = await self._db.row(
            """
            SELECT w.id, w.team_id, t.name, w.project_id, w.url, w.kinds, w.secret, w.position_xact, w.position_id,
                   w.attempts, coalesce(w.next_attempt_at - clock_timestamp(), interval '0') AS due_in,
                   w.disabled_at IS NULL AS is_enabled
            FROM webhooks w JOIN teams t ON t.id = w.team_id LEFT JOIN projects p ON p.id = w.project_id
            WHERE w.id = $1 AND p.deleted_at IS NULL
            """,
            webhook_id,
        )
        if row is None:
            return None
        return WebhookTarget(
            id=row["id"],
            team_id=row["team_id"],
            team_name=row["name"],
            project_id=row["project_id"],
            url=row["url"],
            kinds=json.loads(row["kinds"]),
            secret=row["secret"],
            position=EventPosition(row["position_xact"], row["position_id"]),
            attempts=row["attempts"],
            due_in=row["due_in"],
            is_enabled=row["is_enabled"],
        )

    async def tells_of(self, project_id: ProjectId) -> bool:
        return bool(await self._db.rows("SELECT FROM projects WHERE id = $1 AND deleted_at IS NULL", project_id))

    async def behind(self, after: WebhookId, limit: int) -> list[tuple[WebhookId, TeamId]]:
        rows = await self._db.rows(
            """
            SELECT w.id, w.team_id FROM webhooks w LEFT JOIN projects p ON p.id = w.project_id
            WHERE w.id > $1 AND w.disabled_at IS NULL
              AND (w.next_attempt_at IS NULL OR w.next_attempt_at <= clock_timestamp())
              AND p.deleted_at IS NULL AND CASE
                  WHEN w.project_id IS NULL THEN EXISTS (
                      SELECT FROM events e
                      WHERE e.team_id = w.team_id AND (e.xact, e.id) > (w.position_xact::text::xid8, w.position_id)
                  ) ELSE EXISTS (
                      SELECT FROM events e
                      WHERE e.project_id = w.project_id
                        AND (e.xact, e.id) > (w.position_xact::text::xid8, w.position_id)
                  )
              END
            ORDER BY w.id LIMIT $2
            """,
            after,
            limit,
        )
        return [(row[0], row[1]) for row in rows]

    async def move_on(self, webhook_id: WebhookId, position: EventPosition) -> None:
        await self._db.rows(
            """
            UPDATE webhooks SET position_xact = $2, position_id = $3
            WHERE id = $1 AND (position_xact, position_id) < ($2, $3)
            """,
            webhook_id,
            position.transaction,
            position.event_id,
        )

    async def delivered(self, attempt: Attempt) -> bool:
        found = await self._db.rows(
            """
            UPDATE webhooks
            SET attempts = 0, failing_since = NULL, next_attempt_at = NULL, disabled_at = NULL, disabled_reason = NULL
            WHERE id = $1 RETURNING 1
            """,
            attempt.webhook_id,
        )
        if not found:
            return False
        await self.move_on(attempt.webhook_id, attempt.position)
        await self._note(attempt, "delivered")
        await self._db.rows(
            """
            DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND id <= (
                SELECT id FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2
            )
            """,
            attempt.webhook_id,
            KEPT_DELIVERIES,
        )
        return True

    async def failed(self, attempt: Attempt, retry_after: timedelta | None) -> bool:
        if retry_after is None:
            await self._note_only(attempt)
            return True
        found = await self._db.rows(
            """
            UPDATE webhooks SET attempts = attempts + 1, failing_since = coalesce(failing_since, clock_timestamp()),
                                next_attempt_at = clock_timestamp() + $2::interval
            WHERE id = $1 AND disabled_at IS NULL RETURNING 1
            """,
            attempt.webhook_id,
            retry_after,
        )
        if found:
            await self._note(attempt, "waiting")
        return bool(found)

    async def switch_off(self, attempt: Attempt, reason: str) -> bool:
        found = await self._db.rows(
            """
            UPDATE webhooks SET attempts = attempts + 1, failing_since = coalesce(failing_since, clock_timestamp()),
                                next_attempt_at = NULL, disabled_at = clock_timestamp(), disabled_reason = $2
            WHERE id = $1 AND disabled_at IS NULL RETURNING 1
            """,
            attempt.webhook_id,
            reason,
        )
        if found:
            await self._note(attempt, "failed")
        return bool(found)

    async def switch_on(self, webhook_id: WebhookId) -> None:
        await self._db.rows(
            """
            UPDATE webhooks
            SET attempts = 0, failing_since = NULL, next_attempt_at = NULL, disabled_at = NULL, disabled_reason = NULL
            WHERE id = $1
            """,
            webhook_id,
        )

    async def deliveries(
        self, webhook_id: WebhookId, before: WebhookDeliveryId | None, limit: int
    ) -> list[DeliveryRecord]:
        rows = await self._db.rows(
            f"{_DELIVERY} AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3", webhook_id, before, limit
        )
        return [_delivery(row) for row in rows]

    async def delivery(self, webhook_id: WebhookId, delivery_id: WebhookDeliveryId) -> DeliveryRecord | None:
        row = await self._db.row(f"{_DELIVERY} AND id = $2", webhook_id, delivery_id)
        return _delivery(row) if row is not None else None

    async def _note(self, attempt: Attempt, state: DeliveryState) -> None:
        await self._db.rows(
            """
            INSERT INTO webhook_deliveries AS d
                (webhook_id, position_xact, event_id, kind, state, attempts, status_code, error)
            VALUES ($1, $2, $3, $4, $5, 1, $6, $7)
            ON CONFLICT (webhook_id, event_id) DO UPDATE
            SET state = excluded.state, attempts = d.attempts + 1, status_code = excluded.status_code,
                error = excluded.error, attempted_at = excluded.attempted_at
            """,
            attempt.webhook_id,
            attempt.position.transaction,
            attempt.position.event_id,
            attempt.kind,
            state,
            attempt.status_code,
            attempt.error,
        )

    async def _note_only(self, attempt: Attempt) -> None:
        await self._db.rows(
            """
            UPDATE webhook_deliveries
            SET attempts = attempts + 1, status_code = $3, error = $4, attempted_at = clock_timestamp()
            WHERE webhook_id = $1 AND event_id = $2
            """,
            attempt.webhook_id,
            attempt.position.event_id,
            attempt.status_code,
            attempt.error,
        )


def _record(row: Row) -> WebhookRecord:
    return WebhookRecord(
        id=row["id"],
        project_slug=row["slug"],
        url=row["url"],
        kinds=json.loads(row["kinds"]),
        attempts=row["attempts"],
        failing_since=row["failing_since"],
        next_attempt_at=row["next_attempt_at"],
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
    )


def _delivery(row: Row) -> DeliveryRecord:
    return DeliveryRecord(row["id"], EventPosition(row["position_xact"], row["event_id"]), *row[3:])
