"""Watching inboxes and projects: what a subscription needs to know, and whether an inbox has grown since.

A mailbox's position grows with each delivery and with nothing else, so two equal positions mean that no mail came.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent_mail_core.agents import acting_agent
from agent_mail_core.event_feed import events_topic
from agent_mail_core.fields import AgentName, ProjectRef, Request
from agent_mail_core.ids import AgentId
from agent_mail_core.leases import leases_topic
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project


class WatchInbox(Request):
    project_slug: ProjectRef
    agent_name: AgentName


@dataclass(frozen=True, slots=True)
class WatchedInbox:
    """An inbox and its mailbox's highest position."""

    agent_id: AgentId
    position: int


async def watch_inbox(app: App, caller: Caller, request: WatchInbox) -> WatchedInbox:
    """The inbox of an agent as which the caller may act, as it is now."""
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        agent_id = actor.agent.id
        found = await db.mailboxes.positions([agent_id])
    return WatchedInbox(agent_id, found.get(agent_id, 0))


async def inbox_positions(app: App, agent_ids: Collection[AgentId]) -> dict[AgentId, int]:
    """The positions of inboxes that somebody watches, in one query; none of what is gone.

    Notes that their agents are active.
    """
    for agent_id in agent_ids:
        app.presence.saw(agent_id)
    async with app.store.read() as db:
        return await db.mailboxes.positions(list(agent_ids))


class WatchProject(Request):
    project_slug: ProjectRef


async def project_topics(app: App, caller: Caller, request: WatchProject) -> tuple[str, ...]:
    """The wake-up topics of what happens in a project.

    Not all that happens wakes anybody: for that `project_watch` does, within a second. What runs out is not an event
    before somebody has closed it: look from time to time.
    """
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
    return (events_topic(project.id), leases_topic(project.id))
