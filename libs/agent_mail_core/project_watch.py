"""Finding out that something happened in a project when nobody may say so.

Wake-ups for leases may be lost; and much that happens wakes nobody, because only those who watch a project care.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent_mail_core.errors import AgentMailError
from agent_mail_core.event_feed import events_of
from agent_mail_core.ids import ProjectId
from agent_mail_core.leases import leases_of
from agent_mail_core.ports import Store


class ProjectWatch:
    """One query for all projects of which somebody on this worker waits for news, as `waiting.InboxWatch` for inboxes.

    Whatever frees a lease writes an event, but for a higher capacity of a slot: that is seen when the waiting calls
    look by themselves.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._marks: dict[str, int] = {}

    async def grown(self, topics: Iterable[str]) -> list[str]:
        """Those topics of leases and of events in whose project something happened since they were last asked for.

        Also those that the last call did not ask for. None while the database is away.
        """
        wanted = {topic: project_id for topic in topics if (project_id := _project_of(topic)) is not None}
        if not wanted:
            self._marks = {}
            return []
        try:
            async with self._store.read() as db:
                marks = await db.events.marks(sorted(set(wanted.values())))
        except AgentMailError:
            return []
        before, self._marks = self._marks, {topic: marks.get(project_id, 0) for topic, project_id in wanted.items()}
        return [topic for topic, mark in self._marks.items() if before.get(topic) != mark]


def _project_of(topic: str) -> ProjectId | None:
    found = leases_of(topic)
    return found if found is not None else events_of(topic)
