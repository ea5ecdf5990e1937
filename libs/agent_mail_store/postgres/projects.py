"""Projects on PostgreSQL. Keys are found through their SHA-256, as they may be longer than an index entry."""

import hashlib
from collections.abc import Sequence

from agent_mail_core.agents import SERVICE_MODEL, SERVICE_OWNER, SERVICE_POLICIES, SERVICE_PROGRAM
from agent_mail_core.errors import SlugTaken
from agent_mail_core.ids import ProjectId, TeamId
from agent_mail_core.projects import ProjectCounts, ProjectRecord, Projects, key_is_slug
from agent_mail_store.postgres.statements import Statements


class PostgresProjects(Projects):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def ensure(
        self, team_id: TeamId, human_key: str, slugs: Sequence[str], is_explicit: bool, description: str | None
    ) -> tuple[ProjectRecord, bool]:
        existing = await self._by_key(team_id, human_key)
        if existing is not None:
            return await self._kept(existing, slugs[0] if is_explicit else None, description), False
        # Names that are slugs here and keys there are judged one project at a time; few are ever made.
        await self._db.rows("SELECT pg_advisory_xact_lock(hashtext('agent_mail.projects'), $1::bigint::int)", team_id)
        existing = await self._by_key(team_id, human_key)
        if existing is not None:
            return await self._kept(existing, slugs[0] if is_explicit else None, description), False
        if await self._names(team_id, human_key, is_slug_only=True):
            raise key_is_slug(human_key)
        for slug in slugs:
            if slug != human_key and await self._names(team_id, slug, is_slug_only=False):
                continue
            made = await self._db.row(
                """
                WITH made AS (
                    INSERT INTO projects (team_id, human_key, slug, description) VALUES ($1, $2, $3, $4)
                    ON CONFLICT DO NOTHING
                    RETURNING id, team_id, slug, human_key, description, created_at
                ), its_agents AS (
                    INSERT INTO agents (team_id, project_id, name, program, model, contact_policy, owner, is_service)
                    SELECT made.team_id, made.id, name, $7, $8, policy, $9, true
                    FROM made, unnest($5::text[], $6::text[]) AS service (name, policy)
                    RETURNING id
                ), their_mailboxes AS (
                    INSERT INTO mailboxes (agent_id) SELECT id FROM its_agents
                )
                SELECT * FROM made
                """,
                team_id,
                human_key,
                slug,
                description,
                list(SERVICE_POLICIES),
                list(SERVICE_POLICIES.values()),
                SERVICE_PROGRAM,
                SERVICE_MODEL,
                SERVICE_OWNER,
            )
            if made is not None:
                return ProjectRecord(*made), True
        raise SlugTaken(slug=slugs[0])

    async def _by_key(self, team_id: TeamId, human_key: str) -> ProjectRecord | None:
        row = await self._db.row(
            """
            SELECT id, team_id, slug, human_key, description, created_at FROM projects
            WHERE team_id = $1 AND key_digest(human_key) = $2
            """,
            team_id,
            key_digest(human_key),
        )
        return ProjectRecord(*row) if row else None

    async def _names(self, team_id: TeamId, name: str, is_slug_only: bool) -> bool:
        """Whether a project goes by that name."""
        rows = await self._db.rows(
            """
            SELECT 1 FROM projects WHERE team_id = $1 AND slug = $2
            UNION ALL SELECT 1 FROM projects WHERE team_id = $1 AND key_digest(human_key) = $3 AND NOT $4
            """,
            team_id,
            name,
            key_digest(name),
            is_slug_only,
        )
        return bool(rows)

    async def _kept(self, project: ProjectRecord, wanted_slug: str | None, description: str | None) -> ProjectRecord:
        if (
            wanted_slug is not None
            and wanted_slug != project.slug
            and await self._names(project.team_id, wanted_slug, is_slug_only=wanted_slug == project.human_key)
        ):
            raise SlugTaken(slug=wanted_slug)
        if description is None or description == project.description:
            return project
        row = await self._db.the_row(
            """
            UPDATE projects SET description = $2 WHERE id = $1
            RETURNING id, team_id, slug, human_key, description, created_at
            """,
            project.id,
            description,
        )
        return ProjectRecord(*row)

    async def find(self, team_id: TeamId, ref: str) -> ProjectRecord | None:
        return (await named_projects(self._db, team_id, [ref])).get(ref)

    async def page(
        self, team_id: TeamId, query: str | None, after_slug: str | None, limit: int
    ) -> list[tuple[ProjectRecord, ProjectCounts]]:
        rows = await self._db.rows(
            """
            SELECT p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at, a.agents, t.messages, t.threads
            FROM (
                SELECT * FROM projects
                WHERE team_id = $1 AND deleted_at IS NULL AND slug > coalesce($3, '')
                  AND ($2::text IS NULL OR strpos(slug, lower($2 COLLATE "C")) > 0
                       OR strpos(lower(human_key), lower($2 COLLATE "C")) > 0)
                ORDER BY slug LIMIT $4
            ) p
            CROSS JOIN LATERAL (
                SELECT count(*) AS agents FROM agents
                WHERE project_id = p.id AND retired_at IS NULL AND NOT is_service
            ) a
            CROSS JOIN LATERAL (
                SELECT count(*) AS threads, coalesce(sum(message_count), 0)::bigint AS messages
                FROM threads WHERE project_id = p.id
            ) t
            ORDER BY p.slug
            """,
            team_id,
            query,
            after_slug,
            limit,
        )
        return [
            (ProjectRecord(*row[:6]), ProjectCounts(row["agents"], row["messages"], row["threads"])) for row in rows
        ]

    async def counts(self, project_id: ProjectId) -> ProjectCounts:
        row = await self._db.the_row(
            """
            SELECT (SELECT count(*) FROM agents
                    WHERE project_id = $1 AND retired_at IS NULL AND NOT is_service) AS agents,
                   count(*) AS threads, coalesce(sum(message_count), 0)::bigint AS messages
            FROM threads WHERE project_id = $1
            """,
            project_id,
        )
        return ProjectCounts(row["agents"], row["messages"], row["threads"])

    async def slugs(self, team_id: TeamId, limit: int) -> list[str]:
        rows = await self._db.rows(
            "SELECT slug FROM projects WHERE team_id = $1 AND deleted_at IS NULL ORDER BY id DESC LIMIT $2",
            team_id,
            limit,
        )
        return [row["slug"] for row in rows]


async def named_projects(db: Statements, team_id: TeamId, refs: Sequence[str]) -> dict[str, ProjectRecord]:
    """The team's projects that the references mean, each a slug, else a human key."""
    rows = await db.rows(
        """
        SELECT id, team_id, slug, human_key, description, created_at FROM projects
        WHERE team_id = $1 AND slug = ANY ($2::text[])
        UNION ALL
        SELECT id, team_id, slug, human_key, description, created_at FROM projects
        WHERE team_id = $1 AND key_digest(human_key) = ANY ($3::bytea[])
        """,
        team_id,
        refs,
        [key_digest(ref) for ref in refs],
    )
    projects = [ProjectRecord(*row) for row in rows]
    by_slug = {project.slug: project for project in projects}
    by_key = {project.human_key: project for project in projects}
    named = {ref: by_slug.get(ref) or by_key.get(ref) for ref in refs}
    return {ref: project for ref, project in named.items() if project is not None}


def key_digest(human_key: str) -> bytes:
    """What `key_digest` in the schema makes of a key."""
    return hashlib.sha256(human_key.encode()).digest()
