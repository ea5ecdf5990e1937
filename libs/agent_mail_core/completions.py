"""Completing a name that somebody has begun to write: the names that there are, of what the caller may see.

Case is ignored, but in products' names, which differ by case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent_mail_core.errors import NotFound
from agent_mail_core.fields import Line, ProjectRef, Request
from agent_mail_core.ids import ProjectId
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import the_project
from agent_mail_core.threads import ThreadFilter

MAX_VALUES = 100
"""Of one answer, as the Model Context Protocol has it."""

POOL = 1000
"""Projects, the newest first, and threads that hold the text somewhere, the most recently used first, that are looked
through for those that begin with it. When there are as many, there may be more."""

LAST_CHARACTER = "\U0010ffff"

Completed = Literal["project", "agent", "thread", "product"]


class CompleteName(Request):
    kind: Completed
    begin: Line
    project_slug: ProjectRef | None = None


@dataclass(frozen=True, slots=True)
class Completions:
    """At most MAX_VALUES names, and whether there are more."""

    values: list[str]
    has_more: bool


async def complete_name(app: App, caller: Caller, request: CompleteName) -> Completions:
    """The names that begin so: A-Z, threads the most recently used first.

    None without the project that agents and threads are of, when there is no such project, and for what no name can be.
    """
    async with app.store.read() as db:
        match request.kind:
            case "project":
                found = await _projects(db, caller, request.begin.lower())
            case "product":
                found = await _products(db, caller, request.begin)
            case "agent" | "thread":
                found = await _of_project(db, caller, request)
    return found


def _first(names: list[str], may_be_more: bool = False) -> Completions:
    return Completions(names[:MAX_VALUES], may_be_more or len(names) > MAX_VALUES)


async def _of_project(db: Transaction, caller: Caller, request: CompleteName) -> Completions:
    if request.project_slug is None:
        return _first([])
    try:
        project = await the_project(db, caller, request.project_slug)
    except NotFound:
        return _first([])
    named = _agents if request.kind == "agent" else _threads
    return await named(db, project.id, request.begin.lower())


async def _projects(db: Transaction, caller: Caller, begin: str) -> Completions:
    slugs = await db.projects.slugs(caller.team_id, POOL)
    return _first(sorted(slug for slug in slugs if slug.startswith(begin)), len(slugs) == POOL)


async def _products(db: Transaction, caller: Caller, begin: str) -> Completions:
    rows = await db.products.page(caller.team_id, right_before(begin), MAX_VALUES + 1)
    return _first([record.name for record in rows if record.name.startswith(begin)])


async def _agents(db: Transaction, project_id: ProjectId, begin: str) -> Completions:
    rows = await db.agents.page(project_id, None, False, right_before(begin), MAX_VALUES + 1)
    return _first([record.name for record in rows if record.name.lower().startswith(begin)])


async def _threads(db: Transaction, project_id: ProjectId, begin: str) -> Completions:
    limit = POOL if begin else MAX_VALUES + 1
    rows = await db.threads.page(project_id, ThreadFilter(None, False, begin or None), None, limit)
    return _first([record.key for record in rows if record.key.lower().startswith(begin)], len(rows) == POOL)


def right_before(begin: str) -> str | None:
    """A text behind which, in order of code points, the first is one that begins so; None: all are behind it."""
    if not begin:
        return None
    last = ord(begin[-1])
    if last == 0xE000:  # below it are the surrogates, which are in no text
        last = 0xD800
    return begin[:-1] + chr(last - 1) + LAST_CHARACTER
