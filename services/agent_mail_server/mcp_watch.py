"""Waiting on several things at once, and watching resources for a stream that tells of their changes.

Wake-ups only say where to look: whether a resource has changed is read from the database, so what a stream tells is
neither lost with a wake-up nor told twice for two of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from agent_mail_core.errors import Forbidden, Invalid, NotFound, Unavailable
from agent_mail_core.ports import App, Caller, Wakeup
from agent_mail_core.watching import WatchInbox, inbox_positions, watch_inbox
from agent_mail_server.mcp_subscriptions import Watched, mark_of, watched_resource

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


class ResourceWatch:
    """The resources that one stream tells of, each with the mark that its client knows of."""

    def __init__(self, app: App, caller: Caller, bell: Bell) -> None:
        self._app = app
        self._caller = caller
        self._bell = bell
        self._watched: dict[str, Watched] = {}

    async def follow(self, known: Mapping[str, str]) -> None:
        """Watch these and no others. For new ones the mark is given that their client knows of.

        Those that the caller may not see (any longer) are passed over, and those that cannot be asked for now: call
        again from time to time.
        """
        for uri in self._watched.keys() - known.keys():
            self._leave(uri)
        for uri in known.keys() - self._watched.keys():
            try:
                watched = await watched_resource(self._app, self._caller, uri)
            except (NotFound, Forbidden, Invalid, Unavailable):
                continue
            watched.mark = known[uri]
            await self.add(uri, watched)

    def _leave(self, uri: str) -> None:
        """Watch it no longer, and listen no longer to what nothing else is watched for."""
        left = self._watched.pop(uri)
        for topic in left.topics:
            if all(topic not in watched.topics for watched in self._watched.values()):
                self._bell.leave(topic)

    async def add(self, uri: str, watched: Watched) -> None:
        """Watch one more, from its mark on."""
        self._watched[uri] = watched
        for topic in watched.topics:
            await self._bell.follow(topic, self._app.wakeups.subscribe(topic))

    async def grown(self, reasons: frozenset[str] | None = None) -> list[str]:
        """Those that have changed since the client heard of them, which it then has.

        With reasons, looks only where a wake-up says so. While the database is away there is none.
        """
        asked = [
            (uri, watched)
            for uri, watched in self._watched.items()
            if reasons is None or not reasons.isdisjoint(watched.topics)
        ]
        try:
            marks = await self._marks([watched for _, watched in asked])
        except Unavailable:
            return []
        grown = []
        for (uri, watched), mark in zip(asked, marks, strict=True):
            if mark == watched.mark:
                continue
            try:
                is_seen = await self._is_seen(watched)
            except Unavailable:
                continue  # the next look finds it
            if is_seen:
                watched.mark = mark
                grown.append(uri)
            else:
                self._leave(uri)
        return grown

    async def _is_seen(self, watched: Watched) -> bool:
        """Whether the caller may see it still; what is no inbox has just been read for it. An agent changes hands."""
        if watched.agent_id is None:
            return True
        try:
            inbox = await watch_inbox(self._app, self._caller, WatchInbox.model_validate(watched.named.arguments))
        except (NotFound, Forbidden):
            return False
        return inbox.agent_id == watched.agent_id

    async def _marks(self, asked: Sequence[Watched]) -> list[str]:
        """What there is now; the mark that is known already of what is gone."""
        inboxes = {watched.agent_id for watched in asked if watched.agent_id is not None}
        positions = await inbox_positions(self._app, inboxes) if inboxes else {}
        marks = []
        for watched in asked:
            if watched.agent_id is not None:
                position = positions.get(watched.agent_id)
                marks.append(str(position) if position is not None else watched.mark)
                continue
            try:
                marks.append(await mark_of(self._app, self._caller, watched.named))
            except (NotFound, Forbidden):
                marks.append(watched.mark)
        return marks

    @property
    def recurring(self) -> list[str]:
        """Those whose mark may be once more what it was: all but inboxes, whose positions only grow."""
        return [uri for uri, watched in self._watched.items() if watched.agent_id is None]

    @property
    def state(self) -> str:
        """What the client knows of, in a few letters: equal when it is equal."""
        told = sorted(f"{uri}#{watched.mark}" for uri, watched in self._watched.items())
        return hashlib.blake2b("\n".join(told).encode(), digest_size=8).hexdigest()
