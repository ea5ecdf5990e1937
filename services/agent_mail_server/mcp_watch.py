"""Waiting on several things at once, and watching inboxes for a stream that tells of their mail.

Wake-ups only say where to look: whether an inbox has grown is read from the database, so what a stream tells is neither
lost with a wake-up nor told twice for two of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from agent_mail_core.errors import Forbidden, NotFound, Unavailable
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import App, Caller, Wakeup, inbox_topic
from agent_mail_core.watching import WatchedInbox, inbox_positions
from agent_mail_server.mcp_inboxes import inbox_of_uri

TURN = 60.0
"""Seconds of one wait on a wake-up; only how often the wait is begun anew."""


class Bell:
    """Rings for any of several reasons, and says which."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self._news = asyncio.Event()
        self._listeners: dict[str, asyncio.Task[None]] = {}

    def ring(self, reason: str) -> None:
        """There is a reason to look."""
        self._reasons.add(reason)
        self._news.set()

    async def wait(self, timeout: float) -> frozenset[str]:
        """The reasons since the last call, as soon as there is one; after `timeout` seconds none."""
        if not self._reasons:
            try:
                async with asyncio.timeout(timeout):
                    await self._news.wait()
            except TimeoutError:
                pass
        reasons = frozenset(self._reasons)
        self._reasons.clear()
        self._news.clear()
        return reasons

    async def follow(self, reason: str, wakeups: AbstractAsyncContextManager[Wakeup]) -> None:
        """Ring for each wake-up from now on."""
        if reason not in self._listeners:
            listening = asyncio.Event()
            listener = self._listeners[reason] = asyncio.create_task(self._listen(reason, wakeups, listening))
            entered = asyncio.ensure_future(listening.wait())
            try:
                await asyncio.wait((listener, entered), return_when=asyncio.FIRST_COMPLETED)
            finally:
                entered.cancel()
            if listener.done():
                listener.result()

    def leave(self, reason: str) -> None:
        """Ring for it no longer."""
        listener = self._listeners.pop(reason, None)
        if listener is not None:
            listener.cancel()
        self._reasons.discard(reason)

    async def close(self) -> None:
        """Ring no longer; return when nothing listens."""
        listeners = list(self._listeners.values())
        for reason in list(self._listeners):
            self.leave(reason)
        if listeners:
            await asyncio.wait(listeners)

    async def _listen(
        self, reason: str, wakeups: AbstractAsyncContextManager[Wakeup], listening: asyncio.Event
    ) -> None:
        async with wakeups as news:
            listening.set()
            while True:
                if await news.wait(TURN):
                    self.ring(reason)


@dataclass(slots=True)
class _Watched:
    agent_id: AgentId
    told: int
    """The position that the client knows of."""


class InboxWatch:
    """The inboxes that one stream tells of, and the positions up to which it has."""

    def __init__(self, app: App, caller: Caller, bell: Bell) -> None:
        self._app = app
        self._caller = caller
        self._bell = bell
        self._watched: dict[str, _Watched] = {}

    async def follow(self, known: Mapping[str, int]) -> None:
        """Watch these inboxes and no others. For new ones the position is given that their client knows of.

        Those that the caller may not see (any longer) are passed over, and those that cannot be asked for now: call
        again from time to time.
        """
        for uri in self._watched.keys() - known.keys():
            left = self._watched.pop(uri).agent_id
            if all(watched.agent_id != left for watched in self._watched.values()):
                self._bell.leave(inbox_topic(left))
        for uri in known.keys() - self._watched.keys():
            try:
                inbox = await inbox_of_uri(self._app, self._caller, uri)
            except (NotFound, Forbidden, Unavailable):
                continue
            await self.add(uri, WatchedInbox(inbox.agent_id, known[uri]))

    async def add(self, uri: str, inbox: WatchedInbox) -> None:
        """Watch one more, from a position on."""
        self._watched[uri] = _Watched(inbox.agent_id, inbox.position)
        topic = inbox_topic(inbox.agent_id)
        await self._bell.follow(topic, self._app.wakeups.subscribe(topic))

    async def grown(self, reasons: frozenset[str] | None = None) -> list[str]:
        """The inboxes with mail that the client does not know of, which it then does.

        With reasons, looks only where a wake-up says so. While the database is away there is none.
        """
        asked = {
            uri: watched
            for uri, watched in self._watched.items()
            if reasons is None or inbox_topic(watched.agent_id) in reasons
        }
        if not asked:
            return []
        try:
            found = await inbox_positions(self._app, {watched.agent_id for watched in asked.values()})
        except Unavailable:
            return []
        grown = [uri for uri, watched in asked.items() if found[watched.agent_id] != watched.told]
        for uri in grown:
            asked[uri].told = found[asked[uri].agent_id]
        return grown

    @property
    def state(self) -> str:
        """What the client knows of, in a few letters: equal when it is equal."""
        told = sorted(f"{uri}#{watched.told}" for uri, watched in self._watched.items())
        return hashlib.blake2b("\n".join(told).encode(), digest_size=8).hexdigest()
