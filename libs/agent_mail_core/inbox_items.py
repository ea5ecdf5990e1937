"""A delivery as an inbox shows it: the row that a store reads, its form on the wire, and the way from one to the other.

A page of an inbox is what this service is asked for most, so its rows become JSON without a model each: that takes a
third of the time. The models remain what says how the JSON looks; tests hold both to equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Annotated, Any, NamedTuple, Self, cast

from pydantic import PlainSerializer

from agent_mail_core.attachments import AttachmentInfo, attachment_info
from agent_mail_core.clock import EPOCH, from_microseconds
from agent_mail_core.fields import PriorityWord, RecipientKind, Result
from agent_mail_core.ids import MessageId
from agent_mail_core.ports import Transaction


class InboxItem(NamedTuple):
    """One delivery with its message: its position, and the fields of InboxMessage.

    Times are microseconds since 1970, as making a datetime and its text takes half of the time that a page takes.
    """

    position: int
    message_id: MessageId
    thread_id: str
    """As the wire calls the thread's key; like the sender's name as the agent's project writes it."""
    parent_id: MessageId | None
    sender_name: str
    subject: str
    body_md: str | None
    kind: RecipientKind
    priority: PriorityWord
    ack_required: bool
    created: int
    read: int | None
    acknowledged: int | None
    has_attachments: bool = False
    """Asked for with the bodies only."""
    attachments: Sequence[AttachmentInfo] | None = None

    @property
    def created_at(self) -> datetime:
        return from_microseconds(self.created)

    @property
    def read_at(self) -> datetime | None:
        return from_microseconds(self.read) if self.read is not None else None

    @property
    def acknowledged_at(self) -> datetime | None:
        return from_microseconds(self.acknowledged) if self.acknowledged is not None else None


class InboxMessage(Result):
    """A message in an inbox."""

    message_id: int
    thread_id: str
    parent_id: int | None = None
    sender_name: str
    subject: str
    body_md: str | None = None
    kind: RecipientKind
    priority: PriorityWord
    ack_required: bool
    created_at: datetime
    read_at: datetime | None = None
    acknowledged_at: datetime | None = None
    attachments: list[AttachmentInfo] | None = None
    """With the body only."""


def _as_models(items: Iterable[InboxItem | InboxMessage]) -> list[InboxMessage]:
    return [InboxMessage.model_validate(item, from_attributes=True) for item in items]


class InboxMessages(Result):
    """A result that begins with messages of an inbox. Those of the use cases hold InboxItems: see `with_items`."""

    messages: Annotated[list[InboxMessage], PlainSerializer(_as_models, return_type=list[InboxMessage])]

    @classmethod
    def with_items(cls, items: list[InboxItem], **more: object) -> Self:
        """A result of rows that need no validation, as they were validated when they were stored."""
        fields: dict[str, Any] = {"messages": items, **more}
        return cast("Self", cls.model_construct(**fields))

    def to_json(self) -> bytes:
        items = cast("list[InboxItem | InboxMessage]", self.messages)
        texts = [_json(item) for item in items if isinstance(item, InboxItem)]
        if len(texts) < len(items):
            return super().to_json()
        rest = self.__pydantic_serializer__.to_json(self, exclude={"messages"}, exclude_none=True)
        return b'{"messages":[%b],%b' % (",".join(texts).encode(), rest[1:])


async def with_attachments(db: Transaction, items: list[InboxItem]) -> list[InboxItem]:
    """The items, with their attachments where they have some. Nearly always no query."""
    wanted = [item.message_id for item in items if item.has_attachments]
    if not wanted:
        return items
    found = await db.attachments.of_messages(wanted)
    files = {message_id: [attachment_info(file) for file in records] for message_id, records in found.items()}
    return [item._replace(attachments=files.get(item.message_id)) for item in items]


def _json(item: InboxItem) -> str:
    """What pydantic writes of an InboxMessage without its None."""
    (
        _,
        message_id,
        thread_id,
        parent_id,
        sender_name,
        subject,
        body_md,
        kind,
        priority,
        ack_required,
        created,
        read,
        acknowledged,
        _,
        attachments,
    ) = item
    parent = "" if parent_id is None else f'"parent_id":{parent_id},'
    body = "" if body_md is None else f'"body_md":{encode_basestring(body_md)},'
    read_at = "" if read is None else f',"read_at":"{_time(read)}"'
    acknowledged_at = "" if acknowledged is None else f',"acknowledged_at":"{_time(acknowledged)}"'
    files = (
        "" if attachments is None else f',"attachments":[{",".join(file.model_dump_json() for file in attachments)}]'
    )
    return (
        f'{{"message_id":{message_id},"thread_id":{encode_basestring(thread_id)},{parent}'
        f'"sender_name":{encode_basestring(sender_name)},"subject":{encode_basestring(subject)},{body}'
        f'"kind":"{kind}","priority":"{priority}","ack_required":{"true" if ack_required else "false"},'
        f'"created_at":"{_time(created)}"{read_at}{acknowledged_at}{files}}}'
    )


def _time(microseconds: int) -> str:
    minutes, rest = divmod(microseconds, 60_000_000)
    seconds, fraction = divmod(rest, 1_000_000)
    return f"{_minute(minutes)}{seconds:02}.{fraction:06}Z" if fraction else f"{_minute(minutes)}{seconds:02}Z"


@lru_cache(maxsize=4096)
def _minute(minutes: int) -> str:
    """`2026-11-22T17:05:`, which many rows of a page share."""
    return (EPOCH + timedelta(minutes=minutes)).isoformat()[:17]
