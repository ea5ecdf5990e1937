"""Waiting for mail: subscribe, look, wait (DESIGN 4). A wait holds no database connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pydantic import Field

from agent_mail_core.agents import acting_agent, still_acting
from agent_mail_core.cursors import inbox_cursor, open_inbox_cursor
from agent_mail_core.errors import AgentMailError
from agent_mail_core.fields import (
    AgentName,
    Cursor,
    Priority,
    PriorityRank,
    ProjectRef,
    Request,
)
from agent_mail_core.ids import AgentId
from agent_mail_core.inbox_items import InboxMessages, with_attachments
from agent_mail_core.mailboxes import InboxFilter, expect_reached, read_forward
from agent_mail_core.ports import App, Caller, Store, inbox_of, inbox_topic

LOOK_AGAIN_SECONDS = 15.0
"""A waiting call looks by itself this often; while wake-ups may get lost, `InboxWatch` looks for all of them."""

MAX_WAIT_SECONDS = 50


class WaitForMessages(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    cursor: Cursor | None = Field(
        None, description="From an earlier answer; without one the oldest unread come at once"
    )
    timeout_seconds: float = Field(25, ge=0, le=MAX_WAIT_SECONDS, strict=False)
    include_bodies: bool = False
    min_priority: Priority | None = None


class WaitedMessages(InboxMessages):
    unread_count: int
    cursor: str
    timed_out: bool


WAIT_PAGE = 20


async def wait_for_messages(app: App, caller: Caller, request: WaitForMessages) -> WaitedMessages:
    """Wait until mail arrives for your agent, then return it; empty with timed_out after timeout_seconds.

    Better than polling.
    """
    identity = app.store.identity
    deadline = asyncio.get_running_loop().time() + request.timeout_seconds
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
    agent_id = actor.agent.id
    min_priority = PriorityRank[request.min_priority] if request.min_priority else None
    position = open_inbox_cursor(identity, agent_id, request.cursor) if request.cursor is not None else None
    async with app.waiters.place(caller.team_id), app.wakeups.subscribe(inbox_topic(agent_id)) as news:
        is_first = True
        while True:
            async with app.store.read() as db:
                if position is None:
                    wanted = InboxFilter(unread_only=True, min_priority=min_priority)
                    found = await db.mailboxes.after(agent_id, 0, wanted, request.include_bodies, WAIT_PAGE)
                else:
                    wanted = InboxFilter(min_priority=min_priority)
                    found = await db.mailboxes.after(agent_id, position, wanted, request.include_bodies, WAIT_PAGE)
                if not is_first:
                    await still_acting(app, db, caller, actor)
                if position is not None:
                    expect_reached(found, position)
            is_first = False
            remaining = deadline - asyncio.get_running_loop().time()
            if found.items or remaining <= 0 or app.is_draining():
                items, covered = read_forward(found, WAIT_PAGE)
                if any(item.has_attachments for item in items):
                    async with app.store.read() as db:
                        items = await with_attachments(db, items)
                return WaitedMessages.with_items(
                    items,
                    unread_count=found.unread,
                    cursor=inbox_cursor(identity, agent_id, covered),
                    timed_out=not found.items,
                )
            # What a filter left out is covered: the next look begins behind it.
            position = found.position
            await news.wait(min(remaining, LOOK_AGAIN_SECONDS))
            app.presence.saw(agent_id)


class InboxWatch:
    """Finds mail whose wake-up may be lost: one query for all inboxes that somebody on this worker waits for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._positions: dict[AgentId, int] = {}

    async def grown(self, topics: Iterable[str]) -> list[str]:
        """Those of the topics whose inbox has grown since the last call, or was not asked for then.

        None while the database is away.
        """
        wanted = [agent_id for agent_id in map(inbox_of, topics) if agent_id is not None]
        if not wanted:
            self._positions = {}
            return []
        try:
            async with self._store.read() as db:
                found = await db.mailboxes.positions(wanted)
        except AgentMailError:
            return []
        before, self._positions = self._positions, {agent_id: found.get(agent_id, 0) for agent_id in wanted}
        return [inbox_topic(agent_id) for agent_id, at in self._positions.items() if before.get(agent_id) != at]
