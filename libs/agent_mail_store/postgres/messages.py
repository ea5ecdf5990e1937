"""Messages on PostgreSQL: reading them. Storing is delivery's.

An agent's project is read only where it is not the message's: there the agent's name is shown with its slug.
"""

from collections.abc import Sequence

from agent_mail_core.addresses import show
from agent_mail_core.fields import RECIPIENT_KINDS, PriorityWord
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, MessageId, TeamId, ThreadId
from agent_mail_core.messages import MessageRecord, Messages, RecipientState
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.statements import Statements

PRIORITY_WORDS: dict[int, PriorityWord] = {-1: "low", 0: "normal", 1: "high", 2: "urgent"}
PRIORITY_RANKS = {word: rank for rank, word in PRIORITY_WORDS.items()}


class PostgresMessages(Messages):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def get(self, team_id: TeamId, message_id: MessageId) -> MessageRecord | None:
        row = await self._db.row(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, s.name,
                   m.subject, m.body_md, m.priority, m.ack_required, m.created_at,
                   CASE WHEN s.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = s.project_id) END,
                   EXISTS (SELECT FROM message_attachments f WHERE f.message_id = m.id)
            FROM messages m
            JOIN projects p ON p.id = m.project_id JOIN threads t ON t.id = m.thread_id
            JOIN agents s ON s.id = m.sender_id
            WHERE m.id = $2 AND m.team_id = $1 AND p.deleted_at IS NULL
            """,
            team_id,
            message_id,
        )
        return message_record(row, row[15]) if row else None

    async def recipients(self, message_ids: Sequence[MessageId]) -> list[RecipientState]:
        rows = await self._db.rows(
            """
            SELECT d.message_id, d.agent_id, a.name, d.kind, d.read_at, d.acknowledged_at,
                   CASE WHEN a.project_id <> d.project_id
                        THEN (SELECT slug FROM projects WHERE id = a.project_id) END AS slug
            FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (message_id, place)
            JOIN deliveries d ON d.message_id = wanted.message_id
            JOIN agents a ON a.id = d.agent_id
            ORDER BY wanted.place, d.place
            """,
            message_ids,
        )
        return [
            RecipientState(
                row["message_id"],
                row["agent_id"],
                show(row["name"], row["slug"]),
                RECIPIENT_KINDS[row["kind"]],
                row["read_at"],
                row["acknowledged_at"],
            )
            for row in rows
        ]

    async def sent_by(
        self, agent_id: AgentId, before: MessageId | None, with_bodies: bool, limit: int
    ) -> list[MessageRecord]:
        rows = await self._db.rows(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, s.name,
                   m.subject, CASE WHEN $3 THEN m.body_md END AS body_md, m.priority, m.ack_required, m.created_at,
                   CASE WHEN s.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = s.project_id) END
            FROM messages m
            JOIN projects p ON p.id = m.project_id JOIN threads t ON t.id = m.thread_id
            JOIN agents s ON s.id = m.sender_id
            WHERE m.sender_id = $1 AND p.deleted_at IS NULL AND m.id < $2
            ORDER BY m.id DESC LIMIT $4
            """,
            agent_id,
            LARGEST_INTEGER if before is None else before,
            with_bodies,
            limit,
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
        rows = await self._db.rows(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, s.name,
                   m.subject, CASE WHEN $5 THEN m.body_md END AS body_md, m.priority, m.ack_required, m.created_at,
                   CASE WHEN s.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = s.project_id) END,
                   EXISTS (SELECT FROM message_attachments f WHERE f.message_id = m.id)
            FROM messages m
            JOIN projects p ON p.id = m.project_id JOIN threads t ON t.id = m.thread_id
            JOIN agents s ON s.id = m.sender_id
            WHERE m.thread_id = $1 AND m.id > coalesce($4, 0) AND ($2::bigint IS NULL OR m.sender_id = $2 OR EXISTS (
                SELECT FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = $2))
            ORDER BY m.id LIMIT $3
            """,
            thread_id,
            party,
            limit,
            after,
            with_bodies,
        )
        return [message_record(row, row[15]) for row in rows]

    async def newest_of_thread(
        self, thread_id: ThreadId, limit: int, party: AgentId | None = None
    ) -> list[MessageRecord]:
        rows = await self._db.rows(
            """
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, s.name,
                   m.subject, NULL AS body_md, m.priority, m.ack_required, m.created_at,
                   CASE WHEN s.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = s.project_id) END
            FROM messages m
            JOIN projects p ON p.id = m.project_id JOIN threads t ON t.id = m.thread_id
            JOIN agents s ON s.id = m.sender_id
            WHERE m.thread_id = $1 AND ($2::bigint IS NULL OR m.sender_id = $2 OR EXISTS (
                SELECT FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = $2))
            ORDER BY m.id DESC LIMIT $3
            """,
            thread_id,
            party,
            limit,
        )
        return [message_record(row) for row in rows]


def message_record(row: Row, has_attachments: bool = False) -> MessageRecord:
    """A row of 14 columns in the order of MessageRecord's fields, then the slug of a sender from another project."""
    return MessageRecord(
        id=row[0],
        team_id=row[1],
        project_id=row[2],
        project_slug=row[3],
        thread_id=row[4],
        thread_key=row[5],
        parent_id=row[6],
        sender_id=row[7],
        sender_name=show(row[8], row[14]),
        subject=row[9],
        body_md=row[10],
        priority=PRIORITY_WORDS[row[11]],
        ack_required=row[12],
        created_at=row[13],
        has_attachments=has_attachments,
    )
