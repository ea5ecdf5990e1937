"""Projects in SQLite."""

from collections.abc import Sequence

from agent_mail_core.agents import SERVICE_MODEL, SERVICE_OWNER, SERVICE_POLICIES, SERVICE_PROGRAM
from agent_mail_core.clock import from_microseconds
from agent_mail_core.errors import SlugTaken
from agent_mail_core.ids import ProjectId, TeamId
from agent_mail_core.ports import Clock
from agent_mail_core.projects import ProjectCounts, ProjectRecord, Projects, key_is_slug
from agent_mail_store.sqlite.statements import Row, Statements, piece


class SqliteProjects(Projects):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def ensure(
        self, team_id: TeamId, human_key: str, slugs: Sequence[str], is_explicit: bool, description: str | None
    ) -> tuple[ProjectRecord, bool]:
        existing = self._statements.row(
            """
            SELECT id, team_id, slug, human_key, description, created_at FROM projects
            WHERE team_id = ? AND human_key = ?
            """,
            (team_id, human_key),
        )
        if existing is None:
            if self._is_slug(team_id, human_key):
                raise key_is_slug(human_key)
            slug = next((slug for slug in slugs if not self._is_taken(team_id, slug, human_key)), None)
            if slug is None:
                raise SlugTaken(slug=slugs[0])
            rows = self._statements.many(
                """
                INSERT INTO projects (team_id, slug, human_key, description, created_at) VALUES (?, ?, ?, ?, ?)
                RETURNING id, team_id, slug, human_key, description, created_at
                """,
                [(team_id, slug, human_key, description, self._clock.microseconds())],
            )
            self._add_service_agents(team_id, rows[0][0])
            return project_record(rows[0]), True
        record = project_record(existing)
        if is_explicit and slugs[0] != record.slug and self._is_taken(team_id, slugs[0], human_key):
            raise SlugTaken(slug=slugs[0])
        if description is not None and description != record.description:
            rows = self._statements.many(
                """
                UPDATE projects SET description = ? WHERE id = ?
                RETURNING id, team_id, slug, human_key, description, created_at
                """,
                [(description, record.id)],
            )
            record = project_record(rows[0])
        return record, False

    def _add_service_agents(self, team_id: TeamId, project_id: ProjectId) -> None:
        now = self._clock.microseconds()
        made = self._statements.many(
            """
            INSERT INTO agents (team_id, project_id, name, program, model, contact_policy, owner, is_service,
                registered_at, last_active_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?8) RETURNING id
            """,
            [
                (team_id, project_id, name, SERVICE_PROGRAM, SERVICE_MODEL, policy, SERVICE_OWNER, now)
                for name, policy in SERVICE_POLICIES.items()
            ],
        )
        self._statements.many("INSERT INTO mailboxes (agent_id) VALUES (?)", made)

    def _is_taken(self, team_id: TeamId, slug: str, own_key: str) -> bool:
        is_key = slug != own_key and self._statements.row(
            "SELECT 1 FROM projects WHERE team_id = ? AND human_key = ?", (team_id, slug)
        )
        return bool(is_key) or self._is_slug(team_id, slug)

    def _is_slug(self, team_id: TeamId, name: str) -> bool:
        return bool(self._statements.row("SELECT 1 FROM projects WHERE team_id = ? AND slug = ?", (team_id, name)))

    async def find(self, team_id: TeamId, ref: str) -> ProjectRecord | None:
        return find_project(self._statements, team_id, ref)

    async def page(
        self, team_id: TeamId, query: str | None, after_slug: str | None, limit: int
    ) -> list[tuple[ProjectRecord, ProjectCounts]]:
        def work(statements: Statements) -> list[Row]:
            like = piece(query or "")
            return statements.rows(
                r"""
                SELECT p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at,
                    (SELECT count(*) FROM agents a WHERE a.project_id = p.id AND a.retired_at IS NULL
                        AND NOT a.is_service),
                    (SELECT count(*) FROM messages m WHERE m.project_id = p.id),
                    (SELECT count(*) FROM threads t WHERE t.project_id = p.id)
                FROM projects p
                WHERE p.team_id = ? AND p.deleted_at IS NULL AND p.slug > ?
                    AND (p.slug LIKE ? ESCAPE '\' OR p.human_key LIKE ? ESCAPE '\')
                ORDER BY p.slug LIMIT ?
                """,
                (team_id, after_slug or "", like, like, limit),
            )

        return [(project_record(row), ProjectCounts(*row[6:])) for row in await self._statements.apart(work)]

    async def counts(self, project_id: ProjectId) -> ProjectCounts:
        def work(statements: Statements) -> Row:
            return statements.rows(
                """
                SELECT (SELECT count(*) FROM agents WHERE project_id = ?1 AND retired_at IS NULL
                        AND NOT is_service),
                    (SELECT count(*) FROM messages WHERE project_id = ?1),
                    (SELECT count(*) FROM threads WHERE project_id = ?1)
                """,
                (project_id,),
            )[0]

        return ProjectCounts(*await self._statements.apart(work))

    async def slugs(self, team_id: TeamId, limit: int) -> list[str]:
        rows = self._statements.rows(
            "SELECT slug FROM projects WHERE team_id = ? AND deleted_at IS NULL ORDER BY id DESC LIMIT ?",
            (team_id, limit),
        )
        return [row[0] for row in rows]


def find_project(statements: Statements, team_id: TeamId, ref: str) -> ProjectRecord | None:
    """By slug, else by human key."""
    row = statements.row(
        # The second half only runs when the first finds nothing.
        """
        SELECT id, team_id, slug, human_key, description, created_at FROM projects WHERE team_id = ?1 AND slug = ?2
        UNION ALL
        SELECT id, team_id, slug, human_key, description, created_at FROM projects WHERE team_id = ?1 AND human_key = ?2
        LIMIT 1
        """,
        (team_id, ref),
    )
    return project_record(row) if row is not None else None


def project_record(row: Row) -> ProjectRecord:
    """Columns id, team_id, slug, human_key, description, created_at."""
    return ProjectRecord(row[0], row[1], row[2], row[3], row[4], from_microseconds(row[5]))
