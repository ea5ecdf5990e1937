"""Events on PostgreSQL. A row notes its transaction, by which followers read in the order of commits (DESIGN 7)."""

import json

from agent_mail_core.events import ARCHIVE_TOPIC, EventRecord, Events, NewEvent
from agent_mail_core.ids import AgentId
from agent_mail_store.postgres.statements import Statements


class PostgresEvents(Events):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def add(self, *events: NewEvent) -> None:
        if not events:
            return
        await self._db.rows(
            """
            WITH added AS (
                INSERT INTO events (team_id, project_id, kind, agent_id, message_id, data)
                SELECT team_id, project_id, kind, agent_id, message_id, data::jsonb
                FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])
                    WITH ORDINALITY AS e (team_id, project_id, kind, agent_id, message_id, data, place)
                ORDER BY place
                RETURNING id
            )
            INSERT INTO outbox (event_id, topic) SELECT id, $7 FROM added ORDER BY id
            """,
            [event.team_id for event in events],
            [event.project_id for event in events],
            [event.kind for event in events],
            [event.agent_id for event in events],
            [event.message_id for event in events],
            [json.dumps(event.data) for event in events],
            ARCHIVE_TOPIC,
        )

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
