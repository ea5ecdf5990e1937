"""Build slots and their leases on PostgreSQL."""

from collections.abc import Sequence
from datetime import timedelta

from agent_mail_core.build_slots import MAX_SLOTS, BuildSlots, SlotLeaseRecord, SlotRecord
from agent_mail_core.ids import AgentId, ProjectId, SlotId, TeamId
from agent_mail_core.leases import HOLD_TTL, TICKET_TTL
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.statements import Statements

_LEASE = """
    SELECT l.id, l.slot_id, s.name AS slot_name, s.type, l.agent_id, a.name, l.fence, l.acquired_at, l.expires_at,
           l.released_at, clock_timestamp()
    FROM slot_leases l JOIN build_slots s ON s.id = l.slot_id JOIN agents a ON a.id = l.agent_id
"""


class PostgresBuildSlots(BuildSlots):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def find(self, project_id: ProjectId, name: str, slot_type: str) -> SlotRecord | None:
        row = await self._db.row(
            """
            SELECT id, project_id, name, type, capacity FROM build_slots
            WHERE project_id = $1 AND name = $2 AND type = $3
            """,
            project_id,
            name,
            slot_type,
        )
        return SlotRecord(*row) if row is not None else None

    async def make(
        self, team_id: TeamId, project_id: ProjectId, name: str, slot_type: str, capacity: int
    ) -> SlotRecord | None:
        row = await self._db.row(
            """
            INSERT INTO build_slots (team_id, project_id, name, type, capacity)
            SELECT $1::bigint, $2::bigint, $3::text, $4::text, $5::integer
            WHERE (SELECT count(*) FROM build_slots WHERE project_id = $2) < $6
            RETURNING id, project_id, name, type, capacity
            """,
            team_id,
            project_id,
            name,
            slot_type,
            capacity,
            MAX_SLOTS,
        )
        return SlotRecord(*row) if row is not None else None

    async def set_capacity(self, slot_id: SlotId, capacity: int) -> SlotRecord:
        row = await self._db.the_row(
            "UPDATE build_slots SET capacity = $2 WHERE id = $1 RETURNING id, project_id, name, type, capacity",
            slot_id,
            capacity,
        )
        return SlotRecord(*row)

    async def names(self, project_id: ProjectId, limit: int) -> list[str]:
        rows = await self._db.rows(
            "SELECT DISTINCT name FROM build_slots WHERE project_id = $1 LIMIT $2", project_id, limit
        )
        return [row["name"] for row in rows]

    async def page(
        self, project_id: ProjectId, active_only: bool, after: tuple[str, str] | None, limit: int
    ) -> list[SlotRecord]:
        name, slot_type = after or ("", "")
        rows = await self._db.rows(
            """
            SELECT s.id, s.project_id, s.name, s.type, s.capacity FROM build_slots s
            WHERE s.project_id = $1 AND (s.name, s.type) > ($2, $3) AND (
                NOT $4
                OR EXISTS (
                    SELECT FROM slot_leases l
                    WHERE l.slot_id = s.id AND l.released_at IS NULL AND l.expires_at > clock_timestamp()
                )
                OR EXISTS (
                    SELECT FROM lease_tickets t
                    WHERE t.project_id = $1 AND t.kind = 'slot' AND t.asked_at > clock_timestamp() - $5::interval
                        AND (t.wanted::jsonb ->> 'slot')::bigint = s.id
                )
            )
            ORDER BY s.name, s.type LIMIT $6
            """,
            project_id,
            name,
            slot_type,
            active_only,
            TICKET_TTL,
            limit,
        )
        return [SlotRecord(*row) for row in rows]

    async def leases(self, slot_ids: Sequence[SlotId]) -> list[SlotLeaseRecord]:
        rows = await self._db.rows(
            """
            SELECT id FROM slot_leases
            WHERE slot_id = ANY ($1::bigint[]) AND released_at IS NULL
                AND expires_at > clock_timestamp() - $2::interval
            UNION ALL
            SELECT id FROM slot_leases
            WHERE slot_id = ANY ($1::bigint[])
                AND released_at > (SELECT clock_timestamp() - $2::interval)  -- a bound of the index, once it is a value
            """,
            list(slot_ids),
            HOLD_TTL,
        )
        return await self._by_ids(rows)

    async def leases_of(self, agent_id: AgentId) -> list[SlotLeaseRecord]:
        rows = await self._db.rows(
            _LEASE
            + "WHERE l.agent_id = $1 AND l.released_at IS NULL AND l.expires_at > clock_timestamp() ORDER BY l.id",
            agent_id,
        )
        return [SlotLeaseRecord(*row) for row in rows]

    async def acquire(self, slot_id: SlotId, agent_id: AgentId, fence: int, ttl: timedelta) -> SlotLeaseRecord:
        rows = await self._db.rows(
            """
            INSERT INTO slot_leases (slot_id, agent_id, fence, acquired_at, renewed_at, expires_at)
            SELECT $1::bigint, $2::bigint, $3::bigint, at, at, at + $4::interval FROM clock_timestamp() AS at
            RETURNING id
            """,
            slot_id,
            agent_id,
            fence,
            ttl,
        )
        return (await self._by_ids(rows))[0]

    async def renew(self, slot_id: SlotId, agent_id: AgentId, ttl: timedelta) -> SlotLeaseRecord | None:
        rows = await self._db.rows(
            """
            UPDATE slot_leases SET renewed_at = at, expires_at = at + $3::interval FROM clock_timestamp() AS at
            WHERE slot_id = $1 AND agent_id = $2 AND released_at IS NULL AND expires_at > at RETURNING id
            """,
            slot_id,
            agent_id,
            ttl,
        )
        return next(iter(await self._by_ids(rows)), None)

    async def release(self, slot_id: SlotId, agent_id: AgentId) -> SlotLeaseRecord | None:
        rows = await self._db.rows(
            """
            UPDATE slot_leases SET released_at = at FROM clock_timestamp() AS at
            WHERE slot_id = $1 AND agent_id = $2 AND released_at IS NULL AND expires_at > at RETURNING id
            """,
            slot_id,
            agent_id,
        )
        return next(iter(await self._by_ids(rows)), None)

    async def release_all(self, agent_id: AgentId) -> list[SlotLeaseRecord]:
        rows = await self._db.rows(
            """
            UPDATE slot_leases SET released_at = at FROM clock_timestamp() AS at
            WHERE agent_id = $1 AND released_at IS NULL AND expires_at > at RETURNING id
            """,
            agent_id,
        )
        return await self._by_ids(rows)

    async def close_expired(self, project_id: ProjectId, slot_id: SlotId | None, limit: int) -> list[SlotLeaseRecord]:
        rows = await self._db.rows(
            """
            UPDATE slot_leases SET released_at = expires_at
            WHERE id IN (
                SELECT l.id FROM build_slots s JOIN slot_leases l ON l.slot_id = s.id
                WHERE s.project_id = $1 AND ($2::bigint IS NULL OR s.id = $2)
                    AND l.released_at IS NULL AND l.expires_at <= clock_timestamp()
                LIMIT $3
            )
            RETURNING id
            """,
            project_id,
            slot_id,
            limit,
        )
        return await self._by_ids(rows)

    async def _by_ids(self, rows: Sequence[Row]) -> list[SlotLeaseRecord]:
        if not rows:
            return []
        found = await self._db.rows(
            _LEASE + "WHERE l.id = ANY ($1::bigint[]) ORDER BY l.id", [row["id"] for row in rows]
        )
        return [SlotLeaseRecord(*row) for row in found]
