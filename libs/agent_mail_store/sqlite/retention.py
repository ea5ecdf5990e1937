"""Retention on SQLite, whose one writer keeps everybody else from what it removes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agent_mail_core.clock import MICROSECOND, from_microseconds
from agent_mail_core.ids import MessageId, ProjectId, TeamId, ThreadId
from agent_mail_core.ports import Clock
from agent_mail_core.retention import (
    LEAST_AGE,
    LEAST_AGE_OF_EVENTS,
    LegalHoldRecord,
    Removed,
    Retention,
    RetentionPolicy,
)
from agent_mail_store.sqlite.statements import Row, Statements

_NEVER = -(2**62)


def is_on_hold(statements: Statements, project_id: ProjectId) -> bool:
    """Whether nothing of the project may go."""
    return statements.row("SELECT 1 FROM legal_holds WHERE project_id = ?", (project_id,)) is not None


class SqliteRetention(Retention):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def due(self, policy: RetentionPolicy, after: ProjectId, limit: int) -> list[ProjectId]:
        now = self._clock.microseconds()
        too_old = now - policy.age // MICROSECOND if policy.age is not None else _NEVER
        rows = await self._statements.apart(
            lambda statements: statements.rows(
                """
                SELECT p.id FROM projects p
                WHERE p.id > ?1 AND p.deleted_at IS NULL
                  AND NOT EXISTS (SELECT 1 FROM legal_holds h WHERE h.project_id = p.id)
                  AND (
                    (SELECT m.created_at FROM messages m WHERE m.project_id = p.id ORDER BY m.id LIMIT 1) < ?2
                    OR (SELECT e.created_at FROM events e WHERE e.project_id = p.id ORDER BY e.id LIMIT 1) < ?3
                    OR EXISTS (SELECT 1 FROM messages m WHERE m.project_id = p.id ORDER BY m.id LIMIT 1 OFFSET ?4)
                  )
                ORDER BY p.id LIMIT ?5
                """,
                (
                    after,
                    too_old,
                    min(too_old, now - LEAST_AGE_OF_EVENTS // MICROSECOND),
                    policy.most_messages if policy.most_messages is not None else 2**62,
                    limit,
                ),
            )
        )
        return [project_id for (project_id,) in rows]

    async def remove(self, project_id: ProjectId, policy: RetentionPolicy, after: MessageId, limit: int) -> Removed:
        if is_on_hold(self._statements, project_id):
            return Removed(0, [], None)
        window = self._window(project_id, policy, after, limit)
        over = 0
        while over < len(window) and window[over][2]:
            over += 1
        going = [(message_id, thread_id) for message_id, thread_id, _, is_held in window[:over] if not is_held]
        following = MessageId(window[-1][0]) if window and over == len(window) else None
        if not going:
            return Removed(0, [], following)
        for message_id, _ in going:
            self._remove(message_id)
        threads = Counter(thread_id for _, thread_id in going)
        self._statements.many(
            "UPDATE threads SET message_count = message_count - ? WHERE id = ?",
            [(count, thread_id) for thread_id, count in threads.items()],
        )
        for thread_id in threads:
            self._put_right(thread_id)
        return Removed(len(going), sorted(threads), following)

    def _window(self, project_id: ProjectId, policy: RetentionPolicy, after: MessageId, limit: int) -> list[Row]:
        """The next messages with whether they are too old or too many, and whether a project on hold has a part."""
        now = self._clock.microseconds()
        newest = now
        if policy.waits_for_archive:
            waiting = self._statements.row(
                """
                SELECT created_at FROM events WHERE project_id = ?1
                  AND id > coalesce((SELECT position_id FROM archives WHERE project_id = ?1), 0)
                ORDER BY id LIMIT 1
                """,
                (project_id,),
            )
            newest = min(now, waiting[0]) if waiting is not None else now
        most = policy.most_messages if policy.most_messages is not None else 2**62
        too_many = self._statements.row(
            "SELECT id FROM messages WHERE project_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?", (project_id, most)
        )
        return self._statements.rows(
            """
            SELECT c.id, c.thread_id, c.created_at < ?4 AND (c.created_at < ?5 OR c.id <= ?6),
                EXISTS (
                    SELECT 1 FROM agents s CROSS JOIN legal_holds h ON h.project_id = s.project_id
                    WHERE s.id = c.sender_id
                ) OR EXISTS (
                    SELECT 1 FROM deliveries d CROSS JOIN agents r ON r.id = d.agent_id
                    CROSS JOIN legal_holds h ON h.project_id = r.project_id WHERE d.message_id = c.id
                )
            FROM (
                SELECT m.id, m.thread_id, m.sender_id, m.created_at, row_number() OVER (ORDER BY m.id) AS place,
                    sum(1 + (SELECT count(*) FROM deliveries d WHERE d.message_id = m.id)) OVER (ORDER BY m.id) AS total
                FROM (SELECT * FROM messages WHERE project_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3) m
            ) c
            WHERE c.total <= ?3 OR c.place = 1 ORDER BY c.id
            """,
            (
                project_id,
                after,
                limit,
                newest - LEAST_AGE // MICROSECOND,
                now - policy.age // MICROSECOND if policy.age is not None else _NEVER,
                too_many[0] if too_many is not None else 0,
            ),
        )

    def _remove(self, message_id: int) -> None:
        """The message with its deliveries; participants are put right once it is gone."""
        self._statements.rows(
            """
            UPDATE mailboxes SET unread = unread - 1 WHERE agent_id IN (
                SELECT agent_id FROM deliveries WHERE message_id = ? AND read_at IS NULL
            )
            """,
            (message_id,),
        )
        self._statements.rows("DELETE FROM messages WHERE id = ?", (message_id,))

    def _put_right(self, thread_id: int) -> None:
        """A thread without messages goes; of another, participants, and what was said in its summary."""
        self._statements.rows(
            """
            DELETE FROM threads WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.thread_id = ?1)
              AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.thread_id = ?1 AND r.state IN ('requested', 'claimed'))
            """,
            (thread_id,),
        )
        self._statements.rows(
            """
            DELETE FROM thread_participants WHERE thread_id = ?1
              AND NOT EXISTS (
                  SELECT 1 FROM deliveries d WHERE d.thread_id = ?1 AND d.agent_id = thread_participants.agent_id
              )
              AND NOT EXISTS (
                  SELECT 1 FROM messages m WHERE m.thread_id = ?1 AND +m.sender_id = thread_participants.agent_id
              )
            """,
            (thread_id,),
        )
        self._statements.rows(
            """
            UPDATE thread_participants SET is_hidden = 1 WHERE thread_id = ?1 AND NOT is_hidden
              AND NOT EXISTS (
                  SELECT 1 FROM deliveries d
                  WHERE d.thread_id = ?1 AND d.agent_id = thread_participants.agent_id AND d.kind <> 2
              )
              AND NOT EXISTS (
                  SELECT 1 FROM messages m WHERE m.thread_id = ?1 AND +m.sender_id = thread_participants.agent_id
              )
            """,
            (thread_id,),
        )
        self._statements.rows("DELETE FROM summaries WHERE thread_id = ?", (thread_id,))

    async def discard_summaries(self, thread_ids: Sequence[ThreadId]) -> None:
        for thread_id in thread_ids:
            self._statements.rows(
                "UPDATE jobs SET is_wanted_again = 1 WHERE kind = 'summary' AND subject_id = ? AND state = 'running'",
                (thread_id,),
            )
            self._statements.rows("DELETE FROM summaries WHERE thread_id = ?", (thread_id,))

    async def hold(self, project_id: ProjectId, reason: str | None, placed_by: str) -> bool:
        is_new = not is_on_hold(self._statements, project_id)
        self._statements.rows(
            """
            INSERT INTO legal_holds (project_id, reason, placed_by, placed_at) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET reason = coalesce(excluded.reason, reason)
            """,
            (project_id, reason, placed_by, self._clock.microseconds()),
        )
        return is_new

    async def lift(self, project_id: ProjectId) -> bool:
        return bool(self._statements.rows("DELETE FROM legal_holds WHERE project_id = ? RETURNING 1", (project_id,)))

    async def holds(self, team_id: TeamId, after_slug: str | None, limit: int) -> list[LegalHoldRecord]:
        rows = self._statements.rows(
            """
            SELECT p.slug, h.reason, h.placed_by, h.placed_at
            FROM legal_holds h CROSS JOIN projects p ON p.id = h.project_id
            WHERE p.team_id = ?1 AND p.deleted_at IS NULL AND (?2 IS NULL OR p.slug > ?2)
            ORDER BY p.slug LIMIT ?3
            """,
            (team_id, after_slug, limit),
        )
        return [
            LegalHoldRecord(slug, reason, placed_by, from_microseconds(placed_at))
            for slug, reason, placed_by, placed_at in rows
        ]
