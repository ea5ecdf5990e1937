"""Build slots and their leases in SQLite."""

from collections.abc import Sequence
from datetime import timedelta

import orjson

from agent_mail_core.build_slots import MAX_SLOTS, BuildSlots, SlotLeaseRecord, SlotRecord
from agent_mail_core.clock import MICROSECOND, from_microseconds
from agent_mail_core.ids import AgentId, ProjectId, SlotId, TeamId
from agent_mail_core.leases import HOLD_TTL, TICKET_TTL
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Row, Statements

_LEASE = """
    SELECT l.id, l.slot_id, s.name, s.type, l.agent_id, a.name, l.fence, l.acquired_at, l.expires_at, l.released_at
    FROM slot_leases l JOIN build_slots s ON s.id = l.slot_id JOIN agents a ON a.id = l.agent_id
"""


class SqliteBuildSlots(BuildSlots):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def find(self, project_id: ProjectId, name: str, slot_type: str) -> SlotRecord | None:
        row = self._statements.row(
            """
            SELECT id, project_id, name, type, capacity FROM build_slots
            WHERE project_id = ? AND name = ? AND type = ?
            """,
            (project_id, name, slot_type),
        )
        return SlotRecord(*row) if row is not None else None

    async def make(
        self, team_id: TeamId, project_id: ProjectId, name: str, slot_type: str, capacity: int
    ) -> SlotRecord | None:
        rows = self._statements.many(
            """
            INSERT INTO build_slots (team_id, project_id, name, type, capacity, created_at)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM build_slots WHERE project_id = ?2) < ?7
            RETURNING id, project_id, name, type, capacity
            """,
            [(team_id, project_id, name, slot_type, capacity, self._clock.microseconds(), MAX_SLOTS)],
        )
        return SlotRecord(*rows[0]) if rows else None

    async def set_capacity(self, slot_id: SlotId, capacity: int) -> SlotRecord:
        rows = self._statements.many(
            "UPDATE build_slots SET capacity = ? WHERE id = ? RETURNING id, project_id, name, type, capacity",
            [(capacity, slot_id)],
        )
        return SlotRecord(*rows[0])

    async def names(self, project_id: ProjectId, limit: int) -> list[str]:
        rows = self._statements.rows(
            "SELECT DISTINCT name FROM build_slots WHERE project_id = ? LIMIT ?", (project_id, limit)
        )
        return [row[0] for row in rows]

    async def page(
        self, project_id: ProjectId, active_only: bool, after: tuple[str, str] | None, limit: int
    ) -> list[SlotRecord]:
        now = self._clock.microseconds()
        name, slot_type = after or ("", "")
        rows = self._statements.rows(
            """
            SELECT s.id, s.project_id, s.name, s.type, s.capacity FROM build_slots s
            WHERE s.project_id = ?1 AND (s.name, s.type) > (?2, ?3) AND (
                NOT ?4
                OR EXISTS (
                    SELECT 1 FROM slot_leases l
                    WHERE l.slot_id = s.id AND l.released_at IS NULL AND l.expires_at > ?5
                )
                OR EXISTS (
                    SELECT 1 FROM lease_tickets t
                    WHERE t.project_id = ?1 AND t.kind = 'slot' AND t.asked_at > ?6
                        AND json_extract(t.wanted, '$.slot') = s.id
                )
            )
            ORDER BY s.name, s.type LIMIT ?7
            """,
            (project_id, name, slot_type, int(active_only), now, now - TICKET_TTL // MICROSECOND, limit),
        )
        return [SlotRecord(*row) for row in rows]

    async def leases(self, slot_ids: Sequence[SlotId]) -> list[SlotLeaseRecord]:
        rows = self._statements.rows(
            """
            SELECT id FROM slot_leases
            WHERE slot_id IN (SELECT value FROM json_each(?1)) AND released_at IS NULL AND expires_at > ?2
            UNION ALL
            SELECT id FROM slot_leases
            WHERE slot_id IN (SELECT value FROM json_each(?1)) AND released_at > ?2
            """,
            (orjson.dumps(list(slot_ids)).decode(), self._clock.microseconds() - HOLD_TTL // MICROSECOND),
        )
        return self._by_ids(rows)

    async def leases_of(self, agent_id: AgentId) -> list[SlotLeaseRecord]:
        now = self._clock.microseconds()
        rows = self._statements.rows(
            _LEASE + "WHERE l.agent_id = ? AND l.released_at IS NULL AND l.expires_at > ? ORDER BY l.id",
            (agent_id, now),
        )
        return [_lease(row, now) for row in rows]

    async def acquire(self, slot_id: SlotId, agent_id: AgentId, fence: int, ttl: timedelta) -> SlotLeaseRecord:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            INSERT INTO slot_leases (slot_id, agent_id, fence, acquired_at, renewed_at, expires_at)
            VALUES (?1, ?2, ?3, ?4, ?4, ?5) RETURNING id
            """,
            [(slot_id, agent_id, fence, now, now + ttl // MICROSECOND)],
        )
        return self._by_ids(rows)[0]

    async def renew(self, slot_id: SlotId, agent_id: AgentId, ttl: timedelta) -> SlotLeaseRecord | None:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            UPDATE slot_leases SET renewed_at = ?3, expires_at = ?4
            WHERE slot_id = ?1 AND agent_id = ?2 AND released_at IS NULL AND expires_at > ?3 RETURNING id
            """,
            [(slot_id, agent_id, now, now + ttl // MICROSECOND)],
        )
        return next(iter(self._by_ids(rows)), None)

    async def release(self, slot_id: SlotId, agent_id: AgentId) -> SlotLeaseRecord | None:
        rows = self._statements.many(
            """
            UPDATE slot_leases SET released_at = ?3
            WHERE slot_id = ?1 AND agent_id = ?2 AND released_at IS NULL AND expires_at > ?3 RETURNING id
            """,
            [(slot_id, agent_id, self._clock.microseconds())],
        )
        return next(iter(self._by_ids(rows)), None)

    async def release_all(self, agent_id: AgentId) -> list[SlotLeaseRecord]:
        rows = self._statements.many(
            """
            UPDATE slot_leases SET released_at = ?2
            WHERE agent_id = ?1 AND released_at IS NULL AND expires_at > ?2 RETURNING id
            """,
            [(agent_id, self._clock.microseconds())],
        )
        return self._by_ids(rows)

    async def close_expired(self, project_id: ProjectId, slot_id: SlotId | None, limit: int) -> list[SlotLeaseRecord]:
        rows = self._statements.many(
            """
            UPDATE slot_leases SET released_at = expires_at
            WHERE id IN (
                SELECT l.id FROM build_slots s JOIN slot_leases l ON l.slot_id = s.id
                WHERE s.project_id = ?1 AND (?2 IS NULL OR s.id = ?2) AND l.released_at IS NULL AND l.expires_at <= ?3
                LIMIT ?4
            )
            RETURNING id
            """,
            [(project_id, slot_id, self._clock.microseconds(), limit)],
        )
        return self._by_ids(rows)

    def _by_ids(self, rows: Sequence[Row]) -> list[SlotLeaseRecord]:
        if not rows:
            return []
        found = self._statements.rows(
            _LEASE + "WHERE l.id IN (SELECT value FROM json_each(?)) ORDER BY l.id",  # noqa: S608 - two constants
            (orjson.dumps([row[0] for row in rows]).decode(),),
        )
        now = self._clock.microseconds()
        return [_lease(row, now) for row in found]


def _lease(row: Row, now: int) -> SlotLeaseRecord:
    return SlotLeaseRecord(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        from_microseconds(row[7]),
        from_microseconds(row[8]),
        from_microseconds(row[9]) if row[9] is not None else None,
        from_microseconds(now),
    )
