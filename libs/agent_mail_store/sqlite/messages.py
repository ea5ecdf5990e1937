"""Messages in SQLite.

An agent's project is read only where it is not the message's: there the agent's name is shown with its slug.
"""

from collections.abc import Sequence

import orjson

from agent_mail_core.addresses import show
from agent_mail_core.clock import from_microseconds
from agent_mail_core.fields import RECIPIENT_KINDS, PriorityWord
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, MessageId, TeamId, ThreadId
from agent_mail_core.messages import MessageRecord, Messages, RecipientState
from agent_mail_store.sqlite.statements import Row, Statements

PRIORITY_WORDS: dict[int, PriorityWord] = {-1: "low", 0: "normal", 1: "high", 2: "urgent"}


class SqliteMessages(Messages):
    __slots__ = ("_statements",)

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def get(self, team_id: TeamId, message_id: MessageId) -> MessageRecord | None:
        rows = self._statements.rows(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, a.name,
                m.subject, m.body_md, m.priority, m.ack_required, m.created_at,
                CASE WHEN a.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END,
                EXISTS (SELECT 1 FROM message_attachments f WHERE f.message_id = m.id)
            FROM messages m
            CROSS JOIN projects p ON p.id = m.project_id
            CROSS JOIN threads t ON t.id = m.thread_id
            CROSS JOIN agents a ON a.id = m.sender_id
            WHERE m.id = ? AND m.team_id = ? AND p.deleted_at IS NULL
            """,
            (message_id, team_id),
        )
        return message_record(rows[0], bool(rows[0][15])) if rows else None

    async def recipients(self, message_ids: Sequence[MessageId]) -> list[RecipientState]:
        rows = self._statements.rows(
            """
            SELECT d.message_id, d.agent_id, a.name, d.kind, d.read_at, d.acknowledged_at,
                CASE WHEN a.project_id <> d.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END
            FROM json_each(?) wanted
            CROSS JOIN deliveries d ON d.message_id = wanted.value
            CROSS JOIN agents a ON a.id = d.agent_id
            ORDER BY wanted.key, d.place
            """,
            (orjson.dumps(message_ids).decode(),),
        )
        return [
            RecipientState(
                message_id,
                agent_id,
                show(name, slug),
                RECIPIENT_KINDS[kind],
                from_microseconds(read_at) if read_at is not None else None,
                from_microseconds(acknowledged_at) if acknowledged_at is not None else None,
            )
            for message_id, agent_id, name, kind, read_at, acknowledged_at, slug in rows
        ]

    async def sent_by(
        self, agent_id: AgentId, before: MessageId | None, with_bodies: bool, limit: int
    ) -> list[MessageRecord]:
        rows = self._statements.rows(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, a.name,
                m.subject, CASE WHEN ? THEN m.body_md END, m.priority, m.ack_required, m.created_at,
                CASE WHEN a.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END
            FROM messages m
            CROSS JOIN projects p ON p.id = m.project_id
            CROSS JOIN threads t ON t.id = m.thread_id
            CROSS JOIN agents a ON a.id = m.sender_id
            WHERE m.sender_id = ? AND m.id < ? AND p.deleted_at IS NULL ORDER BY m.id DESC LIMIT ?
            """,
            (int(with_bodies), agent_id, LARGEST_INTEGER if before is None else before, limit),
        )
        return [message_record(row) for row in rows]

    async def of_thread(
        self,
        thread_id: ThreadId,
        after: MessageId | None,
        with_bodies: bool,
        limit: int,
        party: AgentId | None = None,
    ) -> list[MessageRecord]:
        rows = self._statements.rows(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, a.name,
                m.subject, CASE WHEN ?4 THEN m.body_md END, m.priority, m.ack_required, m.created_at,
                CASE WHEN a.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END,
                EXISTS (SELECT 1 FROM message_attachments f WHERE f.message_id = m.id)
            FROM messages m
            CROSS JOIN projects p ON p.id = m.project_id
            CROSS JOIN threads t ON t.id = m.thread_id
            CROSS JOIN agents a ON a.id = m.sender_id
            WHERE m.thread_id = ?1 AND m.id > ?5 AND (?2 IS NULL OR m.sender_id = ?2 OR EXISTS (
                SELECT 1 FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = ?2))
            ORDER BY m.id LIMIT ?3
            """,
            (thread_id, party, limit, int(with_bodies), after or 0),
        )
        return [message_record(row, bool(row[15])) for row in rows]

    async def newest_of_thread(
        self, thread_id: ThreadId, limit: int, party: AgentId | None = None
    ) -> list[MessageRecord]:
        rows = self._statements.rows(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, a.name,
                m.subject, NULL, m.priority, m.ack_required, m.created_at,
                CASE WHEN a.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END
            FROM messages m
            CROSS JOIN projects p ON p.id = m.project_id
            CROSS JOIN threads t ON t.id = m.thread_id
            CROSS JOIN agents a ON a.id = m.sender_id
            WHERE m.thread_id = ?1 AND (?2 IS NULL OR m.sender_id = ?2 OR EXISTS (
                SELECT 1 FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = ?2))
            ORDER BY m.id DESC LIMIT ?3
            """,
            (thread_id, party, limit),
        )
        return [message_record(row) for row in rows]


def message_record(row: Row, has_attachments: bool = False) -> MessageRecord:
    """The columns above, in that order; the last is the slug of a sender from another project."""
    return MessageRecord(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        row[7],
        show(row[8], row[14]),
        row[9],
        row[10],
        PRIORITY_WORDS[row[11]],
        bool(row[12]),
        from_microseconds(row[13]),
        has_attachments,
    )
