"""Reservations in SQLite."""

from collections.abc import Sequence

import orjson

from agent_mail_core.clock import MICROSECOND, from_microseconds, to_microseconds
from agent_mail_core.ids import AgentId, ProjectId, ReservationId
from agent_mail_core.leases import HOLD_TTL
from agent_mail_core.ports import Clock
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
from agent_mail_store.sqlite.leases import standing_tickets
from agent_mail_store.sqlite.statements import Row, Statements

_RECORD = """
    SELECT r.id, r.project_id, r.agent_id, a.name, r.pattern, r.is_literal, r.is_exclusive, r.is_advisory, r.reason,
        r.fence, r.granted_at, r.renewed_at, r.expires_at, r.released_at, r.release_kind, r.released_by,
        r.release_reason
    FROM reservations r JOIN agents a ON a.id = r.agent_id
"""
_STANDING = """
    SELECT {columns} FROM (
        SELECT id, agent_id, pattern, is_literal FROM reservations
        WHERE project_id = ?1 AND released_at IS NULL AND expires_at > ?2
        UNION ALL
        SELECT id, agent_id, pattern, is_literal FROM reservations
        WHERE project_id = ?1 AND released_at > ?2
    ) standing
"""


class SqliteReservations(Reservations):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def snapshot(self, project_id: ProjectId, after: ReservationId = NO_RESERVATION) -> Snapshot:
        now = self._clock.microseconds()
        with self._statements.one_state():
            row = self._statements.row("SELECT version FROM lease_counters WHERE project_id = ?", (project_id,))
            since = now - HOLD_TTL // MICROSECOND
            found = self._statements.rows(
                _STANDING.format(columns="id, agent_id, pattern, is_literal") + "WHERE id > ?3",
                (project_id, since, after),
            )
            count = len(found)
            if after:
                count = self._statements.rows(_STANDING.format(columns="count(*)"), (project_id, since))[0][0]
            tickets = standing_tickets(self._statements, project_id, "reservation", now)
        return Snapshot(
            row[0] if row is not None else 0,
            [ReservedPattern(one, agent_id, pattern, bool(literal)) for one, agent_id, pattern, literal in found],
            tickets,
            count,
        )

    async def records(self, ids: Sequence[ReservationId]) -> list[ReservationRecord]:
        if not ids:
            return []
        return self._found(
            _RECORD + "WHERE r.id IN (SELECT value FROM json_each(?)) ORDER BY r.id",  # noqa: S608 - two constants
            orjson.dumps(list(ids)).decode(),
        )

    async def live(
        self, project_id: ProjectId, agent_id: AgentId | None, below: ReservationId | None, limit: int
    ) -> list[ReservationRecord]:
        return self._found(
            _RECORD
            + """
            WHERE r.project_id = ?1 AND r.released_at IS NULL AND r.expires_at > ?2 AND (?3 IS NULL OR r.agent_id = ?3)
                AND (?4 IS NULL OR r.id < ?4)
            ORDER BY r.id DESC LIMIT ?5
            """,
            project_id,
            self._clock.microseconds(),
            agent_id,
            below,
            limit,
        )

    async def page(
        self, project_id: ProjectId, agent_id: AgentId | None, below: ReservationId | None, limit: int
    ) -> list[ReservationRecord]:
        def work(statements: Statements) -> list[Row]:
            return statements.rows(
                _RECORD
                + """
                WHERE r.project_id = ?1 AND (?2 IS NULL OR r.agent_id = ?2) AND (?3 IS NULL OR r.id < ?3)
                ORDER BY r.id DESC LIMIT ?4
                """,
                (project_id, agent_id, below, limit),
            )

        now = self._clock.microseconds()
        return [_record(row, now) for row in await self._statements.apart(work)]

    async def live_of(self, agent_id: AgentId, patterns: Sequence[str]) -> list[ReservationRecord]:
        return self._found(
            _RECORD  # noqa: S608 - two constants
            + """
            WHERE r.agent_id = ? AND r.released_at IS NULL AND r.expires_at > ?
                AND r.pattern IN (SELECT value FROM json_each(?))
            ORDER BY r.id
            """,
            agent_id,
            self._clock.microseconds(),
            orjson.dumps(list(patterns)).decode(),
        )

    async def last_of(self, agent_id: AgentId, patterns: Sequence[str]) -> list[ReservationRecord]:
        rows = self._statements.rows(
            """
            SELECT max(id) FROM reservations WHERE agent_id = ? AND pattern IN (SELECT value FROM json_each(?))
            GROUP BY pattern, is_literal
            """,
            (agent_id, orjson.dumps(list(patterns)).decode()),
        )
        return await self.records([row[0] for row in rows])

    async def grant(self, new: Sequence[NewReservation]) -> list[ReservationRecord]:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            INSERT INTO reservations (team_id, project_id, agent_id, pattern, is_literal, is_exclusive, is_advisory,
                reason, fence, granted_at, renewed_at, expires_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11) RETURNING id
            """,
            [
                (
                    one.team_id,
                    one.project_id,
                    one.agent_id,
                    one.pattern,
                    int(one.is_literal),
                    int(one.is_exclusive),
                    int(one.is_advisory),
                    one.reason,
                    one.fence,
                    now,
                    to_microseconds(one.expires_at) if one.expires_at is not None else now + one.ttl // MICROSECOND,
                )
                for one in new
            ],
        )
        return await self.records([row[0] for row in rows])

    async def renew(self, renewals: Sequence[Renewal]) -> list[ReservationRecord]:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            UPDATE reservations SET is_exclusive = ?2, is_advisory = ?3, reason = coalesce(?4, reason), renewed_at = ?5,
                expires_at = ?6
            WHERE id = ?1 RETURNING id
            """,
            [
                (
                    one.id,
                    int(one.is_exclusive),
                    int(one.is_advisory),
                    one.reason,
                    now,
                    now + one.ttl // MICROSECOND,
                )
                for one in renewals
            ],
        )
        return await self.records([row[0] for row in rows])

    async def end(
        self, ids: Sequence[ReservationId], kind: ReleaseKind, by: str | None, reason: str | None
    ) -> list[ReservationRecord]:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            UPDATE reservations SET released_at = min(expires_at, ?2),
                release_kind = iif(expires_at > ?2, ?3, 'expired'),
                released_by = iif(expires_at > ?2, ?4, NULL),
                release_reason = iif(expires_at > ?2, ?5, NULL)
            WHERE id = ?1 AND released_at IS NULL RETURNING id
            """,
            [(one, now, kind, by, reason) for one in ids],
        )
        return await self.records([row[0] for row in rows])

    async def close_expired(self, project_id: ProjectId, limit: int) -> list[ReservationRecord]:
        rows = self._statements.many(
            """
            UPDATE reservations SET released_at = expires_at, release_kind = 'expired'
            WHERE id IN (
                SELECT id FROM reservations WHERE project_id = ? AND released_at IS NULL AND expires_at <= ?
                ORDER BY expires_at LIMIT ?
            )
            RETURNING id
            """,
            [(project_id, self._clock.microseconds(), limit)],
        )
        return await self.records([row[0] for row in rows])

    def _found(self, sql: str, *values: str | int | None) -> list[ReservationRecord]:
        now = self._clock.microseconds()
        return [_record(row, now) for row in self._statements.rows(sql, values)]


def _record(row: Row, now: int) -> ReservationRecord:
    return ReservationRecord(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        bool(row[5]),
        bool(row[6]),
        bool(row[7]),
        row[8],
        row[9],
        from_microseconds(row[10]),
        from_microseconds(row[11]),
        from_microseconds(row[12]),
        from_microseconds(row[13]) if row[13] is not None else None,
        row[14],
        row[15],
        row[16],
        from_microseconds(now),
    )
