"""Attachments on PostgreSQL. Whoever adds or removes bytes of a team holds its row of `team_usage` until the commit.

So the quota is exact, and the bytes that a sweep takes away are none that an upload refers to at that moment.
"""

from collections.abc import Sequence
from datetime import timedelta

from agent_mail_core.attachment_errors import StorageQuotaExceeded
from agent_mail_core.attachments import AttachmentRecord, Attachments, NewAttachment
from agent_mail_core.ids import AgentId, AttachmentId, MessageId, TeamId
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.statements import Statements

_FIND = """
    SELECT t.id, t.public_id, t.project_id, t.uploader_id, u.owner, t.file_name, t.media_type, t.size, t.sha256,
           t.created_at, l.is_linked
    FROM unnest($2::text[]) WITH ORDINALITY AS wanted (public_id, place)
    JOIN attachments t ON t.team_id = $1 AND t.public_id = wanted.public_id
    JOIN agents u ON u.id = t.uploader_id
    JOIN projects p ON p.id = t.project_id
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM message_attachments l JOIN messages m ON m.id = l.message_id
            JOIN projects mp ON mp.id = m.project_id
            WHERE l.attachment_id = t.id AND mp.deleted_at IS NULL
        ) AS is_linked
    ) l
    WHERE p.deleted_at IS NULL OR l.is_linked
    ORDER BY wanted.place
"""


class PostgresAttachments(Attachments):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def add(self, new: NewAttachment, quota: int) -> AttachmentRecord:
        size = len(new.content)
        # The bytes first, which take long, so that the team's row is held only for a moment.
        stored = await self._db.row(
            """
            INSERT INTO blobs (team_id, sha256, size, content) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING 1
            """,
            new.team_id,
            new.sha256,
            size,
            new.content,
        )
        added = size if stored else 0
        counted = await self._db.row(
            """
            INSERT INTO team_usage AS u (team_id, blob_bytes) SELECT $1, $2::bigint WHERE $2::bigint <= $3::bigint
            ON CONFLICT (team_id) DO UPDATE SET blob_bytes = u.blob_bytes + excluded.blob_bytes
                WHERE excluded.blob_bytes = 0 OR u.blob_bytes + excluded.blob_bytes <= $3::bigint
            RETURNING blob_bytes
            """,
            new.team_id,
            added,
            quota,
        )
        if counted is None:
            raise StorageQuotaExceeded(limit=quota)
        # A lost race are bytes that were there a moment ago and have been swept away since, by their foreign key, and a
        # project that was deleted since.
        row = await self._db.the_row(
            """
            WITH added AS (
                INSERT INTO attachments (
                    public_id, team_id, project_id, uploader_id, file_name, media_type, size, sha256
                )
                SELECT $1, $2, id, $4, $5, $6, $7, $8 FROM projects WHERE id = $3 AND deleted_at IS NULL FOR KEY SHARE
                RETURNING *
            )
            SELECT t.id, t.public_id, t.project_id, t.uploader_id, u.owner, t.file_name, t.media_type, t.size, t.sha256,
                   t.created_at, false
            FROM added t JOIN agents u ON u.id = t.uploader_id
            """,
            new.public_id,
            new.team_id,
            new.project_id,
            new.uploader_id,
            new.file_name,
            new.media_type,
            size,
            new.sha256,
        )
        return AttachmentRecord(*row)

    async def find(self, team_id: TeamId, public_ids: Sequence[str]) -> list[AttachmentRecord]:
        return [AttachmentRecord(*row) for row in await self._db.rows(_FIND, team_id, public_ids)]

    async def content(self, attachment_id: AttachmentId) -> bytes | None:
        row = await self._db.row(
            """
            SELECT b.content FROM attachments t JOIN blobs b ON b.team_id = t.team_id AND b.sha256 = t.sha256
            WHERE t.id = $1
            """,
            attachment_id,
        )
        return bytes(row["content"]) if row else None

    async def linkable(self, agent_id: AgentId, public_ids: Sequence[str]) -> list[AttachmentRecord]:
        rows = await self._db.rows(
            """
            SELECT t.id, t.public_id, t.project_id, t.uploader_id, u.owner, t.file_name, t.media_type, t.size, t.sha256,
                   t.created_at,
                   EXISTS (SELECT FROM message_attachments l WHERE l.attachment_id = t.id)
            FROM agents a
            JOIN attachments t ON t.team_id = a.team_id AND t.public_id = ANY ($2::text[])
            JOIN agents u ON u.id = t.uploader_id
            JOIN projects p ON p.id = t.project_id
            WHERE a.id = $1 AND (
                (t.uploader_id = a.id AND p.deleted_at IS NULL)
                OR EXISTS (
                    SELECT FROM message_attachments l JOIN messages m ON m.id = l.message_id
                    JOIN projects mp ON mp.id = m.project_id
                    WHERE l.attachment_id = t.id AND mp.deleted_at IS NULL
                      AND (m.sender_id = a.id OR EXISTS (
                          SELECT FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = a.id
                      ))
                )
            )
            ORDER BY array_position($2::text[], t.public_id)
            FOR KEY SHARE OF t
            """,
            agent_id,
            public_ids,
        )
        return [AttachmentRecord(*row) for row in rows]

    async def link(self, message_id: MessageId, attachment_ids: Sequence[AttachmentId]) -> None:
        await self._db.rows(
            """
            INSERT INTO message_attachments (message_id, attachment_id, place)
            SELECT $1, attachment_id, place
            FROM unnest($2::bigint[]) WITH ORDINALITY AS wanted (attachment_id, place)
            """,
            message_id,
            attachment_ids,
        )

    async def of_messages(self, message_ids: Sequence[MessageId]) -> dict[MessageId, list[AttachmentRecord]]:
        rows = await self._db.rows(
            """
            SELECT l.message_id, t.id, t.public_id, t.project_id, t.uploader_id, u.owner, t.file_name, t.media_type,
                   t.size, t.sha256, t.created_at, true
            FROM message_attachments l
            JOIN attachments t ON t.id = l.attachment_id
            JOIN agents u ON u.id = t.uploader_id
            WHERE l.message_id = ANY ($1::bigint[])
            ORDER BY l.message_id, l.place
            """,
            message_ids,
        )
        return _by_message(rows)

    async def remove_unlinked(self, uploaded_before: timedelta, limit: int) -> int:
        rows = await self._db.rows(
            """
            DELETE FROM attachments WHERE id IN (
                SELECT t.id FROM attachments t
                WHERE t.created_at < clock_timestamp() - $1::interval
                  AND NOT EXISTS (SELECT FROM message_attachments l WHERE l.attachment_id = t.id)
                ORDER BY t.id LIMIT $2 FOR UPDATE SKIP LOCKED
            ) RETURNING team_id, sha256
            """,
            uploaded_before,
            limit,
        )
        await remove_blobs(self._db, [(row["team_id"], row["sha256"]) for row in rows])
        return len(rows)


async def remove_blobs(db: Statements, digests: Sequence[tuple[int, bytes]]) -> None:
    """Remove those of these bytes that no attachment refers to."""
    if not digests:
        return
    teams = sorted({team_id for team_id, _ in digests})
    await db.rows("SELECT FROM team_usage WHERE team_id = ANY ($1::bigint[]) ORDER BY team_id FOR UPDATE", teams)
    # A statement of its own: it sees what was committed while this waited.
    await db.rows(
        """
        WITH gone AS (
            DELETE FROM blobs b
            USING unnest($1::bigint[], $2::bytea[]) AS wanted (team_id, sha256)
            WHERE b.team_id = wanted.team_id AND b.sha256 = wanted.sha256
              AND NOT EXISTS (SELECT FROM attachments t WHERE t.team_id = b.team_id AND t.sha256 = b.sha256)
            RETURNING b.team_id, b.size
        )
        UPDATE team_usage u SET blob_bytes = u.blob_bytes - freed.bytes
        FROM (SELECT team_id, sum(size) AS bytes FROM gone GROUP BY team_id) freed WHERE u.team_id = freed.team_id
        """,
        [team_id for team_id, _ in digests],
        [sha256 for _, sha256 in digests],
    )


def _by_message(rows: Sequence[Row]) -> dict[MessageId, list[AttachmentRecord]]:
    found: dict[MessageId, list[AttachmentRecord]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(AttachmentRecord(*row[1:]))
    return found
