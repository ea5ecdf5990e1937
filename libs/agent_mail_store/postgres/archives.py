"""How far archives have come, on PostgreSQL, and the messages as they go there."""

from collections import defaultdict
from collections.abc import Sequence

from agent_mail_core.archive import (
    ArchivedAttachment,
    ArchivedMessage,
    ArchivePlace,
    Archives,
    ArchiveState,
    Correspondent,
)
from agent_mail_core.events import ARCHIVE_TOPIC, EventPosition
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.ids import MessageId, ProjectId
from agent_mail_store.postgres.messages import PRIORITY_WORDS
from agent_mail_store.postgres.statements import Statements


class PostgresArchives(Archives):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def place(self, project_id: ProjectId) -> ArchivePlace | None:
        row = await self._db.row(
            """
            SELECT p.team_id, t.name, p.id, coalesce(p.deleted_slug, p.slug)
            FROM projects p JOIN teams t ON t.id = p.team_id WHERE p.id = $1
            """,
            project_id,
        )
        return ArchivePlace(*row) if row else None

    async def behind(self, limit: int) -> list[ProjectId]:
        rows = await self._db.rows(
            """
            SELECT p.id FROM projects p LEFT JOIN archives a ON a.project_id = p.id
            WHERE EXISTS (
                SELECT FROM events e
                WHERE e.project_id = p.id
                  AND (e.xact, e.id) > (coalesce(a.position_xact, 0)::text::xid8, coalesce(a.position_id, 0))
            )
            ORDER BY a.updated_at NULLS FIRST, p.id LIMIT $1
            """,
            limit,
        )
        return [row["id"] for row in rows]

    async def archived(self, after: ProjectId, limit: int) -> list[ArchivePlace]:
        rows = await self._db.rows(
            """
            SELECT p.team_id, t.name, p.id, coalesce(p.deleted_slug, p.slug)
            FROM archives a JOIN projects p ON p.id = a.project_id JOIN teams t ON t.id = p.team_id
            WHERE a.project_id > $1 ORDER BY a.project_id LIMIT $2
            """,
            after,
            limit,
        )
        return [ArchivePlace(*row) for row in rows]

    async def get(self, project_id: ProjectId) -> ArchiveState | None:
        row = await self._db.row(
            """
            SELECT head, tree, position_xact, position_id, archived_events, pushed_head
            FROM archives WHERE project_id = $1
            """,
            project_id,
        )
        return ArchiveState(row[0], row[1], EventPosition(row[2], row[3]), row[4], row[5]) if row else None

    async def record(self, project_id: ProjectId, expected: str | None, state: ArchiveState) -> bool:
        before = await self._db.row(
            "SELECT head, position_xact, position_id FROM archives WHERE project_id = $1 FOR UPDATE", project_id
        )
        if (before["head"] if before else None) != expected:
            return False
        stored = await self._db.rows(
            """
            INSERT INTO archives (project_id, head, tree, position_xact, position_id, archived_events, pushed_head)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (project_id) DO UPDATE SET
                head = excluded.head, tree = excluded.tree, position_xact = excluded.position_xact,
                position_id = excluded.position_id, archived_events = excluded.archived_events,
                updated_at = clock_timestamp()
            WHERE archives.head = $8
            RETURNING project_id
            """,
            project_id,
            state.head,
            state.tree,
            state.position.transaction,
            state.position.event_id,
            state.archived_events,
            state.pushed_head,
            expected,
        )
        if not stored:
            return False
        # As an array, so that a planner without statistics does not look through the whole backlog for each event.
        await self._db.rows(
            """
            DELETE FROM outbox WHERE topic = $6 AND event_id = ANY (ARRAY (
                SELECT id FROM events
                WHERE project_id = $1
                  AND (xact, id) > ($2::bigint::text::xid8, $3) AND (xact, id) <= ($4::bigint::text::xid8, $5)
            ))
            """,
            project_id,
            before["position_xact"] if before else 0,
            before["position_id"] if before else 0,
            state.position.transaction,
            state.position.event_id,
            ARCHIVE_TOPIC,
        )
        return True

    async def record_push(self, project_id: ProjectId, head: str) -> None:
        await self._db.rows("UPDATE archives SET pushed_head = $2 WHERE project_id = $1", project_id, head)

    async def sizes(self, message_ids: Sequence[MessageId]) -> dict[MessageId, int]:
        rows = await self._db.rows(
            """
            SELECT m.id, octet_length(m.body_md) + coalesce((
                SELECT sum(t.size) FROM message_attachments l JOIN attachments t ON t.id = l.attachment_id
                WHERE l.message_id = m.id
            ), 0)::bigint AS size
            FROM messages m WHERE m.id = ANY ($1::bigint[])
            """,
            message_ids,
        )
        return {row["id"]: row["size"] for row in rows}

    async def messages(self, message_ids: Sequence[MessageId]) -> list[ArchivedMessage]:
        recipients = await self._recipients(message_ids)
        files = await self._attachments(message_ids)
        rows = await self._db.rows(
            """
            SELECT m.id, m.thread_id, t.key, t.subject AS thread_subject,
                   t.created_at AS thread_began_at, m.parent_id, a.id AS sender_id, a.name,
                   a.project_id, coalesce(p.deleted_slug, p.slug) AS slug, m.subject, m.body_md, m.priority,
                   m.ack_required, m.created_at
            FROM messages m JOIN threads t ON t.id = m.thread_id
            JOIN agents a ON a.id = m.sender_id JOIN projects p ON p.id = a.project_id
            WHERE m.id = ANY ($1::bigint[]) ORDER BY m.id
            """,
            message_ids,
        )
        return [
            ArchivedMessage(
                id=row["id"],
                thread_id=row["thread_id"],
                thread_key=row["key"],
                thread_subject=row["thread_subject"],
                thread_began_at=row["thread_began_at"],
                parent_id=row["parent_id"],
                sender=Correspondent(row["sender_id"], row["name"], row["project_id"], row["slug"]),
                recipients=tuple(recipients[row["id"]]),
                subject=row["subject"],
                body_md=row["body_md"],
                priority=PRIORITY_WORDS[row["priority"]],
                ack_required=row["ack_required"],
                created_at=row["created_at"],
                attachments=tuple(files[row["id"]]),
            )
            for row in rows
        ]

    async def _recipients(self, message_ids: Sequence[MessageId]) -> dict[MessageId, list[Correspondent]]:
        found: dict[MessageId, list[Correspondent]] = defaultdict(list)
        for row in await self._db.rows(
            """
            SELECT d.message_id, a.id, a.name, a.project_id, coalesce(p.deleted_slug, p.slug), d.kind
            FROM deliveries d JOIN agents a ON a.id = d.agent_id JOIN projects p ON p.id = a.project_id
            WHERE d.message_id = ANY ($1::bigint[]) AND d.kind <> 2 ORDER BY d.message_id, d.place
            """,
            message_ids,
        ):
            found[row[0]].append(Correspondent(row[1], row[2], row[3], row[4], RECIPIENT_KINDS[row[5]]))
        return found

    async def _attachments(self, message_ids: Sequence[MessageId]) -> dict[MessageId, list[ArchivedAttachment]]:
        found: dict[MessageId, list[ArchivedAttachment]] = defaultdict(list)
        for message_id, *file in await self._db.rows(
            """
            SELECT l.message_id, t.id, t.public_id, t.file_name, t.media_type, t.size, t.sha256
            FROM message_attachments l JOIN attachments t ON t.id = l.attachment_id
            WHERE l.message_id = ANY ($1::bigint[]) ORDER BY l.message_id, l.place
            """,
            message_ids,
        ):
            found[message_id].append(ArchivedAttachment(*file))
        return found

    async def message_ids(self, project_id: ProjectId, after: MessageId, limit: int) -> list[MessageId]:
        rows = await self._db.rows(
            "SELECT id FROM messages WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3", project_id, after, limit
        )
        return [row["id"] for row in rows]
