"""Mailboxes in SQLite. The single writer is the mailbox's lock.

The project of a sender or a thread is read only where it is another one than the reader's.
"""

import json
from collections.abc import Sequence
from datetime import datetime

from agent_mail_core.addresses import show
from agent_mail_core.clock import from_microseconds, to_microseconds
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, MessageId, ProjectId
from agent_mail_core.inbox_items import InboxItem
from agent_mail_core.mailboxes import InboxFilter, InboxSlice, Mailboxes, PendingAck, ReadMark
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.messages import PRIORITY_WORDS
from agent_mail_store.sqlite.statements import Row, Statements, Value

_ITEMS = """
    SELECT b.position, b.unread, d.position, d.message_id, t.key, m.parent_id, a.name, m.subject,
        CASE WHEN ?1 THEN m.body_md END, d.kind, d.priority, d.ack_required, d.created_at, d.read_at, d.acknowledged_at,
        CASE WHEN a.project_id <> r.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END,
        CASE WHEN d.project_id <> r.project_id THEN (SELECT slug FROM projects WHERE id = d.project_id) END,
        CASE WHEN ?1 THEN EXISTS (SELECT 1 FROM message_attachments f WHERE f.message_id = d.message_id) ELSE 0 END
    FROM mailboxes b
    CROSS JOIN agents r ON r.id = b.agent_id
    LEFT JOIN deliveries d {index} ON d.agent_id = b.agent_id AND {conditions}
    LEFT JOIN messages m ON m.id = d.message_id
    LEFT JOIN threads t ON t.id = d.thread_id
    LEFT JOIN agents a ON a.id = d.sender_id
    WHERE b.agent_id = ?2
    ORDER BY {order} LIMIT ?4
"""
_PENDING = """
    SELECT d.message_id, t.key, d.sender_id, s.name, m.subject, d.priority, d.created_at, d.agent_id, r.name, d.kind,
        d.read_at,
        CASE WHEN s.project_id <> ?1 THEN (SELECT slug FROM projects WHERE id = s.project_id) END,
        CASE WHEN r.project_id <> ?1 THEN (SELECT slug FROM projects WHERE id = r.project_id) END,
        CASE WHEN d.project_id <> ?1 THEN p.slug END
    FROM deliveries d
    CROSS JOIN agents r ON r.id = d.agent_id AND r.retired_at IS NULL
    CROSS JOIN messages m ON m.id = d.message_id
    CROSS JOIN threads t ON t.id = d.thread_id
    CROSS JOIN agents s ON s.id = d.sender_id
    CROSS JOIN projects p ON p.id = d.project_id AND p.deleted_at IS NULL
    WHERE d.ack_required AND d.acknowledged_at IS NULL
"""

MOST_AT_ONCE = 200
"""Mailboxes that the event loop's own reader looks up: a tenth of a millisecond."""


class SqliteMailboxes(Mailboxes):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def newest(
        self, agent_id: AgentId, below: int | None, wanted: InboxFilter, with_bodies: bool, limit: int
    ) -> InboxSlice:
        bound = LARGEST_INTEGER if below is None else below
        return await self._slice(agent_id, "d.position < ?3", bound, wanted, with_bodies, "d.position DESC", limit)

    async def after(
        self, agent_id: AgentId, position: int, wanted: InboxFilter, with_bodies: bool, limit: int
    ) -> InboxSlice:
        return await self._slice(agent_id, "d.position > ?3", position, wanted, with_bodies, "d.position", limit)

    async def positions(self, agent_ids: Sequence[AgentId]) -> dict[AgentId, int]:
        sql = """
            SELECT b.agent_id, b.position FROM json_each(?) wanted CROSS JOIN mailboxes b ON b.agent_id = wanted.value
        """

        def work(statements: Statements) -> dict[AgentId, int]:
            return dict(statements.rows(sql, (json.dumps(agent_ids),)))

        if len(agent_ids) > MOST_AT_ONCE:
            return await self._statements.apart(work)
        return work(self._statements)

    async def _slice(
        self,
        agent_id: AgentId,
        where: str,
        bound: int,
        wanted: InboxFilter,
        with_bodies: bool,
        order: str,
        limit: int,
    ) -> InboxSlice:
        conditions, values = _conditions(wanted)
        sql = _ITEMS.format(index=_index(wanted), conditions=" AND ".join([where, *conditions]), order=order)

        def work(statements: Statements) -> InboxSlice:
            rows = statements.rows(sql, (int(with_bodies), agent_id, bound, limit, *values))
            if not rows:
                return InboxSlice([], 0, 0)
            items = _items(rows) if rows[0][2] is not None else []
            return InboxSlice(items, rows[0][0], rows[0][1])

        # These two have no index of their own: they walk along the mailbox.
        if wanted.min_priority is not None or wanted.since is not None:
            return await self._statements.apart(work)
        return work(self._statements)

    async def mark_read(self, agent_id: AgentId, message_ids: Sequence[MessageId], acknowledge: bool) -> list[ReadMark]:
        now = self._clock.microseconds()
        marks: list[ReadMark] = []
        changes: list[tuple[Value, ...]] = []
        newly_read = 0
        for message_id in dict.fromkeys(message_ids):
            row = self._statements.row(
                """
                SELECT position, read_at, acknowledged_at, kind, project_id FROM deliveries
                WHERE message_id = ? AND agent_id = ?
                """,
                (message_id, agent_id),
            )
            if row is None:
                continue
            position, read_at, acknowledged_at, kind, project_id = row
            is_newly_read = read_at is None
            is_newly_acknowledged = acknowledge and acknowledged_at is None
            read_at = now if is_newly_read else read_at
            acknowledged_at = now if is_newly_acknowledged else acknowledged_at
            if is_newly_read or is_newly_acknowledged:
                changes.append((read_at, acknowledged_at, agent_id, position))
            newly_read += is_newly_read
            marks.append(
                ReadMark(
                    message_id,
                    project_id,
                    from_microseconds(read_at),
                    from_microseconds(acknowledged_at) if acknowledged_at is not None else None,
                    is_newly_read,
                    is_newly_acknowledged,
                    is_bcc=RECIPIENT_KINDS[kind] == "bcc",
                )
            )
        if changes:
            self._statements.many(
                "UPDATE deliveries SET read_at = ?, acknowledged_at = ? WHERE agent_id = ? AND position = ?", changes
            )
        if newly_read:
            self._statements.many(
                "UPDATE mailboxes SET unread = unread - ? WHERE agent_id = ?", [(newly_read, agent_id)]
            )
        return marks

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
        conditions: list[str] = []
        values: list[Value] = [project_id]
        for condition, value in (
            ("d.agent_id = ", owed_by),
            ("d.sender_id = ", owed_to),
            ("d.created_at < ", to_microseconds(sent_before) if sent_before is not None else None),
            ("d.kind <> ", None if with_bcc else RECIPIENT_KINDS.index("bcc")),
        ):
            if value is not None:
                values.append(value)
                conditions.append(f"{condition}?{len(values)}")
        if owed_by is None and owed_to is None:
            conditions.append("d.project_id = ?1")
        if after is not None:
            values += after
            conditions.append(f"(d.message_id, d.agent_id) > (?{len(values) - 1}, ?{len(values)})")
        order = f"ORDER BY d.message_id, d.agent_id LIMIT ?{len(values) + 1}"
        sql = " ".join([_PENDING, *(f"AND {condition}" for condition in conditions), order])
        rows = await self._statements.apart(lambda statements: statements.rows(sql, (*values, limit)))
        return [_pending(row) for row in rows]


def _index(wanted: InboxFilter) -> str:
    """The planner would walk the mailbox by its primary key, whatever the filter."""
    if wanted.thread_id is not None:
        return "INDEXED BY deliveries_by_thread"
    return "INDEXED BY deliveries_unread" if wanted.unread_only else ""


def _conditions(wanted: InboxFilter) -> tuple[list[str], list[Value]]:
    """Conditions with the values that they have from ?5 on."""
    conditions: list[str] = []
    values: list[Value] = []
    for condition, value in (
        ("d.priority >= ", wanted.min_priority),
        ("d.thread_id = ", wanted.thread_id),
        ("d.created_at >= ", to_microseconds(wanted.since) if wanted.since is not None else None),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"{condition}?{4 + len(values)}")
    if wanted.unread_only:
        conditions.append("d.read_at IS NULL")
    return conditions, values


def _items(rows: list[Row]) -> list[InboxItem]:
    # Each column by its number: unpacking slices costs a third more.
    return [
        InboxItem(
            row[2],
            row[3],
            row[4] if row[16] is None else show(row[4], row[16]),
            row[5],
            row[6] if row[15] is None else show(row[6], row[15]),
            row[7],
            row[8],
            RECIPIENT_KINDS[row[9]],
            PRIORITY_WORDS[row[10]],
            row[11] == 1,
            row[12],
            row[13],
            row[14],
            row[17] == 1,
        )
        for row in rows
    ]


def _pending(row: Row) -> PendingAck:
    return PendingAck(
        message_id=row[0],
        thread_key=show(row[1], row[13]),
        sender_id=row[2],
        sender_name=show(row[3], row[11]),
        subject=row[4],
        priority=PRIORITY_WORDS[row[5]],
        created_at=from_microseconds(row[6]),
        agent_id=row[7],
        agent_name=show(row[8], row[12]),
        kind=RECIPIENT_KINDS[row[9]],
        read_at=from_microseconds(row[10]) if row[10] is not None else None,
    )
