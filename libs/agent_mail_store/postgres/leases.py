"""Lease locks, fences and queues on PostgreSQL: the lock is that of the project's row of lease_counters."""

from agent_mail_core.errors import TransactionConflict
from agent_mail_core.ids import AgentId, ProjectId
from agent_mail_core.leases import MAX_TICKETS, TICKET_TTL, Leases, Ticket, TicketKind
from agent_mail_store.postgres.statements import Statements


class PostgresLeases(Leases):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def lock(self, project_id: ProjectId) -> int:
        version = await self._locked(project_id)
        if version is None:
            await self._db.rows(
                """
                INSERT INTO lease_counters (project_id) SELECT id FROM projects WHERE id = $1
                ON CONFLICT DO NOTHING
                """,
                project_id,
            )
            version = await self._locked(project_id)
        if version is None:  # the project has just been purged
            raise TransactionConflict
        return version

    async def _locked(self, project_id: ProjectId) -> int | None:
        row = await self._db.row("SELECT version FROM lease_counters WHERE project_id = $1 FOR UPDATE", project_id)
        return row["version"] if row is not None else None

    async def fences(self, project_id: ProjectId, count: int) -> list[int]:
        row = await self._db.the_row(
            "UPDATE lease_counters SET fence = fence + $2 WHERE project_id = $1 RETURNING fence", project_id, count
        )
        last: int = row["fence"]
        return list(range(last - count + 1, last + 1))

    async def change(self, project_id: ProjectId) -> None:
        await self._db.rows("UPDATE lease_counters SET version = version + 1 WHERE project_id = $1", project_id)

    async def tickets(self, project_id: ProjectId, kind: TicketKind) -> list[Ticket]:
        return await standing_tickets(self._db, project_id, kind)

    async def ask(
        self, project_id: ProjectId, agent_id: AgentId, kind: TicketKind, wanted: str, may_join: bool
    ) -> tuple[Ticket | None, bool]:
        await self._db.rows(
            """
            DELETE FROM lease_tickets
            WHERE project_id = $1 AND kind = $2 AND asked_at <= clock_timestamp() - $3::interval
            """,
            project_id,
            kind,
            TICKET_TTL,
        )
        asked = await self._db.rows(
            """
            UPDATE lease_tickets SET asked_at = clock_timestamp()
            WHERE project_id = $1 AND kind = $2 AND agent_id = $3 AND wanted_digest = key_digest($4) RETURNING id
            """,
            project_id,
            kind,
            agent_id,
            wanted,
        )
        if not asked and may_join:
            await self._db.rows(
                """
                INSERT INTO lease_tickets (project_id, agent_id, kind, wanted, created_at, asked_at)
                SELECT $1::bigint, $2::bigint, $3::text, $4::text, clock_timestamp(), clock_timestamp()
                WHERE (SELECT count(*) FROM lease_tickets WHERE project_id = $1 AND kind = $3) < $5
                """,
                project_id,
                agent_id,
                kind,
                wanted,
                MAX_TICKETS,
            )
        standing = await standing_tickets(self._db, project_id, kind)
        own = next((one for one in standing if one.agent_id == agent_id and one.wanted == wanted), None)
        return own, own is not None and not asked

    async def leave(self, ticket_id: int) -> None:
        await self._db.rows("DELETE FROM lease_tickets WHERE id = $1", ticket_id)

    async def leave_all(self, agent_id: AgentId) -> None:
        await self._db.rows("DELETE FROM lease_tickets WHERE agent_id = $1", agent_id)


async def standing_tickets(db: Statements, project_id: ProjectId, kind: TicketKind) -> list[Ticket]:
    """The places whose agents still ask, in order of arrival."""
    rows = await db.rows(
        """
        SELECT t.id, t.agent_id, a.name, t.wanted FROM lease_tickets t JOIN agents a ON a.id = t.agent_id
        WHERE t.project_id = $1 AND t.kind = $2 AND t.asked_at > clock_timestamp() - $3::interval
        ORDER BY t.id
        """,
        project_id,
        kind,
        TICKET_TTL,
    )
    return [Ticket(*row) for row in rows]
