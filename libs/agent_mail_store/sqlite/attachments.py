"""Attachments in SQLite. Whoever adds or removes bytes is the only writer; they are read on a thread."""

from collections.abc import Sequence
from datetime import timedelta

import orjson

from agent_mail_core.attachment_errors import StorageQuotaExceeded
from agent_mail_core.attachments import AttachmentRecord, Attachments, NewAttachment
from agent_mail_core.clock import MICROSECOND, from_microseconds
from agent_mail_core.ids import AgentId, AttachmentId, MessageId, TeamId
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Row, Statements

_FIND = """
    SELECT id, public_id, project_id, uploader_id, owner, file_name, media_type, size, sha256, created_at, is_linked
    FROM (
        SELECT t.*, u.owner, p.deleted_at, wanted.key AS place, EXISTS (
            SELECT 1 FROM message_attachments l CROSS JOIN messages m ON m.id = l.message_id
            CROSS JOIN projects mp ON mp.id = m.project_id
            WHERE l.attachment_id = t.id AND mp.deleted_at IS NULL
        ) AS is_linked
        FROM json_each(?2) wanted
        CROSS JOIN attachments t ON t.team_id = ?1 AND t.public_id = wanted.value
        CROSS JOIN agents u ON u.id = t.uploader_id
        CROSS JOIN projects p ON p.id = t.project_id
    )
    WHERE deleted_at IS NULL OR is_linked
    ORDER BY place
"""


class SqliteAttachments(Attachments):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def add(self, new: NewAttachment, quota: int) -> AttachmentRecord:
        now, size = self._clock.microseconds(), len(new.content)
        if not self._statements.row("SELECT 1 FROM blobs WHERE team_id = ? AND sha256 = ?", (new.team_id, new.sha256)):
            used = self._statements.row("SELECT blob_bytes FROM team_usage WHERE team_id = ?", (new.team_id,))
            if size + (used[0] if used else 0) > quota:
                raise StorageQuotaExceeded(limit=quota)
            self._statements.insert(
                "INSERT INTO blobs (team_id, sha256, size, content, created_at) VALUES (?, ?, ?, ?, ?)",
                (new.team_id, new.sha256, size, new.content, now),
            )
            self._statements.insert(
                """
                INSERT INTO team_usage (team_id, blob_bytes) VALUES (?, ?)
                ON CONFLICT DO UPDATE SET blob_bytes = blob_bytes + excluded.blob_bytes
                """,
                (new.team_id, size),
            )
        self._statements.insert(
            """
            INSERT INTO attachments (public_id, team_id, project_id, uploader_id, file_name, media_type, size, sha256,
                created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                new.public_id,
                new.team_id,
                new.project_id,
                new.uploader_id,
                new.file_name,
                new.media_type,
                size,
                new.sha256,
                now,
            ),
        )
        return (await self.find(new.team_id, [new.public_id]))[0]

    async def find(self, team_id: TeamId, public_ids: Sequence[str]) -> list[AttachmentRecord]:
        return [attachment_record(row) for row in self._statements.rows(_FIND, (team_id, _json(public_ids)))]

    async def content(self, attachment_id: AttachmentId) -> bytes | None:
        def work(statements: Statements) -> Row | None:
            return statements.row(
                """
                SELECT b.content FROM attachments t JOIN blobs b ON b.team_id = t.team_id AND b.sha256 = t.sha256
                WHERE t.id = ?
                """,
                (attachment_id,),
            )

        row = await self._statements.apart(work)
        return row[0] if row is not None else None

    async def linkable(self, agent_id: AgentId, public_ids: Sequence[str]) -> list[AttachmentRecord]:
        return [attachment_record(row) for row in linkable_rows(self._statements, agent_id, public_ids)]

    async def link(self, message_id: MessageId, attachment_ids: Sequence[AttachmentId]) -> None:
        link_attachments(self._statements, message_id, attachment_ids)

    async def of_messages(self, message_ids: Sequence[MessageId]) -> dict[MessageId, list[AttachmentRecord]]:
        rows = self._statements.rows(
            """
            SELECT t.id, t.public_id, t.project_id, t.uploader_id, u.owner, t.file_name, t.media_type, t.size, t.sha256,
                t.created_at, 1, l.message_id
            FROM json_each(?) wanted
            CROSS JOIN message_attachments l ON l.message_id = wanted.value
            CROSS JOIN attachments t ON t.id = l.attachment_id
            CROSS JOIN agents u ON u.id = t.uploader_id
            ORDER BY l.message_id, l.place
            """,
            (_json(message_ids),),
        )
        found: dict[MessageId, list[AttachmentRecord]] = {}
        for row in rows:
            found.setdefault(row[-1], []).append(attachment_record(row))
        return found

    async def remove_unlinked(self, uploaded_before: timedelta, limit: int) -> int:
        rows = self._statements.rows(
            """
            DELETE FROM attachments WHERE id IN (
                SELECT t.id FROM attachments t
                WHERE t.created_at < ?
                    AND NOT EXISTS (SELECT 1 FROM message_attachments l WHERE l.attachment_id = t.id)
                ORDER BY t.id LIMIT ?
            ) RETURNING team_id, sha256
            """,
            (self._clock.microseconds() - uploaded_before // MICROSECOND, limit),
        )
        remove_blobs(self._statements, [(team_id, sha256) for team_id, sha256 in rows])
        return len(rows)


def linkable_rows(statements: Statements, agent_id: AgentId, public_ids: Sequence[str]) -> list[Row]:
    """What the agent may link, in the columns of AttachmentRecord; also for deliveries, which cannot await."""
    return statements.rows(
        """
        SELECT t.id, t.public_id, t.project_id, t.uploader_id, u.owner, t.file_name, t.media_type, t.size, t.sha256,
            t.created_at, EXISTS (SELECT 1 FROM message_attachments l WHERE l.attachment_id = t.id)
        FROM agents a
        CROSS JOIN json_each(?2) wanted
        CROSS JOIN attachments t ON t.team_id = a.team_id AND t.public_id = wanted.value
        CROSS JOIN agents u ON u.id = t.uploader_id
        CROSS JOIN projects p ON p.id = t.project_id
        WHERE a.id = ?1 AND (
            (t.uploader_id = a.id AND p.deleted_at IS NULL)
            OR EXISTS (
                SELECT 1 FROM message_attachments l CROSS JOIN messages m ON m.id = l.message_id
                CROSS JOIN projects mp ON mp.id = m.project_id
                WHERE l.attachment_id = t.id AND mp.deleted_at IS NULL
                    AND (m.sender_id = a.id OR EXISTS (
                        SELECT 1 FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = a.id
                    ))
            )
        )
        ORDER BY wanted.key
        """,
        (agent_id, _json(public_ids)),
    )


def link_attachments(statements: Statements, message_id: MessageId, attachment_ids: Sequence[AttachmentId]) -> None:
    """Link them in this order; also for deliveries, which cannot await."""
    statements.many(
        "INSERT INTO message_attachments (message_id, attachment_id, place) VALUES (?, ?, ?)",
        [(message_id, attachment_id, place) for place, attachment_id in enumerate(attachment_ids, start=1)],
    )


def remove_blobs(statements: Statements, digests: Sequence[tuple[int, bytes]]) -> None:
    """Remove those of these bytes that no attachment refers to."""
    for team_id, sha256 in digests:
        gone = statements.rows(
            """
            DELETE FROM blobs WHERE team_id = ?1 AND sha256 = ?2
                AND NOT EXISTS (SELECT 1 FROM attachments t WHERE t.team_id = ?1 AND t.sha256 = ?2)
            RETURNING size
            """,
            (team_id, sha256),
        )
        for (size,) in gone:
            statements.rows("UPDATE team_usage SET blob_bytes = blob_bytes - ? WHERE team_id = ?", (size, team_id))


def attachment_record(row: Row) -> AttachmentRecord:
    """The columns above, in the order of AttachmentRecord."""
    return AttachmentRecord(
        id=row[0],
        public_id=row[1],
        project_id=row[2],
        uploader_id=row[3],
        uploader_owner=row[4],
        file_name=row[5],
        media_type=row[6],
        size=row[7],
        sha256=row[8],
        created_at=from_microseconds(row[9]),
        is_linked=bool(row[10]),
    )


def _json(values: Sequence[str] | Sequence[MessageId]) -> str:
    return orjson.dumps(list(values)).decode()
