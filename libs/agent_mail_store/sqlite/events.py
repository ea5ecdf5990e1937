"""Events in SQLite: rowids are in commit order, because there is one writer."""

import orjson

from agent_mail_core.clock import from_microseconds
from agent_mail_core.events import ARCHIVE_TOPIC, EventRecord, Events, NewEvent
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Statements


class SqliteEvents(Events):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def add(self, *events: NewEvent) -> None:
        for event in events:
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
