"""Deleted projects on PostgreSQL. Mailboxes are locked before the project's row, which is the order of sends."""

from datetime import datetime

from agent_mail_core.errors import ProjectOnHold
from agent_mail_core.ids import ProjectId
from agent_mail_core.project_deletion import ProjectDeletions
from agent_mail_store.postgres.attachments import remove_blobs
from agent_mail_store.postgres.retention import is_on_hold, share_lock
from agent_mail_store.postgres.statements import Statements

# Each changes at most $2 rows of project $1. They run in this order, each once those before it find nothing.
_STEPS = (
    """
    DELETE FROM reviews WHERE id IN (SELECT id FROM reviews WHERE project_id = $1 ORDER BY id LIMIT $2) RETURNING 1
    """,
    """
    DELETE FROM threads WHERE id IN (
        SELECT id FROM (
            SELECT t.id, sum(1 + (SELECT count(*) FROM thread_participants p WHERE p.thread_id = t.id))
                OVER (ORDER BY t.id) AS total, row_number() OVER (ORDER BY t.id) AS place
            FROM (SELECT id FROM threads WHERE project_id = $1 ORDER BY id LIMIT $2) t
        ) counted WHERE total <= $2 OR place = 1
    ) RETURNING 1
    """,
    """
    DELETE FROM reservations WHERE id IN (SELECT id FROM reservations WHERE project_id = $1 ORDER BY id LIMIT $2)
    RETURNING 1
    """,
    """
    DELETE FROM slot_leases WHERE id IN (
        SELECT l.id FROM build_slots s JOIN slot_leases l ON l.slot_id = s.id WHERE s.project_id = $1 LIMIT $2
    ) RETURNING 1
    """,
    """
    DELETE FROM build_slots WHERE id IN (SELECT id FROM build_slots WHERE project_id = $1 LIMIT $2) RETURNING 1
    """,
    """
    DELETE FROM lease_tickets WHERE id IN (SELECT id FROM lease_tickets WHERE project_id = $1 LIMIT $2) RETURNING 1
    """,
    """
    DELETE FROM events WHERE id IN (
        SELECT id FROM events WHERE project_id = $1 AND kind <> 'project.deleted' ORDER BY xact, id LIMIT $2
    ) RETURNING 1
    """,
    """
    DELETE FROM mailboxes WHERE agent_id IN (
        SELECT a.id FROM agents a JOIN mailboxes b ON b.agent_id = a.id
        WHERE a.project_id = $1 AND NOT EXISTS (SELECT FROM deliveries d WHERE d.agent_id = a.id) LIMIT $2
    ) RETURNING 1
    """,
    # Rows of agents stay, without what they said: too many tables point at them, not all with an index, to look whether
    # any still does. Names go too, unless other projects' mail shows them: what stands in their place nobody could have
    # guessed and taken.
    """
    UPDATE agents a SET
        name = CASE WHEN EXISTS (SELECT FROM messages m WHERE m.sender_id = a.id)
            OR EXISTS (SELECT FROM deliveries d WHERE d.agent_id = a.id) THEN name
            ELSE id || (SELECT slug FROM projects p WHERE p.id = a.project_id) END,
        program = 'deleted', model = 'deleted', task_description = NULL
    WHERE id IN (SELECT id FROM agents WHERE project_id = $1 AND program <> 'deleted' ORDER BY id LIMIT $2) RETURNING 1
    """,
)
# What ties a project and its agents to others. It goes with the deletion, and once more with the purge: a contact, for
# one, may be made at that moment by an agent of another project.
_TIES = (
    "DELETE FROM product_projects WHERE project_id = $1",
    "DELETE FROM webhooks WHERE project_id = $1",
    "DELETE FROM contacts c USING agents a WHERE a.project_id = $1 AND a.id IN (c.agent_id, c.contact_id)",
    "DELETE FROM blocks b USING agents a WHERE a.project_id = $1 AND a.id IN (b.agent_id, b.blocked_id)",
)
_ATTACHMENTS_A_STEP = 20
"""They bring up to 10 MiB each."""


class PostgresProjectDeletions(ProjectDeletions):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def delete(self, project_id: ProjectId, slug: str, human_key: str) -> datetime | None:
        await share_lock(self._db)
        if await is_on_hold(self._db, project_id):
            raise ProjectOnHold
        await self._db.rows(
            """
            SELECT FROM mailboxes WHERE agent_id IN (
                SELECT id FROM agents WHERE project_id = $1
                UNION SELECT p.agent_id FROM threads t JOIN thread_participants p ON p.thread_id = t.id
                WHERE t.project_id = $1
            ) ORDER BY agent_id FOR NO KEY UPDATE
            """,
            project_id,
        )
        row = await self._db.row(
            """
            UPDATE projects SET deleted_at = clock_timestamp(), deleted_slug = slug, deleted_key = human_key,
                                slug = $2, human_key = $3
            WHERE id = $1 AND deleted_at IS NULL RETURNING deleted_at
            """,
            project_id,
            slug,
            human_key,
        )
        if row is None:
            return None
        await self._db.rows(
            "UPDATE agents SET retired_at = clock_timestamp() WHERE project_id = $1 AND retired_at IS NULL", project_id
        )
        for statement in (
            *_TIES,
            # Through the threads: who got mail of a project takes part in one, and those of other projects are few.
            """
            WITH gone AS (
                DELETE FROM deliveries d
                USING threads t, thread_participants p, agents a
                WHERE t.project_id = $1 AND p.thread_id = t.id AND a.id = p.agent_id AND a.project_id <> $1
                  AND d.thread_id = t.id AND d.agent_id = a.id
                RETURNING d.agent_id, d.read_at
            )
            UPDATE mailboxes b SET unread = b.unread - lost.unread
            FROM (SELECT agent_id, count(*) AS unread FROM gone WHERE read_at IS NULL GROUP BY agent_id) lost
            WHERE b.agent_id = lost.agent_id
            """,
        ):
            await self._db.rows(statement, project_id)
        return row["deleted_at"]  # type: ignore[no-any-return]

    async def unpurged(self, is_archived: bool, limit: int) -> list[ProjectId]:
        rows = await self._db.rows(
            """
            SELECT p.id FROM projects p LEFT JOIN archives a ON a.project_id = p.id
            WHERE p.deleted_at IS NOT NULL AND p.deleted_key IS NOT NULL AND NOT ($1 AND EXISTS (
                SELECT FROM events e
                WHERE e.project_id = p.id
                  AND (e.xact, e.id) > (coalesce(a.position_xact, 0)::text::xid8, coalesce(a.position_id, 0))
            ))
            ORDER BY p.id LIMIT $2
            """,
            is_archived,
            limit,
        )
        return [row["id"] for row in rows]

    async def purge_step(self, project_id: ProjectId, limit: int) -> int:
        mine = await self._db.row(
            "SELECT FROM projects WHERE id = $1 AND deleted_at IS NOT NULL FOR NO KEY UPDATE", project_id
        )
        if mine is None:
            return 0
        removed = await self._messages(project_id, limit) or await self._attachments(project_id)
        for statement in _STEPS:
            if removed:
                return removed
            removed = len(await self._db.rows(statement, project_id, limit))
        if not removed:
            await self._strip(project_id)
        return removed

    async def _messages(self, project_id: ProjectId, limit: int) -> int:
        """Messages with their deliveries, of which a message may have a hundred."""
        row = await self._db.the_row(
            """
            WITH counted AS (
                SELECT m.id, sum(1 + (SELECT count(*) FROM deliveries d WHERE d.message_id = m.id))
                    OVER (ORDER BY m.id) AS total, row_number() OVER (ORDER BY m.id) AS place
                FROM (SELECT id FROM messages WHERE project_id = $1 ORDER BY id LIMIT $2) m
            ), gone AS (
                DELETE FROM messages WHERE id IN (SELECT id FROM counted WHERE total <= $2 OR place = 1) RETURNING id
            )
            SELECT coalesce(max(total), 0)::bigint AS removed FROM counted JOIN gone USING (id)
            """,
            project_id,
            limit,
        )
        return int(row["removed"])

    async def _attachments(self, project_id: ProjectId) -> int:
        rows = await self._db.rows(
            """
            DELETE FROM attachments WHERE id IN (
                SELECT t.id FROM attachments t
                WHERE t.project_id = $1
                  AND NOT EXISTS (SELECT FROM message_attachments l WHERE l.attachment_id = t.id)
                ORDER BY t.id LIMIT $2
            ) RETURNING team_id, sha256
            """,
            project_id,
            _ATTACHMENTS_A_STEP,
        )
        await remove_blobs(self._db, [(row["team_id"], row["sha256"]) for row in rows])
        return len(rows)

    async def _strip(self, project_id: ProjectId) -> None:
        """What stays tells nothing but names."""
        for statement in (
            *_TIES,
            "DELETE FROM lease_counters WHERE project_id = $1",
            "DELETE FROM embedding_positions WHERE project_id = $1",
            "UPDATE projects SET deleted_key = NULL, description = NULL WHERE id = $1",
        ):
            await self._db.rows(statement, project_id)
