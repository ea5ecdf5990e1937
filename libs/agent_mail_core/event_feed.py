"""Following the events of a project or of an agent, as a stream of them is served (SPEC §5).

The database alone says what comes next; a wake-up only tells when to look. A reader that comes back names the last id
that it saw and goes on behind it, or is told to begin anew.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, PrivateAttr

from agent_mail_core.activity import Activity, activity_of
from agent_mail_core.agents import may_act_as, the_agent
from agent_mail_core.errors import ProjectNotFound, TooManyStreams
from agent_mail_core.events import EventFilter, EventPosition
from agent_mail_core.fields import AgentName, ProjectRef, Request, Result
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, Principal, ProjectId, TeamId
from agent_mail_core.ports import App, Caller, Wakeup, inbox_topic
from agent_mail_core.projects import the_project

FEED_PAGE = 100
LOOK_AGAIN_SECONDS = 2.0
"""A feed looks by itself this often: not everything that happens wakes it."""

SETTLE_SECONDS = 0.1
"""How soon it looks again when an event is stored that an open transaction still hides."""

POSITION = re.compile(r"(.{1,100})-([0-9]{1,19})-([0-9]{1,19})")

Reset = Literal["epoch", "too_old", "unknown_id"]


class FollowEvents(Request):
    project_slug: ProjectRef
    agent_name: AgentName | None = Field(None, description="Only what this agent does, and its mail")
    last_event_id: str | None = Field(None, min_length=1, max_length=200, description="Go on after it")


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What a look found: the events, each with the id to go on after it."""

    events: list[tuple[str, Activity]]
    last_id: str
    """Where a reader goes on who has seen these."""
    reset: Reset | None = None
    """Why the reader must begin anew: it has missed events. This page begins now."""


EVENTS = "events:"


def events_topic(project_id: ProjectId) -> str:
    """The wake-up topic of a project's events: publish it after a commit that wrote some."""
    return f"{EVENTS}{project_id}"


def events_of(topic: str) -> ProjectId | None:
    """Of which project's events a wake-up topic tells; None for other topics."""
    return ProjectId(int(topic.removeprefix(EVENTS))) if topic.startswith(EVENTS) else None


class EventFeed:
    """One reader's place among the events that it may see. Each call of `next` judges anew what that is."""

    def __init__(self, app: App, caller: Caller, request: FollowEvents) -> None:
        self._app = app
        self._caller = caller
        self._request = request
        self._followed: AgentId | ProjectId | None = None
        self._position: EventPosition | None = None
        self._has_more = False
        self._is_behind = False

    async def begin(self) -> FeedPage:
        """Stand behind the id that the reader named, or without one behind all there is.

        Raises ProjectNotFound, AgentNotFound. An id of another epoch, one that is none, and one that is so old that
        events behind it have been removed begin anew.
        """
        self._followed = _followed(await self._wanted())
        last_event_id = self._request.last_event_id
        async with self._app.store.read() as db:
            newest = await db.events.last_position()
            position = reset = None
            if last_event_id is not None:
                position, reset = self._parsed(last_event_id)
                if position is not None and position < await db.events.forgotten():
                    reset = "too_old"
                elif position is not None and position > newest:
                    reset = "unknown_id"
        self._position = newest if position is None or reset is not None else position
        self._has_more = reset is None and position is not None
        return FeedPage([], self._id(self._position), reset)

    async def next(self, news: Wakeup, patience: float) -> FeedPage:
        """What comes next, as soon as there is some; without events after `patience` seconds, or when draining.

        Raises ProjectNotFound, AgentNotFound once they are gone, also when others have their names now: who follows
        those listens to another topic. `begin` comes first.
        """
        deadline = asyncio.get_running_loop().time() + patience
        wanted = await self._wanted()
        if _followed(wanted) != self._followed:
            raise ProjectNotFound(project_slug=self._request.project_slug, suggestion="get_project")
        while True:
            page = await self._look(wanted)
            remaining = deadline - asyncio.get_running_loop().time()
            if page.events or remaining <= 0 or self._app.is_draining():
                return page
            if not self._has_more:
                await news.wait(min(remaining, SETTLE_SECONDS if self._is_behind else LOOK_AGAIN_SECONDS))

    async def topic(self) -> str:
        """What wakes this reader. Listen to it before the first look."""
        wanted = await self._wanted()
        if wanted.agent_id is not None:
            return inbox_topic(wanted.agent_id)
        assert wanted.project_id is not None
        return events_topic(wanted.project_id)

    async def _look(self, wanted: EventFilter) -> FeedPage:
        assert self._position is not None
        async with self._app.store.read() as db:
            found = await db.events.after(self._position, wanted, FEED_PAGE)
        self._position, self._has_more, self._is_behind = found.position, found.has_more, found.is_behind
        events = [(self._id(entry.position), activity_of(entry)) for entry in found.entries]
        return FeedPage(events, self._id(self._position))

    async def _wanted(self) -> EventFilter:
        """What the reader may see now: a project that was deleted since is unknown."""
        request, caller = self._request, self._caller
        async with self._app.store.read() as db:
            if request.agent_name is None:
                project = await the_project(db, caller, request.project_slug)
                return EventFilter(caller.team_id, project.id)
            actor = await the_agent(db, caller, request.project_slug, request.agent_name)
        is_own = may_act_as(caller, actor.agent)
        if is_own:
            self._app.presence.saw(actor.agent.id)
        # Mail of other projects' threads reaches the agent too, and its own eyes alone may see that.
        return EventFilter(caller.team_id, None if is_own else actor.project.id, actor.agent.id, is_own)

    def _id(self, position: EventPosition) -> str:
        return f"{self._app.store.identity.epoch}-{position.transaction}-{position.event_id}"

    def _parsed(self, last_event_id: str) -> tuple[EventPosition | None, Reset | None]:
        found = POSITION.fullmatch(last_event_id)
        if found is None or max(int(found[2]), int(found[3])) > LARGEST_INTEGER:
            return None, "unknown_id"
        if found[1] != self._app.store.identity.epoch:
            return None, "epoch"
        return EventPosition(int(found[2]), int(found[3])), None


def _followed(wanted: EventFilter) -> AgentId | ProjectId | None:
    return wanted.agent_id if wanted.agent_id is not None else wanted.project_id


class FollowedEvents(Result):
    """A stream that is about to begin."""

    last_event_id: str
    reset: Reset | None = None
    _feed: EventFeed = PrivateAttr()
    _topic: str = PrivateAttr()

    @property
    def feed(self) -> EventFeed:
        """What the stream reads from."""
        return self._feed

    @property
    def topic(self) -> str:
        """What wakes it."""
        return self._topic


async def follow_events(app: App, caller: Caller, request: FollowEvents) -> FollowedEvents:
    """Follow what happens in a project, or to one agent, as server-sent events."""
    feed = EventFeed(app, caller, request)
    topic = await feed.topic()
    began = await feed.begin()
    followed = FollowedEvents(last_event_id=began.last_id, reset=began.reset)
    followed._feed, followed._topic = feed, topic
    return followed


class StreamPlaces:
    """Bounds how many event streams a principal holds open, within one server process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[tuple[TeamId, Principal]] = Counter()

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Hold a place while streaming; TooManyStreams when there is none."""
        holder = (caller.team_id, caller.principal)
        if self._open[holder] >= self._limit:
            raise TooManyStreams(limit=self._limit)
        self._open[holder] += 1
        try:
            yield
        finally:
            self._open[holder] -= 1
            if not self._open[holder]:
                del self._open[holder]
