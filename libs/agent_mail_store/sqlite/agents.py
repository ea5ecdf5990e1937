"""Agents in SQLite. Names are compared by the column's NOCASE collation."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson

from agent_mail_core.agents import AgentChanges, AgentCounts, AgentRecord, Agents, NewAgent, Registered
from agent_mail_core.clock import from_microseconds, to_microseconds
from agent_mail_core.ids import AgentId, Principal, ProjectId, TeamId
from agent_mail_core.ports import Clock
from agent_mail_core.projects import ProjectRecord
from agent_mail_store.sqlite.projects import project_record
from agent_mail_store.sqlite.statements import Row, Statements


class SqliteAgents(Agents):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def find(
        self, team_id: TeamId, project_ref: str, name: str
    ) -> tuple[ProjectRecord | None, AgentRecord | None]:
        row = self._statements.row(
            # The second half only runs when the first finds nothing.
            """
            WITH found AS (
                SELECT id, team_id, slug, human_key, description, created_at
                FROM projects WHERE team_id = ?1 AND slug = ?2
                UNION ALL
                SELECT id, team_id, slug, human_key, description, created_at
                FROM projects WHERE team_id = ?1 AND human_key = ?2
                LIMIT 1
            )
            SELECT found.*,
                a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
                a.registered_at, a.last_active_at, a.retired_at
            FROM found LEFT JOIN agents a ON a.project_id = found.id AND a.name = ?3
            """,
            (team_id, project_ref, name),
        )
        if row is None:
            return None, None
        return project_record(row), agent_record(row[6:]) if row[6] is not None else None

    def _named(self, project_id: ProjectId, name: str) -> AgentRecord | None:
        row = self._statements.row(
            """
            SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                last_active_at, retired_at
            FROM agents WHERE project_id = ? AND name = ?
            """,
            (project_id, name),
        )
        return agent_record(row) if row is not None else None

    async def register(self, name: str, agent: NewAgent, owner_may_be_any: bool) -> tuple[AgentRecord, Registered]:
        existing = self._named(agent.project_id, name)
        if existing is None:
            return self._add(name, agent), "created"
        if existing.owner != agent.owner and not owner_may_be_any:
            return existing, "taken"
        rows = self._statements.many(
            """
            UPDATE agents SET program = ?, model = ?, task_description = coalesce(?, task_description),
                contact_policy = coalesce(?, contact_policy), last_active_at = max(last_active_at, ?), retired_at = NULL
            WHERE id = ?
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                last_active_at, retired_at
            """,
            [
                (
                    agent.program,
                    agent.model,
                    agent.task_description,
                    agent.contact_policy,
                    self._clock.microseconds(),
                    existing.id,
                )
            ],
        )
        return agent_record(rows[0]), "updated"

    async def register_free(self, names: Sequence[str], agent: NewAgent) -> AgentRecord | None:
        taken = await self.taken(agent.project_id, names)
        free = next((name for name in names if name.lower() not in taken), None)
        return self._add(free, agent) if free is not None else None

    def _add(self, name: str, agent: NewAgent) -> AgentRecord:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            INSERT INTO agents (team_id, project_id, name, program, model, task_description, contact_policy, owner,
                registered_at, last_active_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                last_active_at, retired_at
            """,
            [
                (
                    agent.team_id,
                    agent.project_id,
                    name,
                    agent.program,
                    agent.model,
                    agent.task_description,
                    agent.contact_policy or "auto",
                    agent.owner,
                    now,
                    now,
                )
            ],
        )
        record = agent_record(rows[0])
        self._statements.many("INSERT INTO mailboxes (agent_id) VALUES (?)", [(record.id,)])
        return record

    async def update(self, agent_id: AgentId, changes: AgentChanges) -> AgentRecord:
        rows = self._statements.many(
            """
            UPDATE agents SET program = coalesce(?, program), model = coalesce(?, model),
                task_description = coalesce(?, task_description), contact_policy = coalesce(?, contact_policy)
            WHERE id = ?
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                last_active_at, retired_at
            """,
            [(changes.program, changes.model, changes.task_description, changes.contact_policy, agent_id)],
        )
        return agent_record(rows[0])

    async def retire(self, agent_id: AgentId) -> tuple[AgentRecord, bool]:
        newly = self._statements.many(
            "UPDATE agents SET retired_at = ? WHERE id = ? AND retired_at IS NULL RETURNING id",
            [(self._clock.microseconds(), agent_id)],
        )
        rows = self._statements.rows(
            """
            SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                last_active_at, retired_at
            FROM agents WHERE id = ?
            """,
            (agent_id,),
        )
        return agent_record(rows[0]), bool(newly)

    async def transfer(self, agent_id: AgentId, owner: Principal) -> AgentRecord:
        rows = self._statements.many(
            """
            UPDATE agents SET owner = ? WHERE id = ?
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                last_active_at, retired_at
            """,
            [(owner, agent_id)],
        )
        return agent_record(rows[0])

    async def page(
        self,
        project_id: ProjectId,
        active_since: datetime | None,
        include_retired: bool,
        after_name: str | None,
        limit: int,
    ) -> list[AgentRecord]:
        def work(statements: Statements) -> list[Row]:
            return statements.rows(
                """
                SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                    last_active_at, retired_at
                FROM agents
                WHERE project_id = ? AND name > ? AND (? OR retired_at IS NULL) AND last_active_at >= ?
                    AND NOT is_service
                ORDER BY name LIMIT ?
                """,
                (
                    project_id,
                    after_name or "",
                    int(include_retired),
                    to_microseconds(active_since) if active_since is not None else 0,
                    limit,
                ),
            )

        return [agent_record(row) for row in await self._statements.apart(work)]

    async def recent(self, project_id: ProjectId, limit: int) -> list[AgentRecord]:
        rows = self._statements.rows(
            """
            SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                last_active_at, retired_at
            FROM agents WHERE project_id = ? AND retired_at IS NULL AND NOT is_service
            ORDER BY last_active_at DESC, id LIMIT ?
            """,
            (project_id, limit),
        )
        return [agent_record(row) for row in rows]

    async def names(self, project_id: ProjectId, limit: int) -> list[str]:
        rows = self._statements.rows(
            """
            SELECT name FROM agents WHERE project_id = ? AND retired_at IS NULL AND NOT is_service
            ORDER BY last_active_at DESC, id LIMIT ?
            """,
            (project_id, limit),
        )
        return [row[0] for row in rows]

    async def taken(self, project_id: ProjectId, names: Sequence[str]) -> set[str]:
        rows = self._statements.rows(
            """
            SELECT lower(name) FROM agents WHERE project_id = ? AND name IN (SELECT value FROM json_each(?))
            """,
            (project_id, orjson.dumps(list(names)).decode()),
        )
        return {row[0] for row in rows}

    async def counts(self, agent_id: AgentId, with_hidden: bool) -> AgentCounts:
        def work(statements: Statements) -> Row:
            return statements.rows(
                """
                SELECT (SELECT count(*) FROM deliveries WHERE agent_id = ?1 AND read_at IS NULL AND (?2 OR kind <> 2)),
                    (SELECT count(*) FROM deliveries WHERE agent_id = ?1 AND (?2 OR kind <> 2)),
                    (SELECT count(*) FROM messages WHERE sender_id = ?1)
                """,
                (agent_id, with_hidden),
            )[0]

        return AgentCounts(*await self._statements.apart(work))

    async def touch(self, seen: Mapping[AgentId, datetime]) -> None:
        times = [(to_microseconds(at), agent_id) for agent_id, at in seen.items()]
        self._statements.many("UPDATE agents SET last_active_at = ?1 WHERE id = ?2 AND last_active_at < ?1", times)


def agent_record(row: Row) -> AgentRecord:
    """Columns id, project_id, name, program, model, task_description, contact_policy, owner and the three times."""
    return AgentRecord(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        row[7],
        from_microseconds(row[8]),
        from_microseconds(row[9]),
        from_microseconds(row[10]) if row[10] is not None else None,
    )
