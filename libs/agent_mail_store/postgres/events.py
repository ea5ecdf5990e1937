"""Events on PostgreSQL. A row notes its transaction, by which followers read in the order of commits (DESIGN 7).

A follower reads only what older transactions than all that run have written: nothing can be added below that any more.
"""

import json
from collections.abc import Sequence
from datetime import timedelta

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
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.retention import is_on_hold, share_lock
from agent_mail_store.postgres.statements import Statements

FORGOTTEN = "events_forgotten"
"""The fact that says up to which position events were removed."""

_SETTLED = """
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS open_from,
           EXISTS (
               SELECT FROM events e WHERE {scope} AND e.xact >= pg_snapshot_xmin(pg_current_snapshot())
           ) AS is_behind,
           EXISTS (
               SELECT FROM events e WHERE {scope} AND (e.xact, e.id) > ($2::bigint::text::xid8, $3)
                 AND e.xact < pg_snapshot_xmin(pg_current_snapshot())
           ) AS has_news
"""
_AFTER = """
    SELECT e.xact::text::bigint, e.id, e.kind, e.team_id, e.project_id, coalesce(p.deleted_slug, p.slug), e.agent_id,
           a.name, e.message_id, e.data, e.created_at,
           a.project_id, coalesce(h.deleted_slug, h.slug), h.deleted_at IS NOT NULL,
           $5::bigint IS NULL OR e.agent_id = $5 OR EXISTS (
               SELECT FROM messages m WHERE m.id = e.message_id AND m.sender_id = $5
           ) OR EXISTS (
               SELECT FROM deliveries d WHERE d.message_id = e.message_id AND d.agent_id = $5 AND (d.kind <> 2 OR $6)
           ) AS is_wanted
    FROM (
        SELECT * FROM events e
        WHERE {scope} AND (e.xact, e.id) > ($2::bigint::text::xid8, $3) AND e.xact < $4::bigint::text::xid8
        ORDER BY e.xact, e.id LIMIT $7
    ) e
    JOIN projects p ON p.id = e.project_id
    LEFT JOIN agents a ON a.id = e.agent_id
    LEFT JOIN projects h ON h.id = a.project_id
    ORDER BY e.xact, e.id
"""
_PAGE = """
    SELECT e.xact::text::bigint, e.id, e.kind, e.team_id, e.project_id, coalesce(p.deleted_slug, p.slug), e.agent_id,
           a.name, e.message_id, e.data, e.created_at,
           a.project_id, coalesce(h.deleted_slug, h.slug), h.deleted_at IS NOT NULL
    FROM events e
    JOIN projects p ON p.id = e.project_id AND (p.deleted_at IS NULL OR e.kind = 'project.deleted')
    LEFT JOIN agents a ON a.id = e.agent_id
    LEFT JOIN projects h ON h.id = a.project_id
    WHERE {scope} AND (e.xact, e.id) < ($2::bigint::text::xid8, $3)
    ORDER BY e.xact DESC, e.id DESC LIMIT $4
"""
_OF_AGENT = """
    SELECT e.xact::text::bigint, e.id, e.kind, e.team_id, e.project_id, p.slug, e.agent_id, a.name, e.message_id,
           e.data, e.created_at, a.project_id, coalesce(h.deleted_slug, h.slug), h.deleted_at IS NOT NULL
    FROM events e
    JOIN projects p ON p.id = e.project_id AND p.deleted_at IS NULL
    JOIN agents a ON a.id = e.agent_id
    JOIN projects h ON h.id = a.project_id
    WHERE e.agent_id = $1 AND e.id < $2 AND ($3::bigint IS NULL OR e.project_id = $3)
    ORDER BY e.id DESC LIMIT $4
"""
_ENDLESS = EventPosition(LARGEST_INTEGER, LARGEST_INTEGER)


class PostgresEvents(Events):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def add(self, *events: NewEvent) -> None:
        if not events:
            return
        # A deletion under way is waited for here, as it would be for the foreign key.
        rows = await self._db.rows(
            """
            WITH held AS (
                SELECT id FROM projects WHERE id = ANY ($2::bigint[]) AND deleted_at IS NULL ORDER BY id FOR KEY SHARE
            ), added AS (
                INSERT INTO events (team_id, project_id, kind, agent_id, message_id, data)
                SELECT team_id, project_id, kind, agent_id, message_id, data::jsonb
                FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])
                    WITH ORDINALITY AS e (team_id, project_id, kind, agent_id, message_id, data, place)
                WHERE project_id IN (SELECT id FROM held) OR kind = 'project.deleted'
                ORDER BY place
                RETURNING id
            )
            INSERT INTO outbox (event_id, topic) SELECT id, $7 FROM added ORDER BY id RETURNING 1
            """,
            [event.team_id for event in events],
            [event.project_id for event in events],
            [event.kind for event in events],
            [event.agent_id for event in events],
            [event.message_id for event in events],
            [json.dumps(event.data) for event in events],
            ARCHIVE_TOPIC,
        )
        if len(rows) < len(events):
            raise TransactionConflict

    async def of_agent(self, agent_id: AgentId, limit: int) -> list[EventRecord]:
        rows = await self._db.rows(
            """
            SELECT id, kind, agent_id, message_id, data, created_at
            FROM events WHERE agent_id = $1 ORDER BY id DESC LIMIT $2
            """,
            agent_id,
            limit,
        )
        return [
            EventRecord(
                row["id"],
                row["kind"],
                row["agent_id"],
                row["message_id"],
                json.loads(row["data"]),
                row["created_at"],
            )
            for row in rows
        ]

    async def marks(self, project_ids: Sequence[ProjectId]) -> dict[ProjectId, int]:
        # Of the last fifty, not the last alone: one that commits late may stand before others.
        rows = await self._db.rows(
            """
            SELECT w.id AS project_id, sum(last.id)::bigint AS mark
            FROM unnest($1::bigint[]) AS w (id)
            CROSS JOIN LATERAL (
                SELECT e.id FROM events e WHERE e.project_id = w.id ORDER BY e.xact DESC, e.id DESC LIMIT 50
            ) AS last
            GROUP BY w.id
            """,
            list(project_ids),
        )
        return {row["project_id"]: row["mark"] for row in rows}

    async def after(self, position: EventPosition, wanted: EventFilter, limit: int) -> EventSlice:
        scope, scope_id = _scope(wanted)
        settled = await self._db.the_row(
            _SETTLED.format(scope=scope), scope_id, position.transaction, position.event_id
        )
        rows = (
            []
            if not settled["has_news"]
            else await self._db.rows(
                _AFTER.format(scope=scope),
                scope_id,
                position.transaction,
                position.event_id,
                settled["open_from"],
                wanted.agent_id,
                wanted.with_hidden,
                limit,
            )
        )
        has_more = len(rows) == limit
        reached = EventPosition(*rows[-1][:2]) if has_more else EventPosition(settled["open_from"], 0)
        return EventSlice(
            [_entry(row) for row in rows if row["is_wanted"]], max(position, reached), has_more, settled["is_behind"]
        )

    async def last_position(self) -> EventPosition:
        row = await self._db.the_row("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        return EventPosition(row[0], 0)

    async def forgotten(self) -> EventPosition:
        row = await self._db.row("SELECT value FROM facts WHERE name = $1", FORGOTTEN)
        return EventPosition(*json.loads(row["value"])) if row else FIRST_POSITION

    async def forget(self, project_id: ProjectId, older_than: timedelta, limit: int) -> int:
        await share_lock(self._db)
        if await is_on_hold(self._db, project_id):
            return 0
        rows = await self._db.rows(
            """
            WITH oldest AS (
                SELECT e.xact, e.id,
                       bool_or(e.created_at >= clock_timestamp() - $2::interval
                               OR EXISTS (SELECT FROM outbox o WHERE o.event_id = e.id))
                           OVER (ORDER BY e.xact, e.id) AS is_kept
                FROM (
                    SELECT * FROM events WHERE project_id = $1 AND xact < pg_snapshot_xmin(pg_current_snapshot())
                    ORDER BY xact, id LIMIT $3
                ) e
            )
            DELETE FROM events USING oldest WHERE events.id = oldest.id AND NOT oldest.is_kept
            RETURNING events.xact::text::bigint, events.id
            """,
            project_id,
            older_than,
            limit,
        )
        if rows:
            # Whoever removes events of another project waits, and sees this position.
            await self._db.rows(
                "INSERT INTO facts (name, value) VALUES ($1, '[0, 0]') ON CONFLICT DO NOTHING", FORGOTTEN
            )
            await self._db.rows("SELECT FROM facts WHERE name = $1 FOR UPDATE", FORGOTTEN)
            last = max(await self.forgotten(), *(EventPosition(*row) for row in rows))
            await self._db.rows(
                "UPDATE facts SET value = $2 WHERE name = $1",
                FORGOTTEN,
                json.dumps([last.transaction, last.event_id]),
            )
        return len(rows)

    async def page(self, wanted: EventFilter, before: EventPosition | None, limit: int) -> list[EventEntry]:
        below = before or _ENDLESS
        if wanted.agent_id is not None:
            rows = await self._db.rows(_OF_AGENT, wanted.agent_id, below.event_id, wanted.project_id, limit)
        else:
            scope, scope_id = _scope(wanted)
            rows = await self._db.rows(_PAGE.format(scope=scope), scope_id, below.transaction, below.event_id, limit)
        return [_entry(row) for row in rows]


def _scope(wanted: EventFilter) -> tuple[str, int | None]:
    """The condition that an index serves, and its value, which is $1."""
    if wanted.project_id is not None:
        return "e.project_id = $1", wanted.project_id
    if wanted.team_id is not None:
        return "e.team_id = $1", wanted.team_id
    return "$1::bigint IS NULL", None


def _entry(row: Row) -> EventEntry:
    return EventEntry(
        position=EventPosition(row[0], row[1]),
        kind=row[2],
        team_id=row[3],
        project_id=row[4],
        project_slug=row[5],
        agent_id=row[6],
        agent_name=row[7],
        message_id=row[8],
        data=json.loads(row[9]),
        created_at=row[10],
        agent_project_id=row[11],
        agent_project_slug=row[12],
        agent_project_is_deleted=row[13],
    )
