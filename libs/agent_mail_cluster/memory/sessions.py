"""MCP sessions of one server process, gone when it ends.

The time to live is the same for all, so the order of last use is the order in which sessions expire: each call ends
what is due at that order's front, and memory holds live sessions only.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Any

from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Clock
from agent_mail_core.sessions import MAX_SESSIONS_A_PRINCIPAL, Session, Sessions

Owner = tuple[TeamId, Principal]


class MemorySessions(Sessions):
    """Sessions in a dictionary; a call never fails, and never waits."""

    def __init__(self, clock: Clock, ttl_seconds: float) -> None:
        self._clock = clock
        self._ttl = int(ttl_seconds * 1_000_000)
        self._by_last_use: OrderedDict[str, tuple[Session, int]] = OrderedDict()
        self._by_owner: dict[Owner, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._by_last_use)

    async def create(
        self, team_id: TeamId, principal: Principal, protocol_version: str, client_params: dict[str, Any]
    ) -> Session:
        now = self._clock.microseconds()
        self._end_expired(now)
        own = self._by_owner.get((team_id, principal), {})
        if len(own) >= MAX_SESSIONS_A_PRINCIPAL:
            self._end(next(iter(own)))
        session = Session(secrets.token_urlsafe(24), team_id, principal, protocol_version, client_params)
        self._by_last_use[session.id] = (session, now + self._ttl)
        self._by_owner.setdefault((team_id, principal), {})[session.id] = None
        return session

    async def get(self, session_id: str) -> Session | None:
        now = self._clock.microseconds()
        self._end_expired(now)
        kept = self._by_last_use.get(session_id)
        if kept is None:
            return None
        self._by_last_use[session_id] = (kept[0], now + self._ttl)
        self._by_last_use.move_to_end(session_id)
        return kept[0]

    async def delete(self, session_id: str) -> None:
        self._end(session_id)

    def _end_expired(self, now: int) -> None:
        while self._by_last_use:
            session_id, (_, expires_at) = next(iter(self._by_last_use.items()))
            if expires_at > now:
                return
            self._end(session_id)

    def _end(self, session_id: str) -> None:
        kept = self._by_last_use.pop(session_id, None)
        if kept is None:
            return
        owner = (kept[0].team_id, kept[0].principal)
        own = self._by_owner[owner]
        del own[session_id]
        if not own:
            del self._by_owner[owner]
