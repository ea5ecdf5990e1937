"""Reservations on PostgreSQL."""

from collections.abc import Sequence

from agent_mail_core.ids import AgentId, ProjectId, ReservationId
from agent_mail_core.leases import HOLD_TTL
from agent_mail_core.reservations import (
    NO_RESERVATION,
    NewReservation,
    ReleaseKind,
    Renewal,
    ReservationRecord,
    Reservations,
    ReservedPattern,
    Snapshot,
)
from agent_mail_store.postgres.leases import standing_tickets
from agent_mail_store.postgres.statements import Statements

_RECORD = """
    SELECT r.id, r.project_id, r.agent_id, a.name, r.pattern, r.is_literal, r.is_exclusive, r.is_advisory, r.reason,
           r.fence, r.granted_at, r.renewed_at, r.expires_at, r.released_at, r.release_kind, r.released_by,
           r.release_reason, clock_timestamp()
    FROM reservations r JOIN agents a ON a.id = r.agent_id
"""
# A bound of the index is a value: clock_timestamp() by itself would be asked for each row.
_STANDING = """
    SELECT {columns} FROM (
        SELECT id, agent_id, pattern, is_literal FROM reservations
        WHERE project_id = $1 AND released_at IS NULL AND expires_at > (SELECT clock_timestamp() - $2::interval)
        UNION ALL
        SELECT id, agent_id, pattern, is_literal FROM reservations
        WHERE project_id = $1 AND released_at > (SELECT clock_timestamp() - $2::interval)
    ) standing
"""


class PostgresReservations(Reservations):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def snapshot(self, project_id: ProjectId, after: ReservationId = NO_RESERVATION) -> Snapshot:
        row = await self._db.row("SELECT version FROM lease_counters WHERE project_id = $1", project_id)
        found = await self._db.rows(
            _STANDING.format(columns="id, agent_id, pattern, is_literal") + "WHERE id > $3", project_id, HOLD_TTL, after
        )
        count = len(found)
        if after:
            count = (await self._db.the_row(_STANDING.format(columns="count(*)"), project_id, HOLD_TTL))["count"]
        return Snapshot(
            row["version"] if row is not None else 0,
            [ReservedPattern(*row) for row in found],
            await standing_tickets(self._db, project_id, "reservation"),
            count,
        )

    async def records(self, ids: Sequence[ReservationId]) -> list[ReservationRecord]:
        return await self._found(_RECORD + "WHERE r.id = ANY ($1::bigint[]) ORDER BY r.id", list(ids)) if ids else []

    async def live(
        self, project_id: ProjectId, agent_id: AgentId | None, below: ReservationId | None, limit: int
    ) -> list[ReservationRecord]:
        return await self._found(
            _RECORD
            + """
            WHERE r.project_id = $1 AND r.released_at IS NULL AND r.expires_at > clock_timestamp()
                AND ($2::bigint IS NULL OR r.agent_id = $2) AND ($3::bigint IS NULL OR r.id < $3)
            ORDER BY r.id DESC LIMIT $4
            """,
            project_id,
            agent_id,
            below,
            limit,
        )

    async def page(
        self, project_id: ProjectId, agent_id: AgentId | None, below: ReservationId | None, limit: int
    ) -> list[ReservationRecord]:
        return await self._found(
            _RECORD
            + """
            WHERE r.project_id = $1 AND ($2::bigint IS NULL OR r.agent_id = $2) AND ($3::bigint IS NULL OR r.id < $3)
            ORDER BY r.id DESC LIMIT $4
            """,
            project_id,
            agent_id,
            below,
            limit,
        )

    async def live_of(self, agent_id: AgentId, patterns: Sequence[str]) -> list[ReservationRecord]:
        return await self._found(
            _RECORD
            + """
            WHERE r.agent_id = $1 AND r.released_at IS NULL AND r.expires_at > clock_timestamp()
                AND r.pattern = ANY ($2::text[])
            ORDER BY r.id
            """,
            agent_id,
            list(patterns),
        )

    async def last_of(self, agent_id: AgentId, patterns: Sequence[str]) -> list[ReservationRecord]:
        rows = await self._db.rows(
            """
            SELECT max(id) AS id FROM reservations WHERE agent_id = $1 AND pattern = ANY ($2::text[])
            GROUP BY pattern, is_literal
            """,
            agent_id,
            list(patterns),
        )
        return await self.records([row["id"] for row in rows])

    async def grant(self, new: Sequence[NewReservation]) -> list[ReservationRecord]:
        rows = await self._db.rows(
            """
            INSERT INTO reservations (team_id, project_id, agent_id, pattern, is_literal, is_exclusive, is_advisory,
                reason, fence, granted_at, renewed_at, expires_at)
            SELECT team_id, project_id, agent_id, pattern, is_literal, is_exclusive, is_advisory, reason, fence, at, at,
                   coalesce(expires_at, at + ttl)
            FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::boolean[], $6::boolean[],
                        $7::boolean[], $8::text[], $9::bigint[], $10::interval[], $11::timestamptz[])
                 AS n (team_id, project_id, agent_id, pattern, is_literal, is_exclusive, is_advisory, reason, fence,
                       ttl, expires_at),
                 clock_timestamp() AS at
            ORDER BY fence
            RETURNING id
            """,
            [one.team_id for one in new],
            [one.project_id for one in new],
            [one.agent_id for one in new],
            [one.pattern for one in new],
            [one.is_literal for one in new],
            [one.is_exclusive for one in new],
            [one.is_advisory for one in new],
            [one.reason for one in new],
            [one.fence for one in new],
            [one.ttl for one in new],
            [one.expires_at for one in new],
        )
        return await self.records([row["id"] for row in rows])

    async def renew(self, renewals: Sequence[Renewal]) -> list[ReservationRecord]:
        rows = await self._db.rows(
            """
            UPDATE reservations r
            SET is_exclusive = n.is_exclusive, is_advisory = n.is_advisory, reason = coalesce(n.reason, r.reason),
                renewed_at = at, expires_at = at + n.ttl
            FROM unnest($1::bigint[], $2::boolean[], $3::boolean[], $4::text[], $5::interval[])
                 AS n (id, is_exclusive, is_advisory, reason, ttl),
                 clock_timestamp() AS at
            WHERE r.id = n.id
            RETURNING r.id
            """,
            [one.id for one in renewals],
            [one.is_exclusive for one in renewals],
            [one.is_advisory for one in renewals],
            [one.reason for one in renewals],
            [one.ttl for one in renewals],
        )
        return await self.records([row["id"] for row in rows])

    async def end(
        self, ids: Sequence[ReservationId], kind: ReleaseKind, by: str | None, reason: str | None
    ) -> list[ReservationRecord]:
        rows = await self._db.rows(
            """
            UPDATE reservations
            SET released_at = least(expires_at, at),
                release_kind = CASE WHEN expires_at > at THEN $2 ELSE 'expired' END,
                released_by = CASE WHEN expires_at > at THEN $3 END,
                release_reason = CASE WHEN expires_at > at THEN $4 END
            FROM clock_timestamp() AS at
            WHERE id = ANY ($1::bigint[]) AND released_at IS NULL
            RETURNING id
            """,
            list(ids),
            kind,
            by,
            reason,
        )
        return await self.records([row["id"] for row in rows])

    async def close_expired(self, project_id: ProjectId, limit: int) -> list[ReservationRecord]:
        rows = await self._db.rows(
            """
            UPDATE reservations SET released_at = expires_at, release_kind = 'expired'
            WHERE id IN (
                SELECT id FROM reservations
                WHERE project_id = $1 AND released_at IS NULL AND expires_at <= clock_timestamp()
                ORDER BY expires_at LIMIT $2
            )
            RETURNING id
            """,
            project_id,
            limit,
        )
        return await self.records([row["id"] for row in rows])

    async def _found(self, statement: str, *arguments: object) -> list[ReservationRecord]:
        return [ReservationRecord(*row) for row in await self._db.rows(statement, *arguments)]
