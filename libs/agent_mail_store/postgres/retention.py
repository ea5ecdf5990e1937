"""Retention on PostgreSQL.

Whoever removes holds LOCK together with others, whoever places a hold holds it alone, so that no removal goes on that
has not seen the hold. Then come threads by id and mailboxes by agent, which is the order of sends.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent_mail_core.ids import MessageId, ProjectId, TeamId, ThreadId
from agent_mail_core.retention import (
    LEAST_AGE,
    LEAST_AGE_OF_EVENTS,
    LegalHoldRecord,
    Removed,
    Retention,
    RetentionPolicy,
)
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.statements import Statements

LOCK = "hashtext('agent_mail.retention')"


async def share_lock(db: Statements) -> None:
    """Until the transaction ends no hold is placed; statements that follow see those that were."""
    await db.rows(f"SELECT pg_advisory_xact_lock_shared({LOCK})")


async def is_on_hold(db: Statements, project_id: ProjectId) -> bool:
    """Whether nothing of the project may go. Hold the lock."""
    return await db.row("SELECT FROM legal_holds WHERE project_id = $1", project_id) is not None


class PostgresRetention(Retention):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def due(self, policy: RetentionPolicy, after: ProjectId, limit: int) -> list[ProjectId]:
        rows = await self._db.rows(
            """
            SELECT p.id FROM projects p
            WHERE p.id > $1 AND p.deleted_at IS NULL
              AND NOT EXISTS (SELECT FROM legal_holds h WHERE h.project_id = p.id)
              AND (
                (SELECT m.created_at FROM messages m WHERE m.project_id = p.id ORDER BY m.id LIMIT 1)
                    < clock_timestamp() - $2::interval
                OR (SELECT e.created_at FROM events e WHERE e.project_id = p.id ORDER BY e.xact, e.id LIMIT 1)
                    < clock_timestamp() - greatest($2::interval, $3::interval)
                OR EXISTS (SELECT FROM messages m WHERE m.project_id = p.id ORDER BY m.id OFFSET $4::bigint LIMIT 1)
              )
            ORDER BY p.id LIMIT $5
            """,
            after,
            policy.age,
            # greatest() passes over null: without an age no event is too old.
            LEAST_AGE_OF_EVENTS if policy.age is not None else None,
            policy.most_messages if policy.most_messages is not None else 2**62,
            limit,
        )
        return [row["id"] for row in rows]

    async def remove(self, project_id: ProjectId, policy: RetentionPolicy, after: MessageId, limit: int) -> Removed:
        await share_lock(self._db)
        if await is_on_hold(self._db, project_id):
            return Removed(0, [], None)
        window = await self._window(project_id, policy, after, limit)
        over = 0
        while over < len(window) and window[over]["is_over"]:
            over += 1
        going = [row for row in window[:over] if not row["is_held"]]
        following = MessageId(window[-1]["id"]) if window and over == len(window) else None
        if not going:
            return Removed(0, [], following)
        threads = sorted({row["thread_id"] for row in going})
        await self._remove([row["id"] for row in going], threads)
        return Removed(len(going), threads, following)

    async def _window(
        self, project_id: ProjectId, policy: RetentionPolicy, after: MessageId, limit: int
    ) -> Sequence[Row]:
        """The next messages with whether they are too old or too many, and whether a project on hold has a part."""
        return await self._db.rows(
            """
            WITH bound AS (
                SELECT clock_timestamp() - $4::interval AS too_old,
                       (SELECT m.id FROM messages m WHERE m.project_id = $1
                        ORDER BY m.id DESC OFFSET $5::bigint LIMIT 1) AS too_many,
                       least(clock_timestamp(), CASE WHEN $6::boolean THEN (
                           SELECT e.created_at FROM events e LEFT JOIN archives a ON a.project_id = e.project_id
                           WHERE e.project_id = $1
                             AND (e.xact, e.id) > (coalesce(a.position_xact, 0)::text::xid8, coalesce(a.position_id, 0))
                           ORDER BY e.xact, e.id LIMIT 1
                       ) END) - $7::interval AS least_age
            ), counted AS (
                SELECT m.id, m.thread_id, m.sender_id, m.created_at, row_number() OVER (ORDER BY m.id) AS place,
                       sum(1 + (SELECT count(*) FROM deliveries d WHERE d.message_id = m.id))
                           OVER (ORDER BY m.id) AS total
                FROM (SELECT * FROM messages WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3) m
            )
            SELECT c.id, c.thread_id,
                   c.created_at < b.least_age
                       AND (coalesce(c.created_at < b.too_old, false) OR coalesce(c.id <= b.too_many, false))
                       AS is_over,
                   EXISTS (
                       SELECT FROM agents s JOIN legal_holds h ON h.project_id = s.project_id WHERE s.id = c.sender_id
                   ) OR EXISTS (
                       SELECT FROM deliveries d JOIN agents r ON r.id = d.agent_id
                       JOIN legal_holds h ON h.project_id = r.project_id WHERE d.message_id = c.id
                   ) AS is_held
            FROM counted c CROSS JOIN bound b
            WHERE c.total <= $3 OR c.place = 1
            ORDER BY c.id
            """,
            project_id,
            after,
            limit,
            policy.age,
            policy.most_messages if policy.most_messages is not None else 2**62,
            policy.waits_for_archive,
            LEAST_AGE,
        )

    async def _remove(self, message_ids: list[int], thread_ids: list[int]) -> None:
        await self._db.rows(
            "SELECT FROM threads WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE",
            thread_ids,
        )
        await self._db.rows(
            """
            SELECT FROM mailboxes WHERE agent_id IN (
                SELECT agent_id FROM deliveries WHERE message_id = ANY ($1::bigint[])
            ) ORDER BY agent_id FOR NO KEY UPDATE
            """,
            message_ids,
        )
        took_part = await self._db.rows(
            """
            SELECT thread_id, agent_id FROM deliveries WHERE message_id = ANY ($1::bigint[])
            UNION SELECT thread_id, sender_id FROM messages WHERE id = ANY ($1::bigint[])
            """,
            message_ids,
        )
        await self._db.rows(
            """
            WITH gone AS (
                DELETE FROM deliveries WHERE message_id = ANY ($1::bigint[]) RETURNING agent_id, read_at
            )
            UPDATE mailboxes b SET unread = b.unread - lost.unread
            FROM (SELECT agent_id, count(*) AS unread FROM gone WHERE read_at IS NULL GROUP BY agent_id) lost
            WHERE b.agent_id = lost.agent_id
            """,
            message_ids,
        )
        await self._db.rows(
            """
            WITH gone AS (DELETE FROM messages WHERE id = ANY ($1::bigint[]) RETURNING thread_id)
            UPDATE threads t SET message_count = t.message_count - lost.count
            FROM (SELECT thread_id, count(*) FROM gone GROUP BY thread_id) lost WHERE t.id = lost.thread_id
            """,
            message_ids,
        )
        await self._put_right(thread_ids, took_part)

    async def _put_right(self, thread_ids: list[int], took_part: Sequence[Row]) -> None:
        """Threads without messages go; of the others, participants and what was said in summaries."""
        await self._db.rows(
            """
            DELETE FROM threads t
            WHERE t.id = ANY ($1::bigint[]) AND NOT EXISTS (SELECT FROM messages m WHERE m.thread_id = t.id)
              AND NOT EXISTS (SELECT FROM reviews r WHERE r.thread_id = t.id AND r.state IN ('requested', 'claimed'))
            """,
            thread_ids,
        )
        await self._db.rows(
            """
            WITH parts AS (
                SELECT p.thread_id, p.agent_id,
                       EXISTS (SELECT FROM deliveries d WHERE d.thread_id = p.thread_id AND d.agent_id = p.agent_id)
                           AS has_mail,
                       EXISTS (SELECT FROM deliveries d
                               WHERE d.thread_id = p.thread_id AND d.agent_id = p.agent_id AND d.kind <> 2)
                           OR EXISTS (SELECT FROM messages m
                                      WHERE m.thread_id = p.thread_id AND m.sender_id = p.agent_id) AS is_seen
                FROM unnest($1::bigint[], $2::bigint[]) AS p (thread_id, agent_id)
            ), hidden AS (
                UPDATE thread_participants p SET is_hidden = true FROM parts
                WHERE p.thread_id = parts.thread_id AND p.agent_id = parts.agent_id
                  AND parts.has_mail AND NOT parts.is_seen AND NOT p.is_hidden
            )
            DELETE FROM thread_participants p USING parts
            WHERE p.thread_id = parts.thread_id AND p.agent_id = parts.agent_id
              AND NOT parts.has_mail AND NOT parts.is_seen
            """,
            [row["thread_id"] for row in took_part],
            [row["agent_id"] for row in took_part],
        )
        await self._db.rows("DELETE FROM summaries WHERE thread_id = ANY ($1::bigint[])", thread_ids)

    async def discard_summaries(self, thread_ids: Sequence[ThreadId]) -> None:
        await self._db.rows(
            """
            UPDATE jobs SET is_wanted_again = true
            WHERE (kind, subject_id) IN (
                SELECT kind, subject_id FROM jobs
                WHERE kind = 'summary' AND subject_id = ANY ($1::bigint[]) AND state = 'running'
                ORDER BY subject_id FOR NO KEY UPDATE
            )
            """,
            thread_ids,
        )
        await self._db.rows("DELETE FROM summaries WHERE thread_id = ANY ($1::bigint[])", thread_ids)

    async def hold(self, project_id: ProjectId, reason: str | None, placed_by: str) -> bool:
        await self._db.rows(f"SELECT pg_advisory_xact_lock({LOCK})")
        row = await self._db.the_row(
            """
            INSERT INTO legal_holds AS h (project_id, reason, placed_by)
                SELECT id, $2, $3 FROM projects WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE
            ON CONFLICT (project_id) DO UPDATE SET reason = coalesce(excluded.reason, h.reason)
            RETURNING xmax = 0 AS is_new
            """,
            project_id,
            reason,
            placed_by,
        )
        return bool(row["is_new"])

    async def lift(self, project_id: ProjectId) -> bool:
        return (
            await self._db.row("DELETE FROM legal_holds WHERE project_id = $1 RETURNING project_id", project_id)
            is not None
        )

    async def holds(self, team_id: TeamId, after_slug: str | None, limit: int) -> list[LegalHoldRecord]:
        rows = await self._db.rows(
            """
            SELECT p.slug, h.reason, h.placed_by, h.placed_at
            FROM legal_holds h JOIN projects p ON p.id = h.project_id
            WHERE p.team_id = $1 AND p.deleted_at IS NULL AND ($2::text IS NULL OR p.slug > $2)
            ORDER BY p.slug LIMIT $3
            """,
            team_id,
            after_slug,
            limit,
        )
        return [LegalHoldRecord(*row) for row in rows]
