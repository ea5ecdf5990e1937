"""Attachments: files that agents store and link to messages (SPEC §2).

Bytes are stored once a team, in the database, so that every worker sees them and a backup holds them. Before it is
linked an attachment is its uploader's alone; afterwards whoever may read a message that it is linked to may read it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from agent_mail_core.agents import acting_agent
from agent_mail_core.attachment_errors import (
    AttachmentNotFound,
    AttachmentsTooLarge,
    AttachmentTooLarge,
    TooManyAttachments,
)
from agent_mail_core.errors import AgentRetired
from agent_mail_core.fields import AgentName, IdempotencyKey, Line, ProjectRef, Request, Result
from agent_mail_core.file_names import media_type_of, safe_file_name
from agent_mail_core.idempotency import IdempotencyScope, check_same, fingerprint
from agent_mail_core.ids import AgentId, AttachmentId, MessageId, Principal, ProjectId, TeamId
from agent_mail_core.ports import App, Caller, Role, Transaction

MIB = 1024 * 1024
LARGEST = 10 * MIB
LARGEST_A_MESSAGE = 25 * MIB
MOST_A_MESSAGE = 20
TEAM_QUOTA = 1024 * MIB
UNLINKED_KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """A file to store."""

    public_id: str
    team_id: TeamId
    project_id: ProjectId
    uploader_id: AgentId
    file_name: str
    media_type: str
    sha256: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """An attachment as stored, without its bytes."""

    id: AttachmentId
    public_id: str
    project_id: ProjectId
    uploader_id: AgentId
    uploader_owner: Principal
    file_name: str
    media_type: str
    size: int
    sha256: bytes
    created_at: datetime
    is_linked: bool
    """To a message of a project that is not deleted."""


class Attachments(Protocol):
    """Store of attachments and their bytes. Those of a deleted project, not linked elsewhere, are not found."""

    async def add(self, new: NewAttachment, quota: int) -> AttachmentRecord:
        """Store the file; bytes that the team has already are not stored again.

        Atomic: of callers racing on any replica, only as many store as the team's `quota` of bytes has room for, the
        others get StorageQuotaExceeded.
        """
        ...

    async def find(self, team_id: TeamId, public_ids: Sequence[str]) -> list[AttachmentRecord]:
        """Those of these that there are, in the order asked for."""
        ...

    async def content(self, attachment_id: AttachmentId) -> bytes | None:
        """The bytes; None when it has gone meanwhile."""
        ...

    async def linkable(self, agent_id: AgentId, public_ids: Sequence[str]) -> list[AttachmentRecord]:
        """Those of these that this agent may link to what it sends, in the order asked for.

        Its own, and what is linked to a message that it sent or received. Holds them, so that they are not swept away
        before this transaction ends.
        """
        ...

    async def link(self, message_id: MessageId, attachment_ids: Sequence[AttachmentId]) -> None:
        """Link them to a message of this transaction, in this order."""
        ...

    async def of_messages(self, message_ids: Sequence[MessageId]) -> dict[MessageId, list[AttachmentRecord]]:
        """What is linked to these messages, in order; messages without are left out. One query."""
        ...

    async def remove_unlinked(self, uploaded_before: timedelta, limit: int) -> int:
        """Remove attachments, at most `limit`, that are linked to nothing and older; how many.

        Bytes that nothing refers to any more go too, and no longer count against their team's quota. An upload of the
        same bytes at the same time is safe.
        """
        ...


# --- fields -----------------------------------------------------------------------------------------------------------


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value  # bytes, from an upload that is no JSON
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError("base64", "must be base64 (RFC 4648, with padding)") from None


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


_BASE64 = {"type": "string", "contentEncoding": "base64"}
Base64In = Annotated[bytes, BeforeValidator(_decoded), WithJsonSchema(_BASE64)]
Base64Out = Annotated[bytes, PlainSerializer(_encoded, when_used="json"), WithJsonSchema(_BASE64)]
PublicId = Annotated[Line, Field(min_length=1, max_length=64)]


def _distinct(ids: list[str]) -> list[str]:
    if len(set(ids)) != len(ids):
        raise PydanticCustomError("twice", "names an attachment twice")
    return ids


AttachmentIds = Annotated[
    list[PublicId],
    Field(max_length=MOST_A_MESSAGE, description="From add_attachment"),
    AfterValidator(_distinct),
]
"""The field `attachment_ids` of whatever sends."""


# --- results ----------------------------------------------------------------------------------------------------------


class AttachmentInfo(Result):
    """A file, as a message shows it."""

    attachment_id: str
    file_name: str
    media_type: str
    size: int


def attachment_info(record: AttachmentRecord) -> AttachmentInfo:
    """A stored attachment as the wire shows it."""
    return AttachmentInfo(
        attachment_id=record.public_id, file_name=record.file_name, media_type=record.media_type, size=record.size
    )


# --- the rule of linking ----------------------------------------------------------------------------------------------


def check_linked(wanted: Sequence[str], found: Sequence[AttachmentRecord]) -> list[AttachmentId]:
    """What `Attachments.linkable` found of the wanted, if it may all go with one message.

    Raises AttachmentNotFound, which names the first that is missing, TooManyAttachments, AttachmentsTooLarge.
    """
    by_id: Mapping[str, AttachmentRecord] = {record.public_id: record for record in found}
    for public_id in wanted:
        if public_id not in by_id:
            raise attachment_not_found(public_id)
    if len(wanted) > MOST_A_MESSAGE:
        raise TooManyAttachments(limit=MOST_A_MESSAGE)
    size = sum(by_id[public_id].size for public_id in wanted)
    if size > LARGEST_A_MESSAGE:
        raise AttachmentsTooLarge(limit=LARGEST_A_MESSAGE, size=size)
    return [by_id[public_id].id for public_id in wanted]


def attachment_not_found(public_id: str) -> AttachmentNotFound:
    """The error for an attachment that is not there, or not for this caller."""
    return AttachmentNotFound(attachment_id=public_id, suggestion="add_attachment")


# --- add_attachment ---------------------------------------------------------------------------------------------------


class AddAttachment(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    file_name: Line = Field(min_length=1, max_length=1024)
    content_base64: Base64In = Field(description="At most 10 MiB; over MCP about 700 KiB, more by REST")
    media_type: Line | None = Field(None, max_length=127, description="Else judged by name and content")
    idempotency_key: IdempotencyKey | None = None


class AddedAttachment(AttachmentInfo):
    sha256: str
    created_at: datetime
    replayed: bool = False


async def add_attachment(app: App, caller: Caller, request: AddAttachment) -> AddedAttachment:
    """Store a file, then link it to a message with attachment_ids. Unlinked after 24 hours it is removed."""
    content = request.content_base64
    if len(content) > LARGEST:
        raise AttachmentTooLarge(limit=LARGEST, size=len(content))
    file_name = safe_file_name(request.file_name)
    sha256, media_type = await asyncio.to_thread(_looked_at, request.media_type, file_name, content)
    asked = fingerprint(request, sha256, without=["content_base64"])
    async with app.store.write() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        if actor.agent.retired_at is not None:
            raise AgentRetired(agent_name=actor.agent.name, suggestion="register_agent")
        scope = None
        if request.idempotency_key is not None:
            scope = IdempotencyScope(
                caller.team_id, caller.principal, actor.agent.id, "add_attachment", request.idempotency_key
            )
            answer = await db.idempotency.take(scope, asked)
            if answer is not None:
                stored = AddedAttachment.model_validate_json(check_same(answer, asked))
                return stored.model_copy(update={"replayed": True})
        record = await db.attachments.add(
            NewAttachment(
                public_id=secrets.token_hex(16),
                team_id=caller.team_id,
                project_id=actor.project.id,
                uploader_id=actor.agent.id,
                file_name=file_name,
                media_type=media_type,
                sha256=sha256,
                content=content,
            ),
            TEAM_QUOTA,
        )
        added = AddedAttachment(
            **attachment_info(record).model_dump(), sha256=record.sha256.hex(), created_at=record.created_at
        )
        if scope is not None:
            await db.idempotency.keep(scope, added.model_dump_json())
    return added


def _looked_at(declared: str | None, file_name: str, content: bytes) -> tuple[bytes, str]:
    """Digest and media type; of 10 MiB they take 20 ms, for which the event loop has no time."""
    return hashlib.sha256(content).digest(), media_type_of(declared, file_name, content)


# --- get_attachment ---------------------------------------------------------------------------------------------------


class GetAttachment(Request):
    attachment_id: PublicId


class AttachmentContent(AttachmentInfo):
    sha256: str
    content_base64: Base64Out
    """The bytes; base64 in JSON, a download over REST."""


async def get_attachment(app: App, caller: Caller, request: GetAttachment) -> AttachmentContent:
    """Read a file that is linked to a message, or that you uploaded; over MCP at most 700 KiB, more by REST."""
    async with app.store.read() as db:
        record = await the_attachment(db, caller, request.attachment_id)
        content = await db.attachments.content(record.id)
    if content is None:
        raise attachment_not_found(request.attachment_id)
    return AttachmentContent(**attachment_info(record).model_dump(), sha256=record.sha256.hex(), content_base64=content)


async def the_attachment(db: Transaction, caller: Caller, public_id: str) -> AttachmentRecord:
    """The attachment, if the caller may read it; else AttachmentNotFound, as if there were none."""
    found = await db.attachments.find(caller.team_id, [public_id])
    if not found or not may_read(caller, found[0]):
        raise attachment_not_found(public_id)
    return found[0]


def may_read(caller: Caller, attachment: AttachmentRecord) -> bool:
    """Whether this caller may read it: mail is open to all readers of its project."""
    return attachment.is_linked or attachment.uploader_owner == caller.principal or caller.role >= Role.admin


# --- the sweep --------------------------------------------------------------------------------------------------------


async def sweep_unlinked(app: App, limit: int = 100) -> int:
    """Remove what was uploaded and linked to no message for 24 hours; how many. Call again until it is less."""
    async with app.store.write() as db:
        return await db.attachments.remove_unlinked(UNLINKED_KEPT, limit)
