"""Agents on PostgreSQL.

Who retires one, or says who may write to it, holds its mailbox's lock: a send in flight is through before that is
answered, or is decided again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from agent_mail_core.agents import AgentChanges, AgentCounts, AgentRecord, Agents, NewAgent, Registered
from agent_mail_core.ids import AgentId, Principal, ProjectId, TeamId
from agent_mail_core.projects import ProjectRecord
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.projects import key_digest
from agent_mail_store.postgres.statements import Statements

AGENT_FIELDS = 11
"""How many columns make an AgentRecord, always selected in the order of its fields."""

_FOUND = """
    p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at,
    a.id AS agent_id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
    a.registered_at, a.last_active_at, a.retired_at
"""
_FIND = f"""
    SELECT {_FOUND}
    FROM projects p
    LEFT JOIN agents a ON a.project_id = p.id AND a.name_key = lower($4 COLLATE "C")
    WHERE p.id = coalesce(
        (SELECT id FROM projects WHERE team_id = $1 AND slug = $2),
        (SELECT id FROM projects WHERE team_id = $1 AND key_digest(human_key) = $3)
    )
"""  # noqa: S608 - our own columns
_FIND_SEVERAL = f"""
    SELECT {_FOUND}, q.number
    FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[]) WITH ORDINALITY
         q (team_id, ref, digest, name, number)
    JOIN projects p ON p.id = coalesce(
        (SELECT id FROM projects WHERE team_id = q.team_id AND slug = q.ref),
        (SELECT id FROM projects WHERE team_id = q.team_id AND key_digest(human_key) = q.digest)
    )
    LEFT JOIN agents a ON a.project_id = p.id AND a.name_key = lower(q.name COLLATE "C")
"""  # noqa: S608 - our own columns

AgentQuestion: TypeAlias = tuple[TeamId, str, str]
FoundAgent: TypeAlias = tuple[ProjectRecord | None, AgentRecord | None]


class PostgresAgents(Agents):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def find(
        self, team_id: TeamId, project_ref: str, name: str
    ) -> tuple[ProjectRecord | None, AgentRecord | None]:
        if self._db.together is not None:
            return await self._db.together.agents.get((team_id, project_ref, name))
        return _found(await self._db.row(_FIND, team_id, project_ref, key_digest(project_ref), name))

    async def register(self, name: str, agent: NewAgent, owner_may_be_any: bool) -> tuple[AgentRecord, Registered]:
        made = await self.register_free([name], agent)
        if made is not None:
            return made, "created"
        if agent.contact_policy is not None:  # the mailbox before the row, as everybody does
            await self._db.rows(
                """
                SELECT FROM mailboxes WHERE agent_id = (
                    SELECT id FROM agents WHERE project_id = $1 AND name_key = lower($2 COLLATE "C")
                ) FOR NO KEY UPDATE
                """,
                agent.project_id,
                name,
            )
        row = await self._db.the_row(
            """
            SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                   last_active_at, retired_at
            FROM agents WHERE project_id = $1 AND name_key = lower($2 COLLATE "C") FOR NO KEY UPDATE
            """,
            agent.project_id,
            name,
        )
        existing = AgentRecord(*row)
        if existing.owner != agent.owner and not owner_may_be_any:
            return existing, "taken"
        row = await self._db.the_row(
            """
            UPDATE agents SET program = $2, model = $3, task_description = coalesce($4, task_description),
                              contact_policy = coalesce($5, contact_policy), retired_at = NULL,
                              last_active_at = greatest(last_active_at, clock_timestamp())
            WHERE id = $1
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                      last_active_at, retired_at
            """,
            existing.id,
            agent.program,
            agent.model,
            agent.task_description,
            agent.contact_policy,
        )
        return AgentRecord(*row), "updated"

    async def register_free(self, names: Sequence[str], agent: NewAgent) -> AgentRecord | None:
        for _ in range(len(names)):
            made = await self._db.row(
                """
                WITH made AS (
                    INSERT INTO agents (team_id, project_id, name, program, model, task_description, contact_policy,
                                        owner)
                    SELECT $1, $2, wanted.name, $4, $5, $6, coalesce($7, 'auto'), $8
                    FROM unnest($3::text[]) WITH ORDINALITY AS wanted (name, place)
                    WHERE NOT EXISTS (
                        SELECT FROM agents a
                        WHERE a.project_id = $2 AND a.name_key = lower(wanted.name COLLATE "C")
                    )
                    ORDER BY wanted.place LIMIT 1
                    ON CONFLICT (project_id, name_key) DO NOTHING
                    RETURNING id, project_id, name, program, model, task_description, contact_policy, owner,
                              registered_at, last_active_at, retired_at
                ), its_mailbox AS (
                    INSERT INTO mailboxes (agent_id) SELECT id FROM made
                )
                SELECT * FROM made
                """,
                agent.team_id,
                agent.project_id,
                names,
                agent.program,
                agent.model,
                agent.task_description,
                agent.contact_policy,
                agent.owner,
            )
            if made is not None:
                return AgentRecord(*made)
            # All are taken, or a racer has just taken the one that was free: a new statement sees which.
            if len(await self.taken(agent.project_id, names)) == len({name.lower() for name in names}):
                break
        return None

    async def update(self, agent_id: AgentId, changes: AgentChanges) -> AgentRecord:
        if changes.contact_policy is not None:
            await self._db.rows("SELECT FROM mailboxes WHERE agent_id = $1 FOR NO KEY UPDATE", agent_id)
        row = await self._db.the_row(
            """
            UPDATE agents SET program = coalesce($2, program), model = coalesce($3, model),
                              task_description = coalesce($4, task_description),
                              contact_policy = coalesce($5, contact_policy)
            WHERE id = $1
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                      last_active_at, retired_at
            """,
            agent_id,
            changes.program,
            changes.model,
            changes.task_description,
            changes.contact_policy,
        )
        return AgentRecord(*row)

    async def retire(self, agent_id: AgentId) -> tuple[AgentRecord, bool]:
        await self._db.rows("SELECT FROM mailboxes WHERE agent_id = $1 FOR NO KEY UPDATE", agent_id)
        retired = await self._db.row(
            """
            UPDATE agents SET retired_at = clock_timestamp() WHERE id = $1 AND retired_at IS NULL
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                      last_active_at, retired_at
            """,
            agent_id,
        )
        if retired is not None:
            return AgentRecord(*retired), True
        row = await self._db.the_row(
            """
            SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                   last_active_at, retired_at
            FROM agents WHERE id = $1
            """,
            agent_id,
        )
        return AgentRecord(*row), False

    async def transfer(self, agent_id: AgentId, owner: Principal) -> AgentRecord:
        row = await self._db.the_row(
            """
            UPDATE agents SET owner = $2 WHERE id = $1
            RETURNING id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                      last_active_at, retired_at
            """,
            agent_id,
            owner,
        )
        return AgentRecord(*row)

    async def page(
        self,
        project_id: ProjectId,
        active_since: datetime | None,
        include_retired: bool,
        after_name: str | None,
        limit: int,
    ) -> list[AgentRecord]:
        rows = await self._db.rows(
            """
            SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                   last_active_at, retired_at
            FROM agents
            WHERE project_id = $1 AND name_key > coalesce($4, '') AND NOT is_service
              AND ($2::timestamptz IS NULL OR last_active_at >= $2) AND ($3 OR retired_at IS NULL)
            ORDER BY name_key LIMIT $5
            """,
            project_id,
            active_since,
            include_retired,
            after_name,
            limit,
        )
        return [AgentRecord(*row) for row in rows]

    async def recent(self, project_id: ProjectId, limit: int) -> list[AgentRecord]:
        rows = await self._db.rows(
            """
            SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
                   last_active_at, retired_at
            FROM agents WHERE project_id = $1 AND retired_at IS NULL AND NOT is_service
            ORDER BY last_active_at DESC LIMIT $2
            """,
            project_id,
            limit,
        )
        return [AgentRecord(*row) for row in rows]

    async def names(self, project_id: ProjectId, limit: int) -> list[str]:
        rows = await self._db.rows(
            """
            SELECT name FROM agents
            WHERE project_id = $1 AND retired_at IS NULL AND NOT is_service ORDER BY last_active_at DESC LIMIT $2
            """,
            project_id,
            limit,
        )
        return [row["name"] for row in rows]

    async def taken(self, project_id: ProjectId, names: Sequence[str]) -> set[str]:
        rows = await self._db.rows(
            "SELECT name_key FROM agents WHERE project_id = $1 AND name_key = ANY ($2::text[])",
            project_id,
            [name.lower() for name in names],
        )
        return {row["name_key"] for row in rows}

    async def counts(self, agent_id: AgentId, with_hidden: bool) -> AgentCounts:
        row = await self._db.the_row(
            """
            SELECT (SELECT count(*) FROM deliveries
                    WHERE agent_id = $1 AND read_at IS NULL AND ($2 OR kind <> 2)) AS unread,
                   (SELECT count(*) FROM deliveries WHERE agent_id = $1 AND ($2 OR kind <> 2)) AS received,
                   (SELECT count(*) FROM messages WHERE sender_id = $1) AS sent
            """,
            agent_id,
            with_hidden,
        )
        return AgentCounts(row["unread"], row["received"], row["sent"])

    async def touch(self, seen: Mapping[AgentId, datetime]) -> None:
        await self._db.rows(
            """
            WITH later AS (
                SELECT a.id, seen.at
                FROM unnest($1::bigint[], $2::timestamptz[]) AS seen (id, at) JOIN agents a USING (id)
                WHERE a.last_active_at < seen.at
                ORDER BY a.id FOR NO KEY UPDATE OF a
            )
            UPDATE agents SET last_active_at = greatest(last_active_at, later.at) FROM later WHERE agents.id = later.id
            """,
            list(seen),
            list(seen.values()),
        )


async def find_together(db: Statements, questions: Sequence[AgentQuestion]) -> list[FoundAgent]:
    """What `PostgresAgents.find` answers to each: team, project and name."""
    teams, refs, names = zip(*questions, strict=True)
    digests = [key_digest(ref) for ref in refs]
    rows = await db.rows(_FIND_SEVERAL, teams, refs, digests, names)
    found = {row["number"]: row for row in rows}
    return [_found(found.get(number)) for number in range(1, len(questions) + 1)]


def _found(row: Row | None) -> FoundAgent:
    if row is None:
        return None, None
    return ProjectRecord(*row[:6]), AgentRecord(*row[6 : 6 + AGENT_FIELDS]) if row["agent_id"] is not None else None
