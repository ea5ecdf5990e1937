"""MCP sessions of the handshake revisions: small records that any worker can read (SPEC §4).

A session belongs to a principal, ends after its time to live without use, and may vanish with the service that keeps
it: clients then initialize again, and no mail is lost, because none lives here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from agent_mail_core.ids import Principal, TeamId

MAX_SESSIONS_A_PRINCIPAL = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """One client's handshake: what was negotiated, and for whom."""

    id: str
    team_id: TeamId
    principal: Principal
    protocol_version: str
    client_params: dict[str, Any]
    """The client's `initialize` parameters as JSON."""


class Sessions(Protocol):
    """Keeps sessions. Every method raises `Unavailable` when the service behind it is down."""

    async def create(
        self, team_id: TeamId, principal: Principal, protocol_version: str, client_params: dict[str, Any]
    ) -> Session:
        """A new session under an id that cannot be guessed.

        Past MAX_SESSIONS_A_PRINCIPAL the principal's oldest ends.
        """
        ...

    async def get(self, session_id: str) -> Session | None:
        """The session, its time to live begun anew; None when there is none, whatever the text."""
        ...

    async def delete(self, session_id: str) -> None:
        """End it on every worker within a second; twice is fine."""
        ...
