"""Projects: what agents of one code base share. A project is known by its human key; its slug is how URLs name it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import ProjectNotFound, SlugTaken
from agent_mail_core.events import NewEvent
from agent_mail_core.fields import Cursor, Description, HumanKey, Line, PageSize, Request, Result, Slug
from agent_mail_core.ids import ProjectId, TeamId
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.slugs import RESERVED_SLUGS, project_slug
from agent_mail_core.suggestions import near_names

NEAR_NAME_POOL = 1000
"""How many existing names are looked through for a near one."""


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project as stored."""

    id: ProjectId
    team_id: TeamId
    slug: str
    human_key: str
    description: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ProjectCounts:
    """How much a project holds. Retired and service agents are not counted."""

    agents: int
    messages: int
    threads: int


class Projects(Protocol):
    """Store of projects."""

    async def ensure(
        self, team_id: TeamId, human_key: str, slugs: Sequence[str], is_explicit: bool, description: str | None
    ) -> tuple[ProjectRecord, bool]:
        """The team's project of that key and whether this call made it, under the first of `slugs` that is free.

        Atomic: of callers racing with one key, one makes it and all get the same. A slug is free when no project has it
        as its slug, nor another one as its human key: `find` takes either, and whoever goes by that key must not be led
        elsewhere. When none is free, and when a new key is the slug of another project: SlugTaken. An existing project
        keeps its slug (an explicit one that another project holds is still SlugTaken) and takes a description that is
        not None. A new one has the agents of `agents.SERVICE_POLICIES`, each with a mailbox.
        """
        ...

    async def find(self, team_id: TeamId, ref: str) -> ProjectRecord | None:
        """By slug, else by human key."""
        ...

    async def page(
        self, team_id: TeamId, query: str | None, after_slug: str | None, limit: int
    ) -> list[tuple[ProjectRecord, ProjectCounts]]:
        """In order of slug, those after `after_slug`.

        `query` is a piece of slug or key, ignoring ASCII case, no wildcards.
        """
        ...

    async def counts(self, project_id: ProjectId) -> ProjectCounts:
        """Of one project."""
        ...

    async def slugs(self, team_id: TeamId, limit: int) -> list[str]:
        """Some of the team's slugs, newest projects first."""
        ...


def key_is_slug(human_key: str) -> SlugTaken:
    """The error for a new key that another project has as its slug."""
    return SlugTaken(
        f"Another project goes by the name {human_key!r}: it is its slug.",
        slug=human_key,
        suggestion="give that project's own human_key, which list_projects shows, or choose another human_key",
    )


def normal_ref(ref: str) -> str:
    """A project reference as keys are stored."""
    return unicodedata.normalize("NFC", ref).rstrip("/") or "/"


async def project_not_found(db: Transaction, caller: Caller, ref: str) -> ProjectNotFound:
    """The error for an unknown project, with the names that it may have meant."""
    near = near_names(ref, await db.projects.slugs(caller.team_id, NEAR_NAME_POOL))
    suggestion = "list_projects" if near else "ensure_project"
    return ProjectNotFound(f"There is no project {ref!r}.", project_slug=ref, near=near or None, suggestion=suggestion)


async def the_project(db: Transaction, caller: Caller, ref: str) -> ProjectRecord:
    """The caller's project of that slug or key, or ProjectNotFound."""
    project = await db.projects.find(caller.team_id, normal_ref(ref))
    if project is None:
        raise await project_not_found(db, caller, ref)
    return project


# --- results ----------------------------------------------------------------------------------------------------------


class Project(Result):
    """A project."""

    slug: str
    human_key: str
    description: str | None = None
    created_at: datetime


class ProjectListing(Project):
    """A project with what it holds."""

    agent_count: int
    message_count: int


def project_result(record: ProjectRecord) -> Project:
    """A stored project as the wire shows it."""
    return Project(
        slug=record.slug, human_key=record.human_key, description=record.description, created_at=record.created_at
    )


# --- ensure_project ---------------------------------------------------------------------------------------------------


class EnsureProject(Request):
    human_key: HumanKey
    slug: Slug | None = Field(None, description="Short name for URLs if the project is new; else made from the key")
    description: Description | None = None

    @field_validator("slug")
    @classmethod
    def _not_reserved(cls, slug: str | None) -> str | None:
        if slug in RESERVED_SLUGS:
            raise PydanticCustomError("reserved_name", "this slug is reserved")
        return slug


class EnsuredProject(Result):
    project: Project
    created: bool


async def ensure_project(app: App, caller: Caller, request: EnsureProject) -> EnsuredProject:
    """Get the project of a key, making it if it is new. Call this first; agents of one repository use the same key."""
    async with app.store.write() as db:
        record, created = await ensure_in(db, caller, request)
    return EnsuredProject(project=project_result(record), created=created)


async def ensure_in(db: Transaction, caller: Caller, request: EnsureProject) -> tuple[ProjectRecord, bool]:
    """The project, and whether it was made. Raises SlugTaken."""
    slugs = [request.slug] if request.slug else [project_slug(request.human_key), project_slug(request.human_key, True)]
    record, created = await db.projects.ensure(
        caller.team_id, request.human_key, slugs, request.slug is not None, request.description
    )
    if created:
        await db.events.add(NewEvent("project.created", caller.team_id, record.id, data={"slug": record.slug}))
    return record, created


# --- list_projects ----------------------------------------------------------------------------------------------------


class ListProjects(Request):
    query: Line | None = Field(None, max_length=200, description="Piece of a slug or key")
    limit: PageSize = 20
    cursor: Cursor | None = None


class ProjectPage(Result):
    projects: list[ProjectListing]
    next_cursor: str | None = None


async def list_projects(app: App, caller: Caller, request: ListProjects) -> ProjectPage:
    """List projects A-Z with how many agents and messages they have."""
    scope = list_scope("list_projects", caller.team_id, request.query)
    last = open_list_cursor(app.store.identity, scope, request.cursor, str)
    async with app.store.read() as db:
        rows = await db.projects.page(caller.team_id, request.query, str(last[0]) if last else None, request.limit + 1)
    page = rows[: request.limit]
    return ProjectPage(
        projects=[
            ProjectListing(
                **project_result(record).model_dump(), agent_count=counts.agents, message_count=counts.messages
            )
            for record, counts in page
        ],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1][0].slug]) if len(rows) > len(page) else None,
    )
