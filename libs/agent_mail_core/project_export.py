"""Exporting a project: all that it holds, for people and programs, streamed page by page.

Memory stays bounded: nothing is kept but the page that is being written; and the event loop goes on: records are
scrubbed and written in a thread. Messages after the last one at the beginning are left out. Attachments come as what
they are called and how large they are; get_attachment reads their bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

from pydantic import Field, PrivateAttr

from agent_mail_core.agents import agent_result
from agent_mail_core.attachments import AttachmentRecord, attachment_info
from agent_mail_core.errors import Forbidden, ProjectNotFound
from agent_mail_core.export_formats import FORMATS, ExportFormat, Format, Kind
from agent_mail_core.fields import ProjectRef, Request, Result
from agent_mail_core.ids import AgentId, MessageId, ProjectId, ThreadId
from agent_mail_core.messages import MessageRecord, RecipientState, by_message, message_fields
from agent_mail_core.ports import App, Caller, Role, Transaction
from agent_mail_core.projects import ProjectRecord, project_result, the_project
from agent_mail_core.scrubbing import Scrubber
from agent_mail_core.threads import ThreadRecord

PAGE_ROWS = 100
MESSAGES_A_PAGE = 10
"""With bodies of up to 256 KiB each."""

BATCH_ROWS, BATCH_CHARACTERS = 50, 16 * 1024
"""Records that are written together: so many, or as soon as there is so much text."""

Section = Literal["contact", "reservation", "slot", "review"]
SECTIONS: tuple[Section, ...] = ("contact", "reservation", "slot", "review")
ExportRow = dict[str, Any]
ExportRecord = tuple[Kind, dict[str, Any]]


class ProjectExports(Protocol):
    """Store of what only exports read: everything of a project, page by page."""

    async def last_message(self, project_id: ProjectId) -> MessageId:
        """The highest id of its messages; 0 without any."""
        ...

    async def threads(self, project_id: ProjectId, last: MessageId, after: ThreadId, limit: int) -> list[ThreadRecord]:
        """By id, without those that began after the message `last`."""
        ...

    async def rows(self, section: Section, project_id: ProjectId, after: int, limit: int) -> list[ExportRow]:
        """Rows by id, which is their first column, `id`; agents and slots by name, times as datetime.

        Of slots every lease, live or not, is one row; of contacts those that either side has in the project.
        """
        ...


class ExportProject(Request):
    project_slug: ProjectRef
    format: Format = "json"
    scrub: Literal["none", "standard"] = Field(
        "none", description="standard: replaces secrets, e-mail and IP addresses, and says how many"
    )
    include_bcc: bool = Field(False, description="Who got bcc; administrators only")


class ProjectExport(Result):
    """An export that is about to be written."""

    project_slug: str
    format: Format
    media_type: str
    file_name: str
    _chunks: AsyncGenerator[bytes, None] = PrivateAttr()

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The document, to be read once. Raises when it cannot be finished: then what was read is no export."""
        return self._chunks


async def export_project(app: App, caller: Caller, request: ExportProject) -> ProjectExport:
    """Export a project: agents, threads with all messages, contacts, leases, reviews, and what files are attached."""
    if request.include_bcc and caller.role < Role.admin:
        raise Forbidden("include_bcc needs the role admin.", role=caller.role.name)
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug)
        last = await db.project_exports.last_message(project.id)
    format_type = FORMATS[request.format]
    export = ProjectExport(
        project_slug=project.slug,
        format=request.format,
        media_type=format_type.media_type,
        file_name=f"{project.slug}.{format_type.extension}",
    )
    export._chunks = _written(app, caller, request, project, last)
    return export


async def _written(
    app: App, caller: Caller, request: ExportProject, project: ProjectRecord, last: MessageId
) -> AsyncGenerator[bytes, None]:
    document = FORMATS[request.format]()
    scrubber = Scrubber() if request.scrub == "standard" else None
    about = {
        "exported_at": app.clock.now(),
        "exported_by": app.version,
        "scrub": request.scrub,
        "include_bcc": request.include_bcc,
        "last_message_id": last,
    }
    yield document.begin(about).encode()
    async with aclosing(_batches(_records(app, caller, project, last, request.include_bcc))) as batches:
        async for batch in batches:
            yield await asyncio.to_thread(_batch_written, document, scrubber, batch)
    yield document.end(dict(scrubber.replaced) if scrubber is not None else None).encode()


async def _batches(records: AsyncIterator[ExportRecord]) -> AsyncGenerator[list[ExportRecord], None]:
    batch: list[ExportRecord] = []
    characters = 0
    async for kind, record in records:
        batch.append((kind, record))
        characters += sum(len(value) for value in record.values() if isinstance(value, str))
        if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    yield batch


def _batch_written(document: ExportFormat, scrubber: Scrubber | None, batch: Sequence[ExportRecord]) -> bytes:
    """For a thread: scrubbing and writing 256 KiB, the longest body, take 50 ms."""
    pieces = [document.record(kind, scrubber.value(record) if scrubber else record) for kind, record in batch]
    return "".join(pieces).encode()


async def _still_there(db: Transaction, caller: Caller, project: ProjectRecord) -> None:
    """Deleted meanwhile, it is unknown: an export of the half that was not purged yet would look whole."""
    found = await db.projects.find(caller.team_id, project.slug)
    if found is None or found.id != project.id:
        raise ProjectNotFound(project_slug=project.slug)


async def _records(
    app: App, caller: Caller, project: ProjectRecord, last: MessageId, include_bcc: bool
) -> AsyncIterator[ExportRecord]:
    yield "project", project_result(project).model_dump()
    after_name: str | None = None
    while True:
        async with app.store.read() as db:
            await _still_there(db, caller, project)
            agents = await db.agents.page(project.id, None, True, after_name, PAGE_ROWS)
        for agent in agents:
            yield "agent", agent_result(agent).model_dump()
        if len(agents) < PAGE_ROWS:
            break
        after_name = agents[-1].name.lower()
    async for thread in _threads(app, caller, project, last):
        yield "thread", {"thread_id": thread.key, "subject": thread.subject, "created_at": thread.created_at}
        async for message in _messages(app, caller, project, thread, last, include_bcc):
            yield "message", message
    for section in SECTIONS:
        after = 0
        while True:
            async with app.store.read() as db:
                await _still_there(db, caller, project)
                rows = await db.project_exports.rows(section, project.id, after, PAGE_ROWS)
            for row in rows:
                yield section, row
            if len(rows) < PAGE_ROWS:
                break
            after = rows[-1]["id"]


async def _threads(app: App, caller: Caller, project: ProjectRecord, last: MessageId) -> AsyncIterator[ThreadRecord]:
    after = ThreadId(0)
    while True:
        async with app.store.read() as db:
            await _still_there(db, caller, project)
            threads = await db.project_exports.threads(project.id, last, after, PAGE_ROWS)
        for thread in threads:
            yield thread
        if len(threads) < PAGE_ROWS:
            return
        after = threads[-1].id


async def _messages(
    app: App, caller: Caller, project: ProjectRecord, thread: ThreadRecord, last: MessageId, include_bcc: bool
) -> AsyncIterator[dict[str, Any]]:
    after = MessageId(0)
    while True:
        async with app.store.read() as db:
            await _still_there(db, caller, project)
            page = await db.messages.of_thread(thread.id, after, True, MESSAGES_A_PAGE)
            ids = [record.id for record in page]
            states = by_message(await db.messages.recipients(ids))
            files = await db.attachments.of_messages(ids)
        for record in page:
            if record.id <= last:
                yield _message(record, states.get(record.id, []), files.get(record.id, []), include_bcc)
        if len(page) < MESSAGES_A_PAGE or page[-1].id > last:
            return
        after = page[-1].id


def _message(
    record: MessageRecord, states: list[RecipientState], files: list[AttachmentRecord], include_bcc: bool
) -> dict[str, Any]:
    viewer: AgentId | None = record.sender_id if include_bcc else None  # who alone sees all recipients
    fields = message_fields(record, states, viewer)
    recipients = [recipient.model_dump(exclude_none=True) for recipient in fields["recipients"]]
    attachments = [attachment_info(file).model_dump() for file in files]
    return {**fields, "recipients": recipients, "attachments": attachments}
