"""Summaries of threads in SQLite."""

from collections.abc import Sequence

import orjson

from agent_mail_core.addresses import show
from agent_mail_core.clock import from_microseconds
from agent_mail_core.ids import MessageId, ThreadId
from agent_mail_core.ports import Clock
from agent_mail_core.summaries import (
    BODY_CHARACTERS,
    NewSummary,
    SourceMessage,
    Summaries,
    SummaryRecord,
    SummaryThread,
)
from agent_mail_store.sqlite.messages import PRIORITY_WORDS
from agent_mail_store.sqlite.statements import Row, Statements, Values

_SUMMARIES = """
    SELECT s.thread_id, s.engine, s.up_to_message_id, s.message_count, s.content, s.is_discarded, s.made_at,
        t.last_message_id
    FROM json_each(?) wanted
    CROSS JOIN summaries s ON s.thread_id = wanted.value
    CROSS JOIN threads t ON t.id = s.thread_id
"""
# SQLite reads no more of a long body than substr needs.
_MESSAGE = """
    SELECT m.id, m.parent_id, a.name,
        (
            SELECT CASE count(*) WHEN 1 THEN max(r.name) END
            FROM deliveries d CROSS JOIN agents r ON r.id = d.agent_id WHERE d.message_id = m.id AND d.kind = 0
        ),
        substr(m.body_md, 1, ?2), length(m.body_md) > ?2, m.priority, m.ack_required, m.created_at,
        CASE WHEN a.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END,
        (
            SELECT max(h.slug)
            FROM deliveries d CROSS JOIN agents r ON r.id = d.agent_id AND r.project_id <> m.project_id
            CROSS JOIN projects h ON h.id = r.project_id
            WHERE d.message_id = m.id AND d.kind = 0
        )
    FROM messages m CROSS JOIN agents a ON a.id = m.sender_id
"""


class SqliteSummaries(Summaries):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def get(self, thread_ids: Sequence[ThreadId]) -> dict[ThreadId, SummaryRecord]:
        rows = self._statements.rows(_SUMMARIES, (orjson.dumps(thread_ids).decode(),))
        return {row[0]: _record(row) for row in rows}

    async def notes(self, thread_id: ThreadId) -> str | None:
        row = self._statements.row("SELECT notes FROM summaries WHERE thread_id = ?", (thread_id,))
        return row[0] if row is not None else None

    async def thread(self, thread_id: ThreadId) -> SummaryThread | None:
        row = self._statements.row(
            """
            SELECT t.id, p.team_id, t.project_id, t.key, t.subject,
                (SELECT count(*) FROM messages m WHERE m.thread_id = t.id AND m.id <= t.last_message_id),
                t.last_message_id
            FROM threads t CROSS JOIN projects p ON p.id = t.project_id
            WHERE t.id = ? AND p.deleted_at IS NULL
            """,
            (thread_id,),
        )
        return SummaryThread(*row) if row is not None else None

    async def first_message(self, thread_id: ThreadId) -> SourceMessage | None:
        messages = await self._messages("WHERE m.thread_id = ?1 ORDER BY m.id LIMIT 1", (thread_id, BODY_CHARACTERS))
        return messages[0] if messages else None

    async def newest_messages(
        self, thread_id: ThreadId, after: MessageId, up_to: MessageId, limit: int
    ) -> list[SourceMessage]:
        messages = await self._messages(
            "WHERE m.thread_id = ?1 AND m.id > ?3 AND m.id <= ?4 ORDER BY m.id DESC LIMIT ?5",
            (thread_id, BODY_CHARACTERS, after, up_to, limit),
        )
        return messages[::-1]

    async def _messages(self, condition: str, values: Values) -> list[SourceMessage]:
        rows = await self._statements.apart(lambda statements: statements.rows(_MESSAGE + condition, values))
        return [_message(row) for row in rows]

    async def bodies(self, message_ids: Sequence[MessageId], characters: int) -> dict[MessageId, str]:
        rows = self._statements.rows(
            """
            SELECT m.id, substr(m.body_md, 1, ?)
            FROM json_each(?) wanted CROSS JOIN messages m ON m.id = wanted.value
            """,
            (characters, orjson.dumps(message_ids).decode()),
        )
        return dict(rows)

    async def count_messages(self, thread_id: ThreadId, after: MessageId, up_to: MessageId) -> int:
        row = self._statements.row(
            "SELECT count(*) FROM messages WHERE thread_id = ? AND id > ? AND id <= ?",
            (thread_id, after, up_to),
        )
        assert row is not None
        count: int = row[0]
        return count

    async def discard(self, thread_id: ThreadId) -> None:
        self._statements.rows("UPDATE summaries SET is_discarded = 1 WHERE thread_id = ?", (thread_id,))

    async def keep(self, summary: NewSummary) -> bool:
        rows = self._statements.rows(
            """
            INSERT INTO summaries (thread_id, engine, up_to_message_id, message_count, content, notes, made_at)
            SELECT t.id, ?, ?, ?, ?, ?, ?
            FROM threads t CROSS JOIN projects p ON p.id = t.project_id
            WHERE t.id = ? AND p.deleted_at IS NULL
            ON CONFLICT (thread_id) DO UPDATE
            SET engine = excluded.engine, up_to_message_id = excluded.up_to_message_id,
                message_count = excluded.message_count, content = excluded.content, notes = excluded.notes,
                made_at = excluded.made_at, is_discarded = is_discarded AND NOT ?
            WHERE excluded.up_to_message_id >= up_to_message_id
            RETURNING 1
            """,
            (
                summary.engine,
                summary.up_to_message_id,
                summary.message_count,
                summary.content,
                summary.notes,
                self._clock.microseconds(),
                summary.thread_id,
                int(summary.is_anew),
            ),
        )
        return bool(rows)


def _record(row: Row) -> SummaryRecord:
    return SummaryRecord(row[0], row[1], row[2], row[3], row[4], bool(row[5]), from_microseconds(row[6]), row[7])


def _message(row: Row) -> SourceMessage:
    return SourceMessage(
        id=row[0],
        parent_id=row[1],
        sender_name=show(row[2], row[9]),
        addressee=show(row[3], row[10]) if row[3] is not None else None,
        body_md=row[4],
        is_cut=bool(row[5]),
        priority=PRIORITY_WORDS[row[6]],
        ack_required=bool(row[7]),
        created_at=from_microseconds(row[8]),
    )
