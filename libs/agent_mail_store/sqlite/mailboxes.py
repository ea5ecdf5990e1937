"""Mailboxes in SQLite. The single writer is the mailbox's lock."""

import json
from collections.abc import Sequence
from datetime import datetime

from agent_mail_core.clock import from_microseconds, to_microseconds
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.ids import AgentId, MessageId, ProjectId
from agent_mail_core.mailboxes import InboxFilter, InboxItem, InboxSlice, Mailboxes, PendingAck, ReadMark
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.messages import LARGEST_ROWID, PRIORITY_WORDS
from agent_mail_store.sqlite.statements import Row, Statements, Value

_ITEMS = """
    SELECT d.position, d.kind, d.read_at, d.acknowledged_at, d.message_id, t.key, m.parent_id, a.name, m.subject,
        CASE WHEN ? THEN m.body_md END, d.priority, d.ack_required, d.created_at
    FROM deliveries d {index}
    CROSS JOIN messages m ON m.id = d.message_id
    CROSS JOIN threads t ON t.id = d.thread_id
    CROSS JOIN agents a ON a.id = d.sender_id
    WHERE d.agent_id = ?
"""
_PENDING = """
    SELECT d.message_id, t.key, d.sender_id, s.name, m.subject, d.priority, d.created_at, d.agent_id, r.name, d.kind,
        d.read_at
    FROM deliveries d
    CROSS JOIN agents r ON r.id = d.agent_id AND r.retired_at IS NULL
    CROSS JOIN messages m ON m.id = d.message_id
    CROSS JOIN threads t ON t.id = d.thread_id
    CROSS JOIN agents s ON s.id = d.sender_id
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
        bound = LARGEST_ROWID if below is None else below
        return await self._slice(agent_id, "d.position < ?", bound, wanted, with_bodies, "d.position DESC", limit)

    async def after(
        self, agent_id: AgentId, position: int, wanted: InboxFilter, with_bodies: bool, limit: int
    ) -> InboxSlice:
        return await self._slice(agent_id, "d.position > ?", position, wanted, with_bodies, "d.position", limit)

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
        sql = " ".join(
            [
                _ITEMS.format(index=_index(wanted)),
                "AND",
                " AND ".join([where, *conditions]),
                "ORDER BY",
                order,
                "LIMIT ?",
            ]
        )

        def work(statements: Statements) -> InboxSlice:
            with statements.one_state():
                mailbox = statements.row("SELECT position, unread FROM mailboxes WHERE agent_id = ?", (agent_id,))
                rows = statements.rows(sql, (int(with_bodies), agent_id, bound, *values, limit))
            position, unread = mailbox or (0, 0)
            return InboxSlice([_item(row) for row in rows], position, unread)

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
                "SELECT position, read_at, acknowledged_at, kind FROM deliveries WHERE message_id = ? AND agent_id = ?",
                (message_id, agent_id),
            )
            if row is None:
                continue
            position, read_at, acknowledged_at, kind = row
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
        values: list[Value] = []
        for condition, value in (
            ("d.agent_id = ?", owed_by),
            ("d.sender_id = ?", owed_to),
            ("d.project_id = ?", project_id if owed_by is None and owed_to is None else None),
            ("d.created_at < ?", to_microseconds(sent_before) if sent_before is not None else None),
            ("d.kind <> ?", None if with_bcc else RECIPIENT_KINDS.index("bcc")),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if after is not None:
            conditions.append("(d.message_id, d.agent_id) > (?, ?)")
            values += after
        sql = " ".join([_PENDING, "AND", " AND ".join(conditions), "ORDER BY d.message_id, d.agent_id LIMIT ?"])
        rows = await self._statements.apart(lambda statements: statements.rows(sql, (*values, limit)))
        return [_pending(row) for row in rows]


def _index(wanted: InboxFilter) -> str:
    """The planner would walk the mailbox by its primary key, whatever the filter."""
    if wanted.thread_id is not None:
        return "INDEXED BY deliveries_by_thread"
    return "INDEXED BY deliveries_unread" if wanted.unread_only else ""


def _conditions(wanted: InboxFilter) -> tuple[list[str], list[Value]]:
    conditions: list[str] = []
    values: list[Value] = []
    if wanted.unread_only:
        conditions.append("d.read_at IS NULL")
    if wanted.min_priority is not None:
        conditions.append("d.priority >= ?")
        values.append(wanted.min_priority)
    if wanted.thread_id is not None:
        conditions.append("d.thread_id = ?")
        values.append(wanted.thread_id)
    if wanted.since is not None:
        conditions.append("d.created_at >= ?")
        values.append(to_microseconds(wanted.since))
    return conditions, values


def _item(row: Row) -> InboxItem:
    return InboxItem(
        position=row[0],
        kind=RECIPIENT_KINDS[row[1]],
        read_at=from_microseconds(row[2]) if row[2] is not None else None,
        acknowledged_at=from_microseconds(row[3]) if row[3] is not None else None,
        message_id=row[4],
        thread_key=row[5],
        parent_id=row[6],
        sender_name=row[7],
        subject=row[8],
        body_md=row[9],
        priority=PRIORITY_WORDS[row[10]],
        ack_required=bool(row[11]),
        created_at=from_microseconds(row[12]),
    )


def _pending(row: Row) -> PendingAck:
    return PendingAck(
        message_id=row[0],
        thread_key=row[1],
        sender_id=row[2],
        sender_name=row[3],
        subject=row[4],
        priority=PRIORITY_WORDS[row[5]],
        created_at=from_microseconds(row[6]),
        agent_id=row[7],
        agent_name=row[8],
        kind=RECIPIENT_KINDS[row[9]],
        read_at=from_microseconds(row[10]) if row[10] is not None else None,
    )
