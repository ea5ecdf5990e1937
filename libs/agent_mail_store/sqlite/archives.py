"""How far archives have come, in SQLite, and the messages as they go there."""

from collections import defaultdict
from collections.abc import Sequence

import orjson

from agent_mail_core.archive import (
    ArchivedAttachment,
    ArchivedMessage,
    ArchivePlace,
    Archives,
    ArchiveState,
    Correspondent,
)
from agent_mail_core.clock import from_microseconds
from agent_mail_core.events import ARCHIVE_TOPIC, EventPosition
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.ids import MessageId, ProjectId
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.messages import PRIORITY_WORDS
from agent_mail_store.sqlite.statements import Statements


class SqliteArchives(Archives):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def place(self, project_id: ProjectId) -> ArchivePlace | None:
        row = self._statements.row(
            """
            SELECT p.team_id, t.name, p.id, coalesce(p.deleted_slug, p.slug)
            FROM projects p CROSS JOIN teams t ON t.id = p.team_id WHERE p.id = ?
            """,
            (project_id,),
        )
        return ArchivePlace(*row) if row else None

    async def behind(self, limit: int) -> list[ProjectId]:
        rows = await self._statements.apart(
            lambda statements: statements.rows(
                """
                SELECT p.id FROM projects p LEFT JOIN archives a ON a.project_id = p.id
                WHERE EXISTS (
                    SELECT 1 FROM events e WHERE e.project_id = p.id AND e.id > coalesce(a.position_id, 0)
                )
                ORDER BY a.updated_at NULLS FIRST, p.id LIMIT ?
                """,
                (limit,),
            )
        )
        return [project_id for (project_id,) in rows]

    async def archived(self, after: ProjectId, limit: int) -> list[ArchivePlace]:
        rows = self._statements.rows(
            """
            SELECT p.team_id, t.name, p.id, coalesce(p.deleted_slug, p.slug)
            FROM archives a CROSS JOIN projects p ON p.id = a.project_id CROSS JOIN teams t ON t.id = p.team_id
            WHERE a.project_id > ? ORDER BY a.project_id LIMIT ?
            """,
            (after, limit),
        )
        return [ArchivePlace(*row) for row in rows]

    async def get(self, project_id: ProjectId) -> ArchiveState | None:
        row = self._statements.row(
            """
            SELECT head, tree, position_xact, position_id, archived_events, pushed_head
            FROM archives WHERE project_id = ?
            """,
            (project_id,),
        )
        return ArchiveState(row[0], row[1], EventPosition(row[2], row[3]), row[4], row[5]) if row else None

    async def record(self, project_id: ProjectId, expected: str | None, state: ArchiveState) -> bool:
        before = self._statements.row("SELECT head, position_id FROM archives WHERE project_id = ?", (project_id,))
        if (before[0] if before else None) != expected:
            return False
        self._statements.insert(
            """
            INSERT INTO archives
                (project_id, head, tree, position_xact, position_id, archived_events, pushed_head, updated_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET
                head = excluded.head, tree = excluded.tree, position_xact = excluded.position_xact,
                position_id = excluded.position_id, archived_events = excluded.archived_events,
                updated_at = excluded.updated_at
            """,
            (
                project_id,
                state.head,
                state.tree,
                state.position.transaction,
                state.position.event_id,
                state.archived_events,
                state.pushed_head,
                self._clock.microseconds(),
            ),
        )
        self._statements.rows(
            """
            DELETE FROM outbox WHERE topic = ?1 AND event_id IN (
                SELECT id FROM events WHERE project_id = ?2 AND id > ?3 AND id <= ?4
            )
            """,
            (ARCHIVE_TOPIC, project_id, before[1] if before else 0, state.position.event_id),
        )
        return True

    async def record_push(self, project_id: ProjectId, head: str) -> None:
        self._statements.rows("UPDATE archives SET pushed_head = ? WHERE project_id = ?", (head, project_id))

    async def sizes(self, message_ids: Sequence[MessageId]) -> dict[MessageId, int]:
        rows = self._statements.rows(
            """
            SELECT m.id, octet_length(m.body_md) + coalesce((
                SELECT sum(t.size) FROM message_attachments l CROSS JOIN attachments t ON t.id = l.attachment_id
                WHERE l.message_id = m.id
            ), 0)
            FROM json_each(?) wanted CROSS JOIN messages m ON m.id = wanted.value
            """,
            (orjson.dumps(message_ids).decode(),),
        )
        return dict(rows)

    async def messages(self, message_ids: Sequence[MessageId]) -> list[ArchivedMessage]:
        wanted = orjson.dumps(message_ids).decode()
        return await self._statements.apart(lambda statements: _messages(statements, wanted))

    async def message_ids(self, project_id: ProjectId, after: MessageId, limit: int) -> list[MessageId]:
        rows = self._statements.rows(
            "SELECT id FROM messages WHERE project_id = ? AND id > ? ORDER BY id LIMIT ?", (project_id, after, limit)
        )
        return [message_id for (message_id,) in rows]


def _messages(statements: Statements, wanted: str) -> list[ArchivedMessage]:
    recipients = _recipients(statements, wanted)
    files = _attachments(statements, wanted)
    rows = statements.rows(
        """
        SELECT m.id, m.thread_id, t.key, t.subject, t.created_at, m.parent_id, a.id, a.name, a.project_id,
            coalesce(p.deleted_slug, p.slug), m.subject, m.body_md, m.priority, m.ack_required, m.created_at
        FROM json_each(?) wanted CROSS JOIN messages m ON m.id = wanted.value
        CROSS JOIN threads t ON t.id = m.thread_id
        CROSS JOIN agents a ON a.id = m.sender_id CROSS JOIN projects p ON p.id = a.project_id
        ORDER BY m.id
        """,
        (wanted,),
    )
    return [
        ArchivedMessage(
            id=row[0],
            thread_id=row[1],
            thread_key=row[2],
            thread_subject=row[3],
            thread_began_at=from_microseconds(row[4]),
            parent_id=row[5],
            sender=Correspondent(*row[6:10]),
            recipients=tuple(recipients[row[0]]),
            subject=row[10],
            body_md=row[11],
            priority=PRIORITY_WORDS[row[12]],
            ack_required=bool(row[13]),
            created_at=from_microseconds(row[14]),
            attachments=tuple(files[row[0]]),
        )
        for row in rows
    ]


def _recipients(statements: Statements, wanted: str) -> dict[MessageId, list[Correspondent]]:
    found: dict[MessageId, list[Correspondent]] = defaultdict(list)
    for message_id, agent_id, name, project_id, slug, kind in statements.rows(
        """
        SELECT d.message_id, a.id, a.name, a.project_id, coalesce(p.deleted_slug, p.slug), d.kind
        FROM json_each(?) wanted CROSS JOIN deliveries d ON d.message_id = wanted.value
        CROSS JOIN agents a ON a.id = d.agent_id CROSS JOIN projects p ON p.id = a.project_id
        WHERE d.kind <> 2 ORDER BY d.message_id, d.place
        """,
        (wanted,),
    ):
        found[message_id].append(Correspondent(agent_id, name, project_id, slug, RECIPIENT_KINDS[kind]))
    return found


def _attachments(statements: Statements, wanted: str) -> dict[MessageId, list[ArchivedAttachment]]:
    found: dict[MessageId, list[ArchivedAttachment]] = defaultdict(list)
    for message_id, *file in statements.rows(
        """
        SELECT l.message_id, t.id, t.public_id, t.file_name, t.media_type, t.size, t.sha256
        FROM json_each(?) wanted CROSS JOIN message_attachments l ON l.message_id = wanted.value
        CROSS JOIN attachments t ON t.id = l.attachment_id
        ORDER BY l.message_id, l.place
        """,
        (wanted,),
    ):
        found[message_id].append(ArchivedAttachment(*file))
    return found
