"""Looking into a project's archive: its log, and a file, a thread or an inbox as it was.

Whoever may read the project may read its archive; there is no bcc in it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from agent_mail_core.agents import the_agent
from agent_mail_core.archive import ArchivedFile, ArchivePlace, ArchiveReader
from agent_mail_core.archive_errors import ArchivePathNotFound, ArchiveUnavailable
from agent_mail_core.archive_names import agent_folder, thread_path
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import ProjectNotFound
from agent_mail_core.fields import AgentName, Cursor, Line, PageSize, ProjectRef, Request, Result, Timestamp
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project


def _path(path: str) -> str:
    normal = path.strip("/")
    if any(part in ("", ".", "..") for part in normal.split("/")) and normal:
        raise PydanticCustomError("path", "must be a path below the archive's root, without . and ..")
    return normal


ArchivePath = Annotated[Line, Field(max_length=1024), AfterValidator(_path)]


# --- archive_log ------------------------------------------------------------------------------------------------------


class ArchiveLog(Request):
    project_slug: ProjectRef
    path: ArchivePath | None = Field(None, description="Only commits that changed this file or folder")
    until: Timestamp | None = Field(None, description="Nothing after this time")
    limit: PageSize = 20
    cursor: Cursor | None = None


class ArchiveCommit(Result):
    commit: str
    committed_at: datetime
    author: str
    subject: str
    event_count: int


class ArchiveCommits(Result):
    commits: list[ArchiveCommit]
    next_cursor: str | None = None
    """There may be more behind it even when this page is short: a search looks at some thousand commits at a time."""


async def archive_log(app: App, caller: Caller, request: ArchiveLog) -> ArchiveCommits:
    """List the commits of the project's git archive, newest first."""
    archive, place = await _place(app, caller, request.project_slug)
    scope = list_scope("archive_log", caller.team_id, place.project_id, request.path, request.until)
    last = open_list_cursor(app.store.identity, scope, request.cursor, str)
    path = await _found_path(app, place, request.path)
    found = await archive.log(place, last[0] if last else None, path, request.until, request.limit)
    return ArchiveCommits(
        commits=[
            ArchiveCommit(
                commit=commit.commit,
                committed_at=commit.committed_at,
                author=commit.author,
                subject=commit.subject,
                event_count=commit.event_count,
            )
            for commit in found.commits
        ],
        next_cursor=list_cursor(app.store.identity, scope, [found.next_commit]) if found.next_commit else None,
    )


# --- archive_show -----------------------------------------------------------------------------------------------------


class ArchiveShow(Request):
    project_slug: ProjectRef
    commit: str | None = Field(None, pattern="^[0-9a-f]{7,40}$", description="From archive_log; else the newest")
    at: Timestamp | None = Field(None, description="As of this time")
    path: ArchivePath | None = Field(None, description="File or folder, such as threads/feat-1.md; else the root")
    inbox_of: AgentName | None = Field(None, description="An agent's inbox instead")
    limit: PageSize = 20
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> ArchiveShow:
        if self.commit is not None and self.at is not None:
            raise PydanticCustomError("both", "give commit or at, not both")
        if self.path is not None and self.inbox_of is not None:
            raise PydanticCustomError("both", "give path or inbox_of, not both")
        return self


class ArchiveEntry(Result):
    name: str
    kind: Literal["file", "folder", "link"]


class ArchiveMail(Result):
    message_id: int
    path: str
    sender_name: str
    subject: str
    thread_id: str
    created_at: datetime
    read_at: datetime | None = None
    acknowledged_at: datetime | None = None


class ArchiveView(Result):
    commit: str | None = None
    """None: nothing was archived yet."""
    committed_at: datetime | None = None
    kind: Literal["file", "folder", "inbox"]
    path: str
    text: str | None = None
    size: int | None = None
    """Bytes of a file; text is left out where it is none, or is too long."""
    entries: list[ArchiveEntry] | None = None
    messages: list[ArchiveMail] | None = None
    """Newest first."""
    next_cursor: str | None = None


async def archive_show(app: App, caller: Caller, request: ArchiveShow) -> ArchiveView:
    """Show a file or folder of the project's git archive, or an agent's inbox, as of a commit or a time."""
    archive, place = await _place(app, caller, request.project_slug)
    scope = list_scope(
        "archive_show", caller.team_id, place.project_id, request.commit, request.at, request.path, request.inbox_of
    )
    last = open_list_cursor(app.store.identity, scope, request.cursor, str)
    after = last[0] if last else None
    if request.inbox_of is not None:
        view, next_name = await _inbox(app, caller, archive, place, request, after)
    else:
        path = await _found_path(app, place, request.path) or ""
        found = await archive.show(place, request.commit, request.at, path, after, request.limit)
        if found is None and not path:
            return ArchiveView(kind="folder", path="", entries=[])
        if found is None:
            raise ArchivePathNotFound(path=path, suggestion="archive_show without path")
        view, next_name = _view(found), found.entries[-1].name if found.has_more else None
    if next_name is None:
        return view
    return view.model_copy(update={"next_cursor": list_cursor(app.store.identity, scope, [next_name])})


def _view(found: ArchivedFile) -> ArchiveView:
    if found.size is None:
        entries = [ArchiveEntry(name=entry.name, kind=entry.kind) for entry in found.entries]
        return ArchiveView(
            commit=found.commit, committed_at=found.committed_at, kind="folder", path=found.path, entries=entries
        )
    return ArchiveView(
        commit=found.commit,
        committed_at=found.committed_at,
        kind="file",
        path=found.path,
        text=found.text,
        size=found.size,
    )


async def _inbox(
    app: App, caller: Caller, archive: ArchiveReader, place: ArchivePlace, request: ArchiveShow, below: str | None
) -> tuple[ArchiveView, str | None]:
    async with app.store.read() as db:
        agent = (await the_agent(db, caller, request.project_slug, request.inbox_of or "")).agent
    folder = agent_folder(agent.name, place.project_id, place.slug, place.project_id)
    found = await archive.inbox(place, folder, request.commit, request.at, below, request.limit)
    if found is None:
        return ArchiveView(kind="inbox", path=f"{folder}/inbox", messages=[]), None
    messages = [
        ArchiveMail(
            message_id=mail.message_id,
            path=mail.path,
            sender_name=mail.sender_name,
            subject=mail.subject,
            thread_id=mail.thread_id,
            created_at=mail.created_at,
            read_at=mail.read_at,
            acknowledged_at=mail.acknowledged_at,
        )
        for mail in found.mail
    ]
    view = ArchiveView(
        commit=found.commit, committed_at=found.committed_at, kind="inbox", path=f"{folder}/inbox", messages=messages
    )
    return view, found.next_name


async def _found_path(app: App, place: ArchivePlace, path: str | None) -> str | None:
    """The path itself, but that `threads/KEY.md` finds a thread without its month."""
    key = re.fullmatch(r"threads/([^/]+)\.md", path or "")
    if key is None:
        return path
    async with app.store.read() as db:
        thread = await db.threads.find(place.project_id, key[1])
    return thread_path(thread.key, thread.id, thread.created_at) if thread is not None else path


async def _place(app: App, caller: Caller, project_ref: str) -> tuple[ArchiveReader, ArchivePlace]:
    archive = app.archive_reader or app.archive
    if archive is None:
        raise ArchiveUnavailable("This server keeps no archive.")
    async with app.store.read() as db:
        project = await the_project(db, caller, project_ref)
        place = await db.archives.place(project.id)
    if place is None:
        raise ProjectNotFound(project_slug=project_ref)
    return archive, place
