"""Summaries of threads on PostgreSQL."""

from collections.abc import Sequence

from agent_mail_core.addresses import show
from agent_mail_core.ids import MessageId, ThreadId
from agent_mail_core.summaries import (
    BODY_CHARACTERS,
    NewSummary,
    SourceMessage,
    Summaries,
    SummaryRecord,
    SummaryThread,
)
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.messages import PRIORITY_WORDS
from agent_mail_store.postgres.statements import Statements

_SUMMARIES = """
    SELECT s.thread_id, s.engine, s.up_to_message_id, s.message_count, s.content, s.is_discarded, s.made_at,
           t.last_message_id
    FROM summaries s JOIN threads t ON t.id = s.thread_id
    WHERE s.thread_id = ANY ($1::bigint[])
"""
_MESSAGE = """
    SELECT m.id, m.parent_id, a.name AS sender_name,
           (
               SELECT CASE count(*) WHEN 1 THEN max(r.name) END
               FROM deliveries d JOIN agents r ON r.id = d.agent_id WHERE d.message_id = m.id AND d.kind = 0
           ) AS addressee,
           substr(m.body_md, 1, $2) AS body_md, length(m.body_md) > $2 AS is_cut, m.priority, m.ack_required,
           m.created_at,
           CASE WHEN a.project_id <> m.project_id
                THEN (SELECT slug FROM projects WHERE id = a.project_id) END AS sender_slug,
           (
               SELECT max(h.slug)
               FROM deliveries d JOIN agents r ON r.id = d.agent_id AND r.project_id <> m.project_id
               JOIN projects h ON h.id = r.project_id
               WHERE d.message_id = m.id AND d.kind = 0
           ) AS addressee_slug
    FROM messages m JOIN agents a ON a.id = m.sender_id
"""


class PostgresSummaries(Summaries):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def get(self, thread_ids: Sequence[ThreadId]) -> dict[ThreadId, SummaryRecord]:
        rows = await self._db.rows(_SUMMARIES, thread_ids)
        return {row["thread_id"]: SummaryRecord(*row) for row in rows}

    async def notes(self, thread_id: ThreadId) -> str | None:
        row = await self._db.row("SELECT notes FROM summaries WHERE thread_id = $1", thread_id)
        return row["notes"] if row is not None else None

    async def thread(self, thread_id: ThreadId) -> SummaryThread | None:
        row = await self._db.row(
            """
            SELECT t.id, p.team_id, t.project_id, t.key, t.subject,
                   (SELECT count(*) FROM messages m WHERE m.thread_id = t.id AND m.id <= t.last_message_id),
                   t.last_message_id
            FROM threads t JOIN projects p ON p.id = t.project_id
            WHERE t.id = $1 AND p.deleted_at IS NULL
            """,
            thread_id,
        )
        return SummaryThread(*row) if row is not None else None

    async def first_message(self, thread_id: ThreadId) -> SourceMessage | None:
        row = await self._db.row(f"{_MESSAGE} WHERE m.thread_id = $1 ORDER BY m.id LIMIT 1", thread_id, BODY_CHARACTERS)
        return _message(row) if row is not None else None

    async def newest_messages(
        self, thread_id: ThreadId, after: MessageId, up_to: MessageId, limit: int
    ) -> list[SourceMessage]:
        rows = await self._db.rows(
            f"{_MESSAGE} WHERE m.thread_id = $1 AND m.id > $3 AND m.id <= $4 ORDER BY m.id DESC LIMIT $5",
            thread_id,
            BODY_CHARACTERS,
            after,
            up_to,
            limit,
        )
        return [_message(row) for row in reversed(rows)]

    async def bodies(self, message_ids: Sequence[MessageId], characters: int) -> dict[MessageId, str]:
        rows = await self._db.rows(
            "SELECT id, substr(body_md, 1, $2) AS body_md FROM messages WHERE id = ANY ($1::bigint[])",
            message_ids,
            characters,
        )
        return {row["id"]: row["body_md"] for row in rows}

    async def count_messages(self, thread_id: ThreadId, after: MessageId, up_to: MessageId) -> int:
        row = await self._db.the_row(
            "SELECT count(*) AS count FROM messages WHERE thread_id = $1 AND id > $2 AND id <= $3",
            thread_id,
            after,
            up_to,
        )
        count: int = row["count"]
        return count

    async def discard(self, thread_id: ThreadId) -> None:
        await self._db.rows("UPDATE summaries SET is_discarded = true WHERE thread_id = $1", thread_id)

    async def keep(self, summary: NewSummary) -> bool:
        # The thread's row is held, so that it cannot go between being looked at and being referred to.
        rows = await self._db.rows(
            """
            INSERT INTO summaries AS s (thread_id, engine, up_to_message_id, message_count, content, notes)
            SELECT t.id, $2, $3, $4, $5, $6
            FROM threads t JOIN projects p ON p.id = t.project_id
            WHERE t.id = $1 AND p.deleted_at IS NULL
            FOR KEY SHARE OF t
            ON CONFLICT (thread_id) DO UPDATE
            SET engine = excluded.engine, up_to_message_id = excluded.up_to_message_id,
                message_count = excluded.message_count, content = excluded.content, notes = excluded.notes,
                made_at = clock_timestamp(), is_discarded = s.is_discarded AND NOT $7::boolean
            WHERE excluded.up_to_message_id >= s.up_to_message_id
            RETURNING s.thread_id
            """,
            summary.thread_id,
            summary.engine,
            summary.up_to_message_id,
            summary.message_count,
            summary.content,
            summary.notes,
            summary.is_anew,
        )
        return bool(rows)


def _message(row: Row) -> SourceMessage:
    return SourceMessage(
        id=row["id"],
        parent_id=row["parent_id"],
        sender_name=show(row["sender_name"], row["sender_slug"]),
        addressee=show(row["addressee"], row["addressee_slug"]) if row["addressee"] is not None else None,
        body_md=row["body_md"],
        is_cut=row["is_cut"],
        priority=PRIORITY_WORDS[row["priority"]],
        ack_required=row["ack_required"],
        created_at=row["created_at"],
    )
