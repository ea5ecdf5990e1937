"""Deleted projects in SQLite."""

from datetime import datetime

from agent_mail_core.clock import from_microseconds
from agent_mail_core.errors import ProjectOnHold
from agent_mail_core.ids import ProjectId
from agent_mail_core.ports import Clock
from agent_mail_core.project_deletion import ProjectDeletions
from agent_mail_store.sqlite.attachments import remove_blobs
from agent_mail_store.sqlite.retention import is_on_hold
from agent_mail_store.sqlite.statements import Statements

# Each changes at most ?2 rows of project ?1. They run in this order, each once those before it find nothing.
_STEPS = (
    """
    DELETE FROM reviews WHERE id IN (SELECT id FROM reviews WHERE project_id = ?1 ORDER BY id LIMIT ?2) RETURNING 1
    """,
    """
    DELETE FROM threads WHERE id IN (
        SELECT id FROM (
            SELECT t.id, sum(1 + (SELECT count(*) FROM thread_participants p WHERE p.thread_id = t.id))
                OVER (ORDER BY t.id) AS total, row_number() OVER (ORDER BY t.id) AS place
            FROM (SELECT id FROM threads WHERE project_id = ?1 ORDER BY id LIMIT ?2) t
        ) WHERE total <= ?2 OR place = 1
    ) RETURNING 1
    """,
    """
    DELETE FROM reservations WHERE id IN (SELECT id FROM reservations WHERE project_id = ?1 ORDER BY id LIMIT ?2)
    RETURNING 1
    """,
    """
    DELETE FROM slot_leases WHERE id IN (
        SELECT l.id FROM build_slots s CROSS JOIN slot_leases l ON l.slot_id = s.id WHERE s.project_id = ?1 LIMIT ?2
    ) RETURNING 1
    """,
    """
    DELETE FROM build_slots WHERE id IN (SELECT id FROM build_slots WHERE project_id = ?1 LIMIT ?2) RETURNING 1
    """,
    """
    DELETE FROM lease_tickets WHERE id IN (SELECT id FROM lease_tickets WHERE project_id = ?1 LIMIT ?2) RETURNING 1
    """,
    """
    DELETE FROM events WHERE id IN (
        SELECT id FROM events WHERE project_id = ?1 AND kind <> 'project.deleted' ORDER BY id LIMIT ?2
    ) RETURNING 1
    """,
    """
    DELETE FROM mailboxes WHERE agent_id IN (
        SELECT a.id FROM agents a CROSS JOIN mailboxes b ON b.agent_id = a.id
        WHERE a.project_id = ?1 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.agent_id = a.id) LIMIT ?2
    ) RETURNING 1
    """,
    # Rows of agents stay, without what they said: too many tables point at them, not all with an index, to look whether
    # any still does. Names go too, unless other projects' mail shows them: what stands in their place nobody could have
    # guessed and taken.
    """
    UPDATE agents AS a SET
        name = CASE WHEN EXISTS (SELECT 1 FROM messages m WHERE m.sender_id = a.id)
            OR EXISTS (SELECT 1 FROM deliveries d WHERE d.agent_id = a.id) THEN name
            ELSE id || (SELECT slug FROM projects p WHERE p.id = a.project_id) END,
        program = 'deleted', model = 'deleted', task_description = NULL
    WHERE id IN (SELECT id FROM agents WHERE project_id = ?1 AND program <> 'deleted' ORDER BY id LIMIT ?2) RETURNING 1
    """,
)
# What ties a project and its agents to others. It goes with the deletion, and once more with the purge: a contact, for
# one, is asked for after the send that needs it was refused, and the project may be deleted between the two.
_TIES = (
    "DELETE FROM product_projects WHERE project_id = ?1",
    "DELETE FROM webhooks WHERE project_id = ?1",
    "DELETE FROM contacts WHERE agent_id IN (SELECT id FROM agents WHERE project_id = ?1)",
    "DELETE FROM contacts WHERE contact_id IN (SELECT id FROM agents WHERE project_id = ?1)",
    "DELETE FROM blocks WHERE agent_id IN (SELECT id FROM agents WHERE project_id = ?1)",
    "DELETE FROM blocks WHERE blocked_id IN (SELECT id FROM agents WHERE project_id = ?1)",
)
_ATTACHMENTS_A_STEP = 20
"""They bring up to 10 MiB each."""


class SqliteProjectDeletions(ProjectDeletions):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def delete(self, project_id: ProjectId, slug: str, human_key: str) -> datetime | None:
        if is_on_hold(self._statements, project_id):
            raise ProjectOnHold
        now = self._clock.microseconds()
        marked = self._statements.rows(
            """
            UPDATE projects SET deleted_at = ?2, deleted_slug = slug, deleted_key = human_key, slug = ?3, human_key = ?4
            WHERE id = ?1 AND deleted_at IS NULL RETURNING 1
            """,
            (project_id, now, slug, human_key),
        )
        if not marked:
            return None
        self._statements.rows(
            "UPDATE agents SET retired_at = ?2 WHERE project_id = ?1 AND retired_at IS NULL", (project_id, now)
        )
        for statement in _TIES:
            self._statements.rows(statement, (project_id,))
        # Through the threads: who got mail of a project takes part in one, and those of other projects are few.
        gone = self._statements.rows(
            """
            DELETE FROM deliveries WHERE (agent_id, position) IN (
                SELECT d.agent_id, d.position FROM threads t
                CROSS JOIN thread_participants p ON p.thread_id = t.id
                CROSS JOIN agents a ON a.id = p.agent_id AND a.project_id <> ?1
                CROSS JOIN deliveries d ON d.thread_id = t.id AND d.agent_id = a.id
                WHERE t.project_id = ?1
            ) RETURNING agent_id, read_at IS NULL
            """,
            (project_id,),
        )
        self._statements.many(
            "UPDATE mailboxes SET unread = unread - 1 WHERE agent_id = ?",
            [(agent_id,) for agent_id, is_unread in gone if is_unread],
        )
        return from_microseconds(now)

    async def unpurged(self, is_archived: bool, limit: int) -> list[ProjectId]:
        rows = self._statements.rows(
            """
            SELECT p.id FROM projects p LEFT JOIN archives a ON a.project_id = p.id
            WHERE p.deleted_at IS NOT NULL AND p.deleted_key IS NOT NULL AND NOT (? AND EXISTS (
                SELECT 1 FROM events e WHERE e.project_id = p.id AND e.id > coalesce(a.position_id, 0)
            ))
            ORDER BY p.id LIMIT ?
            """,
            (int(is_archived), limit),
        )
        return [row[0] for row in rows]

    async def purge_step(self, project_id: ProjectId, limit: int) -> int:
        if not self._statements.row("SELECT 1 FROM projects WHERE id = ? AND deleted_at IS NOT NULL", (project_id,)):
            return 0
        removed = self._messages(project_id, limit) or self._attachments(project_id)
        for statement in _STEPS:
            if removed:
                return removed
            removed = len(self._statements.rows(statement, (project_id, limit)))
        if not removed:
            self._strip(project_id)
        return removed

    def _messages(self, project_id: ProjectId, limit: int) -> int:
        """Messages with their deliveries, of which a message may have a hundred."""
        counted = self._statements.rows(
            """
            SELECT m.id, 1 + (SELECT count(*) FROM deliveries d WHERE d.message_id = m.id)
            FROM (SELECT id FROM messages WHERE project_id = ? ORDER BY id LIMIT ?) m ORDER BY m.id
            """,
            (project_id, limit),
        )
        removed = 0
        for message_id, rows in counted:
            if removed and removed + rows > limit:
                break
            self._statements.rows("DELETE FROM messages WHERE id = ?", (message_id,))
            removed += rows
        return removed

    def _attachments(self, project_id: ProjectId) -> int:
        rows = self._statements.rows(
            """
            DELETE FROM attachments WHERE id IN (
                SELECT t.id FROM attachments t
                WHERE t.project_id = ?
                    AND NOT EXISTS (SELECT 1 FROM message_attachments l WHERE l.attachment_id = t.id)
                ORDER BY t.id LIMIT ?
            ) RETURNING team_id, sha256
            """,
            (project_id, _ATTACHMENTS_A_STEP),
        )
        remove_blobs(self._statements, [(team_id, sha256) for team_id, sha256 in rows])
        return len(rows)

    def _strip(self, project_id: ProjectId) -> None:
        """What stays tells nothing but names."""
        for statement in (
            *_TIES,
            "DELETE FROM lease_counters WHERE project_id = ?",
            "DELETE FROM embedding_positions WHERE project_id = ?",
            "UPDATE projects SET deleted_key = NULL, description = NULL WHERE id = ?",
        ):
            self._statements.rows(statement, (project_id,))
