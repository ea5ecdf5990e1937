"""Mailboxes on PostgreSQL. Whoever adds to a mailbox or reads off it holds its row's lock until the commit.

A page and the mailbox's own figures come from one statement, hence from one snapshot. What few pages need has a
statement of its own, as each subquery costs every page some 5 µs: the slugs of other projects.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from agent_mail_core.addresses import show
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, MessageId, ProjectId
from agent_mail_core.inbox_items import InboxItem
from agent_mail_core.mailboxes import InboxFilter, InboxSlice, Mailboxes, PendingAck, ReadMark
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.messages import PRIORITY_WORDS
from agent_mail_store.postgres.statements import Statements

_COLUMNS = """
    SELECT b.position AS last_position, b.unread, d.position, d.message_id, t.key, m.parent_id, s.name, m.subject,
           {body} AS body_md, d.kind, d.priority, d.ack_required,
           (date_part('epoch', d.created_at) * 1e6)::bigint, (date_part('epoch', d.read_at) * 1e6)::bigint,
           (date_part('epoch', d.acknowledged_at) * 1e6)::bigint,
           s.project_id, d.project_id, r.project_id, {has_attachments}
"""
_NAMES = """
    LEFT JOIN messages m ON m.id = d.message_id
    LEFT JOIN threads t ON t.id = d.thread_id
    LEFT JOIN agents s ON s.id = d.sender_id
"""
_PAGE_BEGIN = _COLUMNS.format(body="NULL::text", has_attachments="false")
_PAGE_WITH_BODIES_BEGIN = _COLUMNS.format(
    body="m.body_md", has_attachments="EXISTS (SELECT FROM message_attachments WHERE message_id = d.message_id)"
)
_PAGE_FROM = """
    FROM mailboxes b
    JOIN agents r ON r.id = b.agent_id
    LEFT JOIN LATERAL (
        SELECT * FROM deliveries
        WHERE agent_id = b.agent_id AND position > $2 AND position < $3
          AND ($5::smallint IS NULL OR priority >= $5) AND ($6::timestamptz IS NULL OR created_at >= $6)
"""
_PAGE_END = f"""
        LIMIT $4
    ) d ON true
    {_NAMES}
    WHERE b.agent_id = $1
"""
_SEVERAL_PAGES = f"""
    {_COLUMNS.format(body="NULL::text", has_attachments="false")}, q.number
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[]) WITH ORDINALITY
         q (agent_id, above, below, most, number)
    JOIN mailboxes b ON b.agent_id = q.agent_id
    JOIN agents r ON r.id = b.agent_id
    LEFT JOIN LATERAL (
        SELECT * FROM deliveries
        WHERE agent_id = b.agent_id AND position > q.above AND position < q.below
        ORDER BY position {{order}}
        LIMIT q.most
    ) d ON true
    {_NAMES}
    ORDER BY q.number, d.position {{order}}
"""  # noqa: S608 - our own columns
_PENDING_BEGIN = """
    SELECT d.message_id, t.key, d.sender_id, s.name AS sender_name, m.subject, d.priority, d.created_at, d.agent_id,
           r.name, d.kind, d.read_at,
           CASE WHEN s.project_id <> $1 THEN (SELECT slug FROM projects WHERE id = s.project_id) END AS sender_slug,
           CASE WHEN r.project_id <> $1 THEN (SELECT slug FROM projects WHERE id = r.project_id) END AS agent_slug,
           CASE WHEN d.project_id <> $1 THEN p.slug END AS thread_slug
    FROM deliveries d
    JOIN agents r ON r.id = d.agent_id AND r.retired_at IS NULL
    JOIN agents s ON s.id = d.sender_id
    JOIN messages m ON m.id = d.message_id
    JOIN threads t ON t.id = d.thread_id
    JOIN projects p ON p.id = d.project_id AND p.deleted_at IS NULL
    WHERE d.ack_required AND d.acknowledged_at IS NULL
      AND (d.message_id, d.agent_id) > ($2, $3)
      AND ($4::timestamptz IS NULL OR d.created_at < $4) AND (d.kind < 2 OR $5)
"""
_PENDING_END = "ORDER BY d.message_id, d.agent_id LIMIT $6"


Order: TypeAlias = Literal["ASC", "DESC"]
PageQuestion: TypeAlias = tuple[AgentId, int, int, int]
"""Whose inbox, above and below which position, and how many at most."""

EVERYTHING = InboxFilter()


class PostgresMailboxes(Mailboxes):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def newest(
        self, agent_id: AgentId, below: int | None, wanted: InboxFilter, with_bodies: bool, limit: int
    ) -> InboxSlice:
        return await self._page(
            agent_id, 0, LARGEST_INTEGER if below is None else below, "DESC", wanted, with_bodies, limit
        )

    async def after(
        self, agent_id: AgentId, position: int, wanted: InboxFilter, with_bodies: bool, limit: int
    ) -> InboxSlice:
        return await self._page(agent_id, position, LARGEST_INTEGER, "ASC", wanted, with_bodies, limit)

    async def positions(self, agent_ids: Sequence[AgentId]) -> dict[AgentId, int]:
        rows = await self._db.rows(
            "SELECT agent_id, position FROM mailboxes WHERE agent_id = ANY ($1::bigint[])", agent_ids
        )
        return {row["agent_id"]: row["position"] for row in rows}

    async def _page(
        self,
        agent_id: AgentId,
        above: int,
        below: int,
        order: Order,
        wanted: InboxFilter,
        with_bodies: bool,
        limit: int,
    ) -> InboxSlice:
        if self._db.together is not None and not with_bodies and wanted == EVERYTHING:
            rows = await self._db.together.pages[order].get((agent_id, above, below, limit))
        else:
            rows = await self._rows(agent_id, above, below, order, wanted, with_bodies, limit)
        if not rows:
            return InboxSlice([], 0, 0)
        items = _items(rows, await self._slugs(rows)) if rows[0]["position"] is not None else []
        return InboxSlice(items, rows[0]["last_position"], rows[0]["unread"])

    async def _rows(
        self,
        agent_id: AgentId,
        above: int,
        below: int,
        order: Order,
        wanted: InboxFilter,
        with_bodies: bool,
        limit: int,
    ) -> list[Row]:
        # Two conditions are spelled out only where they are wanted, as each has an index of its own.
        statement = [_PAGE_WITH_BODIES_BEGIN if with_bodies else _PAGE_BEGIN, _PAGE_FROM]
        arguments = [agent_id, above, below, limit, wanted.min_priority, wanted.since]
        if wanted.unread_only:
            statement.append("AND read_at IS NULL")
        if wanted.thread_id is not None:
            statement.append("AND thread_id = $7")
            arguments.append(wanted.thread_id)
        statement += [f"ORDER BY position {order}", _PAGE_END, f"ORDER BY d.position {order}"]
        return await self._db.rows("\n".join(statement), *arguments)

    async def _slugs(self, rows: Sequence[Row]) -> dict[ProjectId, str]:
        """The slugs of the projects in a page that are not the reader's."""
        own = rows[0][17]
        foreign = {project_id for row in rows for project_id in (row[15], row[16]) if project_id != own}
        if not foreign:
            return {}
        found = await self._db.rows("SELECT id, slug FROM projects WHERE id = ANY ($1::bigint[])", list(foreign))
        return {row["id"]: row["slug"] for row in found}

    async def mark_read(self, agent_id: AgentId, message_ids: Sequence[MessageId], acknowledge: bool) -> list[ReadMark]:
        await self._db.rows("SELECT FROM mailboxes WHERE agent_id = $1 FOR NO KEY UPDATE", agent_id)
        # Under the lock nobody else marks them: what this statement sees before is what it changes.
        rows = await self._db.rows(
            """
            WITH before AS MATERIALIZED (
                SELECT agent_id, position, message_id, project_id, kind, read_at, acknowledged_at,
                       (SELECT clock_timestamp()) AS now
                FROM deliveries WHERE agent_id = $1 AND message_id = ANY ($2::bigint[])
            ), marked AS (
                UPDATE deliveries d
                SET read_at = coalesce(d.read_at, before.now),
                    acknowledged_at = CASE WHEN $3 THEN coalesce(d.acknowledged_at, before.now)
                                           ELSE d.acknowledged_at END
                FROM before
                WHERE d.agent_id = before.agent_id AND d.position = before.position
                  AND (before.read_at IS NULL OR $3 AND before.acknowledged_at IS NULL)
            ), counted AS (
                UPDATE mailboxes SET unread = unread - (SELECT count(*) FROM before WHERE read_at IS NULL)
                WHERE agent_id = $1 AND EXISTS (SELECT FROM before WHERE read_at IS NULL)
            )
            SELECT message_id, project_id, coalesce(read_at, now) AS read_at,
                   CASE WHEN $3 THEN coalesce(acknowledged_at, now) ELSE acknowledged_at END AS acknowledged_at,
                   read_at IS NULL AS is_newly_read,
                   $3 AND acknowledged_at IS NULL AS is_newly_acknowledged,
                   kind = 2 AS is_bcc
            FROM before
            """,
            agent_id,
            message_ids,
            acknowledge,
        )
        return [ReadMark(*row) for row in rows]

    async def pending_acks(
        self,
        project_id: ProjectId,
        owed_by: AgentId | None,
        owed_to: AgentId | None,
        sent_before: datetime | None,
        after: tuple[MessageId, AgentId] | None,
        with_bcc: bool,
        limit: int,
    ) -> list[PendingAck]:
        message_id, agent_id = after or (0, 0)
        # Who owes, who is owed, or else where, is spelled out only where it is asked for: each has an index of its own.
        statement = [_PENDING_BEGIN]
        arguments = [project_id, message_id, agent_id, sent_before, with_bcc, limit]
        if owed_by is not None:
            arguments.append(owed_by)
            statement.append(f"AND d.agent_id = ${len(arguments)}")
        if owed_to is not None:
            arguments.append(owed_to)
            statement.append(f"AND d.sender_id = ${len(arguments)}")
        if owed_by is None and owed_to is None:
            statement.append("AND d.project_id = $1")
        statement.append(_PENDING_END)
        rows = await self._db.rows("\n".join(statement), *arguments)
        return [
            PendingAck(
                message_id=row["message_id"],
                thread_key=show(row["key"], row["thread_slug"]),
                sender_id=row["sender_id"],
                sender_name=show(row["sender_name"], row["sender_slug"]),
                subject=row["subject"],
                priority=PRIORITY_WORDS[row["priority"]],
                created_at=row["created_at"],
                agent_id=row["agent_id"],
                agent_name=show(row["name"], row["agent_slug"]),
                kind=RECIPIENT_KINDS[row["kind"]],
                read_at=row["read_at"],
            )
            for row in rows
        ]


async def pages_together(order: Order, db: Statements, questions: Sequence[PageQuestion]) -> list[list[Row]]:
    """The rows of several pages without bodies: of each as `_rows` answers for it alone."""
    pages: list[list[Row]] = [[] for _ in questions]
    for row in await db.rows(_SEVERAL_PAGES.format(order=order), *zip(*questions, strict=True)):
        pages[row["number"] - 1].append(row)
    return pages


def _items(rows: Sequence[Row], slugs: Mapping[ProjectId, str]) -> list[InboxItem]:
    # Each column by its number: unpacking slices costs a third more.
    return [
        InboxItem(
            row[2],
            row[3],
            show(row[4], slugs.get(row[16])) if slugs else row[4],
            row[5],
            show(row[6], slugs.get(row[15])) if slugs else row[6],
            row[7],
            row[8],
            RECIPIENT_KINDS[row[9]],
            PRIORITY_WORDS[row[10]],
            row[11],
            row[12],
            row[13],
            row[14],
            row[18],
        )
        for row in rows
    ]


async def lock_mailboxes(db: Statements, agent_ids: Sequence[AgentId]) -> dict[AgentId, int]:
    """Lock the mailboxes, in order of their ids, until the transaction ends; the last position of each."""
    rows = await db.rows(
        """
        SELECT agent_id, position FROM mailboxes WHERE agent_id = ANY ($1::bigint[])
        ORDER BY agent_id FOR NO KEY UPDATE
        """,
        agent_ids,
    )
    return {row["agent_id"]: row["position"] for row in rows}
