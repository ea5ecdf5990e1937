"""Lease locks, fences and queues in SQLite. Whoever writes is the only writer, so the lock is had already."""

from agent_mail_core.clock import MICROSECOND
from agent_mail_core.ids import AgentId, ProjectId
from agent_mail_core.leases import MAX_TICKETS, TICKET_TTL, Leases, Ticket, TicketKind
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Statements


class SqliteLeases(Leases):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def lock(self, project_id: ProjectId) -> int:
        self._statements.many(
            "INSERT INTO lease_counters (project_id) VALUES (?) ON CONFLICT DO NOTHING", [(project_id,)]
        )
        rows = self._statements.rows("SELECT version FROM lease_counters WHERE project_id = ?", (project_id,))
        return int(rows[0][0])

    async def fences(self, project_id: ProjectId, count: int) -> list[int]:
        rows = self._statements.many(
            "UPDATE lease_counters SET fence = fence + ? WHERE project_id = ? RETURNING fence", [(count, project_id)]
        )
        last = rows[0][0]
        return list(range(last - count + 1, last + 1))

    async def change(self, project_id: ProjectId) -> None:
        self._statements.many("UPDATE lease_counters SET version = version + 1 WHERE project_id = ?", [(project_id,)])

    async def tickets(self, project_id: ProjectId, kind: TicketKind) -> list[Ticket]:
        return standing_tickets(self._statements, project_id, kind, self._clock.microseconds())

    async def ask(
        self, project_id: ProjectId, agent_id: AgentId, kind: TicketKind, wanted: str, may_join: bool
    ) -> tuple[Ticket | None, bool]:
        now = self._clock.microseconds()
        self._statements.many(
            "DELETE FROM lease_tickets WHERE project_id = ? AND kind = ? AND asked_at <= ?",
            [(project_id, kind, now - TICKET_TTL // MICROSECOND)],
        )
        asked = self._statements.many(
            """
            UPDATE lease_tickets SET asked_at = ?
            WHERE project_id = ? AND kind = ? AND agent_id = ? AND wanted = ? RETURNING id
            """,
            [(now, project_id, kind, agent_id, wanted)],
        )
        if not asked and may_join:
            self._statements.many(
                """
                INSERT INTO lease_tickets (project_id, agent_id, kind, wanted, created_at, asked_at)
                SELECT ?1, ?2, ?3, ?4, ?5, ?5
                WHERE (SELECT count(*) FROM lease_tickets WHERE project_id = ?1 AND kind = ?3) < ?6
                """,
                [(project_id, agent_id, kind, wanted, now, MAX_TICKETS)],
            )
        standing = standing_tickets(self._statements, project_id, kind, now)
        own = next((one for one in standing if one.agent_id == agent_id and one.wanted == wanted), None)
        return own, own is not None and not asked

    async def leave(self, ticket_id: int) -> None:
        self._statements.many("DELETE FROM lease_tickets WHERE id = ?", [(ticket_id,)])

    async def leave_all(self, agent_id: AgentId) -> None:
        self._statements.many("DELETE FROM lease_tickets WHERE agent_id = ?", [(agent_id,)])


def standing_tickets(statements: Statements, project_id: ProjectId, kind: TicketKind, now: int) -> list[Ticket]:
    """The places whose agents still ask, in order of arrival."""
    rows = statements.rows(
        """
        SELECT t.id, t.agent_id, a.name, t.wanted FROM lease_tickets t JOIN agents a ON a.id = t.agent_id
        WHERE t.project_id = ? AND t.kind = ? AND t.asked_at > ? ORDER BY t.id
        """,
        (project_id, kind, now - TICKET_TTL // MICROSECOND),
    )
    return [Ticket(*row) for row in rows]
