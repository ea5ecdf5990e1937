"""Events in SQLite: rowids are in commit order, because there is one writer."""

from collections.abc import Sequence
from datetime import timedelta

import orjson

from agent_mail_core.clock import MICROSECOND, from_microseconds
from agent_mail_core.errors import TransactionConflict
from agent_mail_core.events import (
    ARCHIVE_TOPIC,
    FIRST_POSITION,
    EventEntry,
    EventFilter,
    EventPosition,
    EventRecord,
    Events,
    EventSlice,
    NewEvent,
)
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, ProjectId
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.retention import is_on_hold
from agent_mail_store.sqlite.statements import Row, Statements

FORGOTTEN = "events_forgotten"
"""The fact that says up to which event they were removed."""

_AFTER = """
    SELECT e.id, e.kind, e.team_id, e.project_id, coalesce(p.deleted_slug, p.slug), e.agent_id, a.name, e.message_id,
        e.data, e.created_at, a.project_id, coalesce(h.deleted_slug, h.slug), h.deleted_at IS NOT NULL,
        ?3 IS NULL OR e.agent_id = ?3
        OR EXISTS (SELECT 1 FROM messages m WHERE m.id = e.message_id AND m.sender_id = ?3)
        OR EXISTS (
            SELECT 1 FROM deliveries d WHERE d.message_id = e.message_id AND d.agent_id = ?3 AND (d.kind <> 2 OR ?4)
        )
    FROM (SELECT * FROM events e WHERE {scope} AND e.id > ?2 ORDER BY e.id LIMIT ?5) e
    CROSS JOIN projects p ON p.id = e.project_id
    LEFT JOIN agents a ON a.id = e.agent_id
    LEFT JOIN projects h ON h.id = a.project_id
    ORDER BY e.id
"""
_PAGE = """
    SELECT e.id, e.kind, e.team_id, e.project_id, coalesce(p.deleted_slug, p.slug), e.agent_id, a.name, e.message_id,
        e.data, e.created_at, a.project_id, coalesce(h.deleted_slug, h.slug), h.deleted_at IS NOT NULL
    FROM events e
    CROSS JOIN projects p ON p.id = e.project_id AND (p.deleted_at IS NULL OR e.kind = 'project.deleted')
    LEFT JOIN agents a ON a.id = e.agent_id
    LEFT JOIN projects h ON h.id = a.project_id
    WHERE {scope} AND e.id < ?2 AND (?3 IS NULL OR e.project_id = ?3)
    ORDER BY e.id DESC LIMIT ?4
"""


class SqliteEvents(Events):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def add(self, *events: NewEvent) -> None:
        for event in events:
            if event.kind != "project.deleted" and not self._statements.row(
                "SELECT 1 FROM projects WHERE id = ? AND deleted_at IS NULL", (event.project_id,)
            ):
                raise TransactionConflict
            add_event(self._statements, event, self._clock.microseconds())

    async def of_agent(self, agent_id: AgentId, limit: int) -> list[EventRecord]:
        rows = self._statements.rows(
            """
            SELECT id, kind, agent_id, message_id, data, created_at FROM events
            WHERE agent_id = ? ORDER BY id DESC LIMIT ?
            """,
            (agent_id, limit),
        )
        return [
            EventRecord(event_id, kind, agent, message_id, orjson.loads(data), from_microseconds(created_at))
            for event_id, kind, agent, message_id, data, created_at in rows
        ]

    async def marks(self, project_ids: Sequence[ProjectId]) -> dict[ProjectId, int]:
        rows = self._statements.rows(
            """
            SELECT w.value, last.id
            FROM json_each(?) w
            JOIN events last ON last.id = (SELECT max(e.id) FROM events e WHERE e.project_id = w.value)
            """,
            (orjson.dumps(project_ids).decode(),),
        )
        return {ProjectId(project_id): event_id for project_id, event_id in rows}

    async def after(self, position: EventPosition, wanted: EventFilter, limit: int) -> EventSlice:
        scope, scope_id = _scope(wanted)
        with self._statements.one_state():
            [(last,)] = self._statements.rows("SELECT coalesce(max(id), 0) FROM events")
            rows = self._statements.rows(
                _AFTER.format(scope=scope),
                (scope_id, position.event_id, wanted.agent_id, int(wanted.with_hidden), limit),
            )
        has_more = len(rows) == limit
        reached = EventPosition(0, rows[-1][0] if has_more else last)
        return EventSlice([_entry(row) for row in rows if row[-1]], max(position, reached), has_more, False)

    async def last_position(self) -> EventPosition:
        # What was removed last has not been forgotten by the table's counter: max(id) may be less than that.
        rows = self._statements.rows("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'")
        return EventPosition(0, rows[0][0])

    async def forgotten(self) -> EventPosition:
        row = self._statements.row("SELECT value FROM facts WHERE name = ?", (FORGOTTEN,))
        return EventPosition(*orjson.loads(row[0])) if row else FIRST_POSITION

    async def forget(self, project_id: ProjectId, older_than: timedelta, limit: int) -> int:
        if is_on_hold(self._statements, project_id):
            return 0
        rows = self._statements.rows(
            """
            WITH oldest AS (
                SELECT e.id, max(e.created_at >= ? OR EXISTS (SELECT 1 FROM outbox o WHERE o.event_id = e.id))
                    OVER (ORDER BY e.id) AS is_kept
                FROM (SELECT * FROM events WHERE project_id = ? ORDER BY id LIMIT ?) e
            )
            DELETE FROM events WHERE id IN (SELECT id FROM oldest WHERE NOT is_kept) RETURNING id
            """,
            (self._clock.microseconds() - older_than // MICROSECOND, project_id, limit),
        )
        if rows:
            last = max((await self.forgotten()).event_id, *(event_id for (event_id,) in rows))
            position = orjson.dumps([0, last]).decode()
            self._statements.insert(
                "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (FORGOTTEN, position),
            )
        return len(rows)

    async def page(self, wanted: EventFilter, before: EventPosition | None, limit: int) -> list[EventEntry]:
        scope, scope_id = _scope(wanted)
        project_id = None
        if wanted.agent_id is not None:
            scope, scope_id, project_id = "e.agent_id = ?1", wanted.agent_id, wanted.project_id
        below = before.event_id if before is not None else LARGEST_INTEGER
        rows = self._statements.rows(_PAGE.format(scope=scope), (scope_id, below, project_id, limit))
        return [_entry(row) for row in rows]


def _scope(wanted: EventFilter) -> tuple[str, int | None]:
    """The condition that an index serves, and its value, which is ?1."""
    if wanted.project_id is not None:
        return "e.project_id = ?1", wanted.project_id
    if wanted.team_id is not None:
        return "e.team_id = ?1", wanted.team_id
    return "?1 IS NULL", None


def _entry(row: Row) -> EventEntry:
    return EventEntry(
        position=EventPosition(0, row[0]),
        kind=row[1],
        team_id=row[2],
        project_id=row[3],
        project_slug=row[4],
        agent_id=row[5],
        agent_name=row[6],
        message_id=row[7],
        data=orjson.loads(row[8]),
        created_at=from_microseconds(row[9]),
        agent_project_id=row[10],
        agent_project_slug=row[11],
        agent_project_is_deleted=bool(row[12]),
    )


def add_event(statements: Statements, event: NewEvent, created_at: int) -> None:
    """Append an event and its outbox row."""
    event_id = statements.insert(
        """
        INSERT INTO events (team_id, project_id, kind, agent_id, message_id, data, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        """,
        (
            event.team_id,
            event.project_id,
            event.kind,
            event.agent_id,
            event.message_id,
            orjson.dumps(event.data).decode(),
            created_at,
        ),
    )
    statements.insert(
        "INSERT INTO outbox (event_id, topic, created_at) VALUES (?, ?, ?)", (event_id, ARCHIVE_TOPIC, created_at)
    )
