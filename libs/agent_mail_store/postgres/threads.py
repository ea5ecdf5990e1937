"""Threads on PostgreSQL. Who adds a message to one holds its lock until the commit, so its ids commit in order."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from agent_mail_core.addresses import show
from agent_mail_core.ids import AgentId, ProjectId, TeamId, ThreadId
from agent_mail_core.threads import Share, ThreadFilter, ThreadRecord, Threads
from agent_mail_store.postgres.statements import Statements

_PAGE_BEGIN = """
    SELECT t.id, t.project_id, t.key, t.subject, t.message_count, t.last_message_id, t.last_message_at, t.created_at
    FROM threads t
    WHERE t.project_id = $1
      AND (t.last_message_at, t.id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::bigint, 0))
      AND ($4::text IS NULL OR strpos(t.key_lower, lower($4 COLLATE "C")) > 0
           OR strpos(lower(t.subject COLLATE "C"), lower($4 COLLATE "C")) > 0)
"""
_WITH_AGENT = """
      AND EXISTS (
          SELECT FROM thread_participants p
          WHERE p.thread_id = t.id AND p.agent_id = $6 AND ($7 OR NOT p.is_hidden)
      )
"""
_PAGE_END = "ORDER BY t.last_message_at DESC, t.id DESC LIMIT $5"


class PostgresThreads(Threads):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def find(self, project_id: ProjectId, key: str) -> ThreadRecord | None:
        row = await self._db.row(
            """
            SELECT id, project_id, key, subject, message_count, last_message_id, last_message_at, created_at
            FROM threads WHERE project_id = $1 AND key_lower = lower($2 COLLATE "C")
            """,
            project_id,
            key,
        )
        return ThreadRecord(*row) if row else None

    async def page(
        self, project_id: ProjectId, wanted: ThreadFilter, before: tuple[datetime, ThreadId] | None, limit: int
    ) -> list[ThreadRecord]:
        last_at, last_id = before or (None, None)
        statement = [_PAGE_BEGIN, _PAGE_END]
        arguments = [project_id, last_at, last_id, wanted.query, limit]
        if wanted.agent_id is not None:
            statement.insert(1, _WITH_AGENT)
            arguments += [wanted.agent_id, wanted.with_hidden]
        rows = await self._db.rows("".join(statement), *arguments)
        return [ThreadRecord(*row) for row in rows]

    async def elsewhere(
        self, agent_id: AgentId, query: str | None, before: tuple[datetime, ThreadId] | None, limit: int
    ) -> list[tuple[ThreadRecord, str]]:
        last_at, last_id = before or (None, None)
        rows = await self._db.rows(
            """
            SELECT t.id, t.project_id, t.key, t.subject, t.message_count, t.last_message_id, t.last_message_at,
                   t.created_at, p.slug
            FROM agents a
            JOIN thread_participants q ON q.agent_id = a.id
            JOIN threads t ON t.id = q.thread_id AND t.project_id <> a.project_id
            JOIN projects p ON p.id = t.project_id AND p.deleted_at IS NULL
            WHERE a.id = $1
              AND (t.last_message_at, t.id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::bigint, 0))
              AND ($4::text IS NULL OR strpos(t.key_lower, lower($4 COLLATE "C")) > 0
                   OR strpos(lower(t.subject COLLATE "C"), lower($4 COLLATE "C")) > 0)
            ORDER BY t.last_message_at DESC, t.id DESC LIMIT $5
            """,
            agent_id,
            last_at,
            last_id,
            query,
            limit,
        )
        return [(ThreadRecord(*row[:8]), row["slug"]) for row in rows]

    async def participants(self, thread_ids: list[ThreadId]) -> dict[ThreadId, list[str]]:
        rows = await self._db.rows(
            """
            SELECT p.thread_id, array_agg(a.name ORDER BY a.name_key, a.id) AS names,
                   array_agg(CASE WHEN a.project_id <> t.project_id
                                  THEN (SELECT slug FROM projects WHERE id = a.project_id) END
                             ORDER BY a.name_key, a.id) AS slugs
            FROM thread_participants p JOIN agents a ON a.id = p.agent_id JOIN threads t ON t.id = p.thread_id
            WHERE p.thread_id = ANY ($1::bigint[]) AND NOT p.is_hidden
            GROUP BY p.thread_id
            """,
            thread_ids,
        )
        return {row["thread_id"]: list(map(show, row["names"], row["slugs"])) for row in rows}

    async def share(self, thread_id: ThreadId, agent_id: AgentId) -> Share:
        row = await self._db.the_row(
            """
            SELECT EXISTS (SELECT FROM messages m WHERE m.thread_id = $1 AND (m.sender_id = $2 OR EXISTS (
                       SELECT FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = $2))) AS has_own,
                   EXISTS (SELECT FROM messages m WHERE m.thread_id = $1 AND m.sender_id <> $2 AND NOT EXISTS (
                       SELECT FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = $2)) AS has_others
            """,
            thread_id,
            agent_id,
        )
        return "none" if not row["has_own"] else "some" if row["has_others"] else "all"

    async def keys(self, project_id: ProjectId, limit: int) -> list[str]:
        rows = await self._db.rows(
            "SELECT key FROM threads WHERE project_id = $1 ORDER BY last_message_at DESC, id DESC LIMIT $2",
            project_id,
            limit,
        )
        return [row["key"] for row in rows]


async def lock_threads(
    db: Statements,
    team_id: TeamId,
    known: Collection[ThreadId],
    wanted: Mapping[tuple[ProjectId, str], tuple[str, str]],
) -> list[tuple[ThreadId, ProjectId, str]]:
    """Lock the threads of these ids and (project, lower-cased key) until the transaction ends, making what is missing.

    `wanted` gives the spelling and the subject of each thread that may be new. Returns id, project and key as spelled;
    one whose id is unknown is left out. New ones are made first, in the order of their keys, then the others are locked
    in the order of their ids: who waits for a new one holds no lock yet, so nobody waits in a circle.
    """
    made: list[tuple[ThreadId, ProjectId, str]] = []
    if wanted:
        keys = sorted(wanted)
        rows = await db.rows(
            """
            INSERT INTO threads (team_id, project_id, key, subject)
            SELECT $1, project_id, key, subject
            FROM unnest($2::bigint[], $3::text[], $4::text[]) WITH ORDINALITY AS n (project_id, key, subject, place)
            WHERE NOT EXISTS (
                SELECT FROM threads t
                WHERE t.project_id = n.project_id AND t.key_lower = lower(n.key COLLATE "C")
            )
            ORDER BY place
            ON CONFLICT (project_id, key_lower) DO NOTHING
            RETURNING id, project_id, key
            """,
            team_id,
            [project_id for project_id, _ in keys],
            [wanted[key][0] for key in keys],
            [wanted[key][1] for key in keys],
        )
        made = [(row["id"], row["project_id"], row["key"]) for row in rows]
    new = {(project_id, key.lower()) for _, project_id, key in made}
    others = [key for key in wanted if key not in new]
    if not known and not others:
        return made
    return made + await _lock_existing(db, known, others)


async def _lock_existing(
    db: Statements, known: Collection[ThreadId], others: Sequence[tuple[ProjectId, str]]
) -> list[tuple[ThreadId, ProjectId, str]]:
    rows = await db.rows(
        """
        SELECT id, project_id, key FROM threads
        WHERE id = ANY (
            $1::bigint[] || ARRAY (
                SELECT t.id FROM unnest($2::bigint[], $3::text[]) AS other (project_id, key_lower)
                JOIN threads t ON t.project_id = other.project_id AND t.key_lower = other.key_lower
            )
        )
        ORDER BY id FOR NO KEY UPDATE
        """,
        list(known),
        [project_id for project_id, _ in others],
        [key for _, key in others],
    )
    return [(row["id"], row["project_id"], row["key"]) for row in rows]
