"""Deleting a project: at once it is unknown, and its names are free; its rows go later, in small steps.

What lives in other projects stays whole: an agent that wrote or was written to elsewhere, or whose file is linked
there, remains as a name in that mail.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Protocol

from agent_mail_core.errors import ProjectNotFound
from agent_mail_core.event_feed import events_topic
from agent_mail_core.events import NewEvent
from agent_mail_core.fields import ProjectRef, Request, Result
from agent_mail_core.ids import ProjectId
from agent_mail_core.leases import leases_topic
from agent_mail_core.ports import App, Caller, inbox_topics
from agent_mail_core.projects import the_project

PURGE_ROWS = 1000
WAITING_AGENTS = 1000
"""How many agents' waits a deletion ends at once; those of others end when they look again."""


class ProjectDeletions(Protocol):
    """Store of projects on their way out."""

    async def delete(self, project_id: ProjectId, slug: str, human_key: str) -> datetime | None:
        """Mark it deleted, and give it these names in place of its own; when, or None if it was deleted before.

        In the same transaction its agents retire and lose their contacts, its products lose it, and inboxes of other
        projects lose its messages: deliveries, positions' counts of unread ones, all but the positions themselves.
        Raises ProjectOnHold, with nothing changed, when it is on legal hold.
        """
        ...

    async def unpurged(self, is_archived: bool, limit: int) -> list[ProjectId]:
        """Deleted projects of which there is something left to purge, the oldest first.

        `is_archived`: only those of which everything is in the archive.
        """
        ...

    async def purge_step(self, project_id: ProjectId, limit: int) -> int:
        """Remove or empty rows of a deleted project, about `limit` of them; how many. After 0 it is `unpurged` no more.

        What is left then: the project's row and its event project.deleted, and its agents, retired and empty, with
        their names only where other projects' mail shows them. Safe to run on several workers, and after a crash.
        """
        ...


class DeleteProject(Request):
    project_slug: ProjectRef


class DeletedProject(Result):
    slug: str
    human_key: str
    deleted_at: datetime


async def delete_project(app: App, caller: Caller, request: DeleteProject) -> DeletedProject:
    """Delete a project with all its mail, at once and for good. Its slug and key are free again."""
    async with app.store.write() as db:
        project = await the_project(db, caller, request.project_slug)
        agents = await db.agents.recent(project.id, WAITING_AGENTS)
        # Names that nobody can give (no slug begins with a hyphen, no key holds a control character), nor guess.
        token = f"-deleted-{secrets.token_hex(16)}"
        deleted_at = await db.project_deletions.delete(project.id, token, f"\x01{token}")
        if deleted_at is None:
            raise ProjectNotFound(project_slug=request.project_slug, suggestion="list_projects")
        await db.events.add(NewEvent("project.deleted", caller.team_id, project.id, data={"slug": project.slug}))
    inboxes = inbox_topics([agent.id for agent in agents])
    await app.wakeups.publish([events_topic(project.id), leases_topic(project.id), *inboxes])
    return DeletedProject(slug=project.slug, human_key=project.human_key, deleted_at=deleted_at)


async def sweep_deleted(app: App, steps: int = 10) -> int:
    """Purge deleted projects, in at most so many steps of PURGE_ROWS rows, each a transaction; how many rows went."""
    removed = 0
    async with app.store.read() as db:
        waiting = await db.project_deletions.unpurged(app.archive is not None, steps)
    for project_id in waiting:
        gone = 1
        while gone and steps > 0:
            async with app.store.write() as db:
                gone = await db.project_deletions.purge_step(project_id, PURGE_ROWS)
            removed += gone
            steps -= 1
    return removed
