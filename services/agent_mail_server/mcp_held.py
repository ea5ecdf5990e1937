"""The streams that clients hold open on this worker: who holds how many, and what ends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mcp_types import RequestId

from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Caller
from agent_mail_server.mcp_watch import Bell
from agent_mail_server.mcp_wire import Refused

Owner = tuple[TeamId, Principal]

MAX_STREAMS_A_PRINCIPAL = 10


@dataclass(eq=False, slots=True)
class Held:
    """A stream opened by GET. `name` is that of a session's own stream; one that goes on with a call's has none."""

    session_id: str
    name: str | None
    bell: Bell
    is_ended: bool = False

    def end(self) -> None:
        """The stream has to end; its holder sees to it."""
        self.is_ended = True
        self.bell.ring("ended")


class HeldStreams:
    """Streams by session, and places by principal. Every stream holds a place, calls that listen too."""

    def __init__(self) -> None:
        self._by_session: dict[str, set[Held]] = {}
        self._places: Counter[Owner] = Counter()

    def __len__(self) -> int:
        return self._places.total()

    @contextmanager
    def place(self, caller: Caller, message_id: RequestId | None = None, succeeds: bool = False) -> Iterator[None]:
        """Hold a place. Raises Refused when the principal has no more, unless one becomes free for this `succeeds`."""
        owner = (caller.team_id, caller.principal)
        if self._places[owner] >= MAX_STREAMS_A_PRINCIPAL and not succeeds:
            raise Refused(
                429,
                f"A principal may hold {MAX_STREAMS_A_PRINCIPAL} streams open.",
                message_id=message_id,
                headers=[(b"retry-after", b"60")],
            )
        self._places[owner] += 1
        try:
            yield
        finally:
            self._places[owner] -= 1
            if not self._places[owner]:
                del self._places[owner]

    @contextmanager
    def hold(self, held: Held) -> Iterator[None]:
        """The stream is open inside the block."""
        self._by_session.setdefault(held.session_id, set()).add(held)
        try:
            yield
        finally:
            others = self._by_session[held.session_id]
            others.discard(held)
            if not others:
                del self._by_session[held.session_id]

    def take_over(self, session_id: str, name: object) -> bool:
        """End the session's own stream unless it has this name. True when there was one here."""
        taken = [held for held in self._by_session.get(session_id, ()) if held.name is not None and held.name != name]
        for held in taken:
            held.end()
        return bool(taken)

    def end(self, session_id: str) -> None:
        """End a session's streams."""
        for held in self._by_session.get(session_id, ()):
            held.end()

    def close(self) -> None:
        """End all."""
        for streams in self._by_session.values():
            for held in streams:
                held.end()
