"""When agents were last active: noted in memory by every call.

Written in batches outside request transactions (SPEC §2).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import Clock, Presence, Store

WRITTEN_EVERY = timedelta(seconds=30)
FLUSH_SECONDS = 5.0
BATCH = 500


class PresenceLog(Presence):
    """Keeps the last time of each agent until it is written. What a crash loses is at most 30 seconds of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[AgentId, datetime] = {}
        self._written: dict[AgentId, datetime] = {}

    def saw(self, agent_id: AgentId) -> None:
        self._seen[agent_id] = self._clock.now()

    def last_seen(self, agent_id: AgentId) -> datetime | None:
        return self._seen.get(agent_id)

    async def flush(self, store: Store, everything: bool = False) -> int:
        """Write what is due, each agent at most every 30 s unless `everything`; how many.

        What cannot be written stays.
        """
        now = self._clock.now()
        self._written = {agent: at for agent, at in self._written.items() if now - at < WRITTEN_EVERY}
        due = {agent: at for agent, at in self._seen.items() if everything or agent not in self._written}
        ids = sorted(due)
        for start in range(0, len(ids), BATCH):
            batch = {agent: due[agent] for agent in ids[start : start + BATCH]}
            try:
                async with store.write() as db:
                    await db.agents.touch(batch)
            except DatabaseUnavailable:
                return start
            for agent, at in batch.items():
                self._written[agent] = now
                if self._seen.get(agent) == at:
                    del self._seen[agent]
        return len(ids)
