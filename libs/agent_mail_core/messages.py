"""Messages: sending, replying, reading one, and what an agent sent.

`decide` is the one rule for who gets a message. The store runs it inside the delivering transaction on facts that it read
there, so that no worker delivers on what was true a moment ago. A bcc is known to the sender and to its recipient only.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from agent_mail_core.agents import NEAR_NAME_POOL, AgentRecord, acting_agent, agent_not_found
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import (
    AgentMailError,
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    BccReplyAll,
    DuplicateRecipient,
    MessageNotFound,
    NoRecipients,
    ProjectNotFound,
    RecipientsRefused,
    RecipientsUnknown,
    ThreadMismatch,
)
from agent_mail_core.fields import (
    RECIPIENT_KINDS,
    Address,
    AgentName,
    Body,
    Cursor,
    Id,
    IdempotencyKey,
    PageSize,
    Priority,
    PriorityWord,
    ProjectRef,
    RecipientKind,
    Request,
    Result,
    Subject,
    ThreadKey,
)
from agent_mail_core.idempotency import IdempotencyScope, StoredAnswer, check_same, fingerprint
from agent_mail_core.ids import AgentId, MessageId, Principal, ProjectId, TeamId, ThreadId
from agent_mail_core.ports import App, Caller, Role, inbox_topics
from agent_mail_core.projects import ProjectRecord, normal_ref, project_not_found, the_project
from agent_mail_core.search_text import IndexedText, index_text
from agent_mail_core.suggestions import near_names

MAX_RECIPIENTS = 100
SUBJECT_LENGTH = 200
LONG_BODY = 8 * 1024
"""Characters past which a body is split into words on a thread, so that it does not hold up the event loop."""


# --- what the store and the rule speak of -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A send or reply that is right in itself and has yet to be decided against the database."""

    team_id: TeamId
    principal: Principal
    is_admin: bool
    operation: Literal["send_message", "reply_message"]
    project_ref: str
    sender_name: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    subject: str | None
    """None: a reply, whose subject comes from its parent."""
    body_md: str
    body_index: IndexedText
    thread_key: str | None
    parent_id: MessageId | None
    reply_all: bool
    priority: PriorityWord | None
    ack_required: bool
    allow_partial: bool
    idempotency_key: str | None
    fingerprint: bytes

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that are named, in order."""
        return (*self.to, *self.cc, *self.bcc)

    @property
    def names(self) -> set[str]:
        """Lower-cased names of every agent that the rule needs: sender and recipients, without `@slug`."""
        return {self.sender_name.lower(), *(address.partition("@")[0].lower() for address in self.addresses)}


@dataclass(frozen=True, slots=True)
class Parent:
    """The message that a send answers."""

    id: MessageId
    project_id: ProjectId
    thread_id: ThreadId
    thread_key: str
    subject: str
    priority: PriorityWord
    sender: AgentRecord
    recipients: tuple[tuple[AgentRecord, RecipientKind], ...]
    """In the order they were given."""


@dataclass(frozen=True, slots=True)
class SendFacts:
    """What the database says about an Outgoing, read in the delivering transaction."""

    project: ProjectRecord | None
    agents: Mapping[str, AgentRecord]
    """The project's agents of `Outgoing.names`, by lower-cased name."""
    parent: Parent | None
    """The team's message of `parent_id`."""
    answer: StoredAnswer | None
    """What is stored under the idempotency key; None when it is free and now held."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that may be stored: everything but its id, its time and its positions."""

    team_id: TeamId
    project_id: ProjectId
    sender: AgentRecord
    thread_id: ThreadId | None
    """An existing thread; None: the thread of `thread_key`, made if it is new."""
    thread_key: str
    parent_id: MessageId | None
    subject: str
    body_md: str
    priority: PriorityWord
    ack_required: bool
    recipients: tuple[tuple[AgentRecord, RecipientKind], ...]
    skipped: tuple[Skipped, ...]
    index: IndexedText
    scope: IdempotencyScope | None
    fingerprint: bytes

    @property
    def visible_recipients(self) -> tuple[AgentRecord, ...]:
        """Those that everyone may know of."""
        return tuple(agent for agent, kind in self.recipients if kind != "bcc")

    @property
    def event_data(self) -> dict[str, Any]:
        """What the message.sent event says; no bcc."""
        return {
            "thread_id": self.thread_key,
            "sender": self.sender.name,
            "to": [agent.name for agent, kind in self.recipients if kind == "to"],
            "cc": [agent.name for agent, kind in self.recipients if kind == "cc"],
        }

    def sent(self, message_id: MessageId, thread_key: str, created_at: datetime) -> SentMessage:
        """The answer, once the store has given the message its id; `thread_key` as the thread spells it."""
        return SentMessage(
            message_id=message_id,
            thread_id=thread_key,
            created_at=created_at,
            deliveries=[Recipient(name=agent.name, kind=kind) for agent, kind in self.recipients],
            skipped=list(self.skipped),
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """A committed answer and whose inboxes have news."""

    sent: SentMessage
    mailboxes: tuple[AgentId, ...] = ()


@dataclass(frozen=True, slots=True)
class RecipientState:
    """One recipient of a message."""

    message_id: MessageId
    agent_id: AgentId
    name: str
    kind: RecipientKind
    read_at: datetime | None
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message as stored."""

    id: MessageId
    team_id: TeamId
    project_id: ProjectId
    project_slug: str
    thread_id: ThreadId
    thread_key: str
    parent_id: MessageId | None
    sender_id: AgentId
    sender_name: str
    subject: str
    body_md: str | None
    """None when the bodies were not asked for."""
    priority: PriorityWord
    ack_required: bool
    created_at: datetime


class Messages(Protocol):
    """Store of messages. Sends go through `Store.deliver`."""

    async def get(self, team_id: TeamId, message_id: MessageId) -> MessageRecord | None:
        """A message of the team, with its body."""
        ...

    async def recipients(self, message_ids: Sequence[MessageId]) -> list[RecipientState]:
        """All recipients of these messages, bcc included, in the order they were given, message by message."""
        ...

    async def sent_by(
        self, agent_id: AgentId, before: MessageId | None, with_bodies: bool, limit: int
    ) -> list[MessageRecord]:
        """What an agent sent, newest first, below the id `before`."""
        ...

    async def of_thread(
        self, thread_id: ThreadId, after: MessageId | None, with_bodies: bool, limit: int
    ) -> list[MessageRecord]:
        """A thread's messages, oldest first, above the id `after`. A message that commits later has a higher id."""
        ...

    async def newest_of_thread(self, thread_id: ThreadId, limit: int) -> list[MessageRecord]:
        """A thread's last messages without bodies, newest first."""
        ...


# --- the rule ---------------------------------------------------------------------------------------------------------


def idempotency_scope(send: Outgoing, sender: AgentRecord) -> IdempotencyScope | None:
    """Whose key a send's key is; None without one."""
    if send.idempotency_key is None:
        return None
    return IdempotencyScope(send.team_id, send.principal, sender.id, send.operation, send.idempotency_key)


def decide(send: Outgoing, facts: SendFacts) -> Draft | SentMessage:
    """What to store for a send, or what was answered under its idempotency key before.

    Raises the rule that forbids it: ProjectNotFound, AgentNotFound, AgentNotYours, AgentRetired, IdempotencyConflict,
    MessageNotFound, ThreadMismatch, BccReplyAll, DuplicateRecipient, RecipientsUnknown, RecipientsRefused, NoRecipients.
    """
    sender = _sender(send, facts)
    if facts.answer is not None:
        response = check_same(facts.answer, send.fingerprint)
        return SentMessage.model_validate_json(response).model_copy(update={"replayed": True})
    if sender.retired_at is not None:
        raise AgentRetired(agent_name=sender.name, suggestion="register_agent")
    project = facts.project
    assert project is not None
    parent = facts.parent
    if send.parent_id is not None and (parent is None or parent.project_id != project.id):
        raise MessageNotFound(message_id=send.parent_id)
    wanted = _named_recipients(send, facts, project)
    if send.operation == "reply_message" and parent is not None:
        wanted = _reply_recipients(send, parent, sender, wanted)
    recipients, skipped = _admitted(send, wanted)
    thread_id, thread_key = _thread(send, parent)
    subject = send.subject if send.subject is not None else _reply_subject(parent)
    return Draft(
        team_id=send.team_id,
        project_id=project.id,
        sender=sender,
        thread_id=thread_id,
        thread_key=thread_key,
        parent_id=send.parent_id,
        subject=subject,
        body_md=send.body_md,
        priority=send.priority or (parent.priority if parent else "normal"),
        ack_required=send.ack_required,
        recipients=recipients,
        skipped=skipped,
        index=with_subject(subject, send.body_index),
        scope=idempotency_scope(send, sender),
        fingerprint=send.fingerprint,
    )


def _sender(send: Outgoing, facts: SendFacts) -> AgentRecord:
    if facts.project is None:
        raise ProjectNotFound(project_slug=send.project_ref, suggestion="ensure_project")
    sender = facts.agents.get(send.sender_name.lower())
    if sender is None:
        raise AgentNotFound(
            f"There is no agent {send.sender_name!r} in project {facts.project.slug!r}.",
            agent_name=send.sender_name,
            project_slug=facts.project.slug,
        )
    if sender.owner != send.principal and not send.is_admin:
        raise AgentNotYours(agent_name=sender.name)
    return sender


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An address with the agent behind it, if there is one."""

    address: str
    kind: RecipientKind
    agent: AgentRecord | None


def _named_recipients(send: Outgoing, facts: SendFacts, project: ProjectRecord) -> list[_Wanted]:
    wanted = []
    for kind, addresses in zip(RECIPIENT_KINDS, (send.to, send.cc, send.bcc), strict=True):
        for address in addresses:
            name, at, slug = address.partition("@")
            is_here = not at or normal_ref(slug) == project.slug
            wanted.append(_Wanted(address, kind, facts.agents.get(name.lower()) if is_here else None))
    return wanted


def _reply_recipients(send: Outgoing, parent: Parent, sender: AgentRecord, named: list[_Wanted]) -> list[_Wanted]:
    """Whom a reply goes to: those that it names, else the parent's. A bcc recipient only ever answers the sender."""
    was_bcc = any(agent.id == sender.id and kind == "bcc" for agent, kind in parent.recipients)
    if was_bcc and parent.sender.id != sender.id:
        if send.reply_all or any(item.agent is None or item.agent.id != parent.sender.id for item in named):
            raise BccReplyAll(suggestion="reply_message without reply_all and recipient_names")
        return [_Wanted(parent.sender.name, "to", parent.sender)]
    if named:
        return named
    if parent.sender.id == sender.id:
        wanted = [_Wanted(agent.name, kind, agent) for agent, kind in parent.recipients if kind == "to"]
    else:
        wanted = [_Wanted(parent.sender.name, "to", parent.sender)]
    if send.reply_all:
        kinds: tuple[RecipientKind, ...] = ("cc",) if parent.sender.id == sender.id else ("to", "cc")
        known = {parent.sender.id, sender.id, *(item.agent.id for item in wanted if item.agent)}
        wanted += [
            _Wanted(agent.name, kind, agent)
            for agent, kind in parent.recipients
            if kind in kinds and agent.id not in known
        ]
    return wanted


def _admitted(
    send: Outgoing, wanted: list[_Wanted]
) -> tuple[tuple[tuple[AgentRecord, RecipientKind], ...], tuple[Skipped, ...]]:
    """Who gets it, and who is left out under allow_partial; raises when somebody is refused without it."""
    seen: set[str | int] = set()
    for item in wanted:
        key = item.agent.id if item.agent else item.address.lower()
        if key in seen:
            raise DuplicateRecipient(recipients=[{"name": item.address, "code": "duplicate_recipient"}])
        seen.add(key)
    unknown = [Skipped(name=item.address, code="agent_not_found") for item in wanted if item.agent is None]
    refused = [
        Skipped(name=item.address, code="agent_retired") for item in wanted if item.agent and item.agent.retired_at
    ]
    if (unknown or refused) and not send.allow_partial:
        problems = [problem.model_dump() for problem in (*unknown, *refused)]
        error: type[AgentMailError] = RecipientsUnknown if unknown else RecipientsRefused
        raise error(recipients=problems, suggestion="list_agents")
    admitted = tuple((item.agent, item.kind) for item in wanted if item.agent and not item.agent.retired_at)
    skipped = (*unknown, *refused)
    if not admitted:
        raise NoRecipients(recipients=[problem.model_dump() for problem in skipped] or None, suggestion="list_agents")
    return admitted, skipped


def _thread(send: Outgoing, parent: Parent | None) -> tuple[ThreadId | None, str]:
    if parent is not None:
        if send.thread_key is not None and send.thread_key.lower() != parent.thread_key.lower():
            raise ThreadMismatch(parent_thread_id=parent.thread_key, thread_id=send.thread_key)
        return parent.thread_id, parent.thread_key
    return None, send.thread_key or new_thread_key()


def new_thread_key() -> str:
    """`T-` and ten random base-32 characters."""
    return "T-" + base64.b32encode(secrets.token_bytes(7)).decode()[:10]


def _reply_subject(parent: Parent | None) -> str:
    subject = parent.subject if parent else ""
    return (subject if subject[:3].lower() == "re:" else f"Re: {subject}")[:SUBJECT_LENGTH]


def with_subject(subject: str, body: IndexedText) -> IndexedText:
    """The text index of a message whose body was split before its subject was known."""
    head = index_text(subject, "")
    wholes = list(dict.fromkeys([*head.wholes, *body.wholes]))
    return replace(body, subject_parts=head.subject_parts, wholes=wholes)


# --- send_message, reply_message --------------------------------------------------------------------------------------


class Recipient(Result):
    """Somebody that a message went to."""

    name: str
    kind: RecipientKind


class Skipped(Result):
    """Somebody that it did not go to, and why."""

    name: str
    code: str


class SentMessage(Result):
    message_id: int
    thread_id: str
    created_at: datetime
    deliveries: list[Recipient]
    skipped: list[Skipped] = Field(default_factory=list)
    replayed: bool = False


class SendMessage(Request):
    project_slug: ProjectRef
    sender_name: AgentName = Field(description="Your agent name")
    recipient_names: list[Address] = Field(default_factory=list, max_length=MAX_RECIPIENTS, description="To")
    subject: Subject
    body_md: Body
    cc_names: list[Address] = Field(default_factory=list, max_length=MAX_RECIPIENTS)
    bcc_names: list[Address] = Field(
        default_factory=list, max_length=MAX_RECIPIENTS, description="Known to you and to each of them only"
    )
    thread_id: ThreadKey | None = Field(None, description="Continue or start this thread, such as FEAT-123")
    parent_id: Id | None = Field(None, description="Message that this follows; its thread is taken")
    priority: Priority = "normal"
    ack_required: bool = Field(False, description="Ask each recipient to acknowledge_message")
    allow_partial: bool = Field(False, description="Send to those who can be reached; the rest is in skipped")
    idempotency_key: IdempotencyKey | None = None

    @model_validator(mode="after")
    def _some_recipients(self) -> SendMessage:
        return _check_recipient_count(self)


def _check_recipient_count(request: SendMessage) -> SendMessage:
    count = len(request.recipient_names) + len(request.cc_names) + len(request.bcc_names)
    if not 1 <= count <= MAX_RECIPIENTS:
        raise ValueError(f"needs 1 to {MAX_RECIPIENTS} recipients over recipient_names, cc_names and bcc_names")
    return request


async def send_message(app: App, caller: Caller, request: SendMessage) -> SentMessage:
    """Send a message to agents of your project. All recipients get it, or nobody does and the error names each problem."""
    return await _deliver(
        app,
        caller,
        Outgoing(
            team_id=caller.team_id,
            principal=caller.principal,
            is_admin=caller.role >= Role.admin,
            operation="send_message",
            project_ref=normal_ref(request.project_slug),
            sender_name=request.sender_name,
            to=tuple(request.recipient_names),
            cc=tuple(request.cc_names),
            bcc=tuple(request.bcc_names),
            subject=request.subject,
            body_md=request.body_md,
            body_index=await _indexed(request.body_md),
            thread_key=request.thread_id,
            parent_id=MessageId(request.parent_id) if request.parent_id is not None else None,
            reply_all=False,
            priority=request.priority,
            ack_required=request.ack_required,
            allow_partial=request.allow_partial,
            idempotency_key=request.idempotency_key,
            fingerprint=fingerprint(request),
        ),
    )


class ReplyMessage(Request):
    project_slug: ProjectRef
    sender_name: AgentName = Field(description="Your agent name")
    message_id: Id = Field(description="Message to answer")
    body_md: Body
    recipient_names: list[Address] | None = Field(
        None, min_length=1, max_length=MAX_RECIPIENTS, description="Instead of the message's sender"
    )
    reply_all: bool = Field(False, description="Also to its other to and cc recipients")
    priority: Priority | None = Field(None, description="The message's own when left out")
    ack_required: bool = False
    allow_partial: bool = False
    idempotency_key: IdempotencyKey | None = None

    @field_validator("reply_all")
    @classmethod
    def _one_way_to_choose(cls, reply_all: bool, info: Any) -> bool:
        if reply_all and info.data.get("recipient_names"):
            raise ValueError("give recipient_names or reply_all, not both")
        return reply_all


async def reply_message(app: App, caller: Caller, request: ReplyMessage) -> SentMessage:
    """Answer a message in its thread: to its sender, or with reply_all to everyone who visibly got it."""
    return await _deliver(
        app,
        caller,
        Outgoing(
            team_id=caller.team_id,
            principal=caller.principal,
            is_admin=caller.role >= Role.admin,
            operation="reply_message",
            project_ref=normal_ref(request.project_slug),
            sender_name=request.sender_name,
            to=tuple(request.recipient_names or ()),
            cc=(),
            bcc=(),
            subject=None,
            body_md=request.body_md,
            body_index=await _indexed(request.body_md),
            thread_key=None,
            parent_id=MessageId(request.message_id),
            reply_all=request.reply_all,
            priority=request.priority,
            ack_required=request.ack_required,
            allow_partial=request.allow_partial,
            idempotency_key=request.idempotency_key,
            fingerprint=fingerprint(request),
        ),
    )


async def _indexed(body_md: str) -> IndexedText:
    if len(body_md) > LONG_BODY:
        return await asyncio.to_thread(index_text, "", body_md)
    return index_text("", body_md)


async def _deliver(app: App, caller: Caller, send: Outgoing) -> SentMessage:
    try:
        delivered = await app.store.deliver(send)
    except (ProjectNotFound, AgentNotFound, RecipientsUnknown) as error:
        raise await _with_near_names(app, caller, send, error) from None
    if delivered.mailboxes:
        await app.wakeups.publish(inbox_topics(delivered.mailboxes))
    return delivered.sent


async def _with_near_names(
    app: App, caller: Caller, send: Outgoing, error: ProjectNotFound | AgentNotFound | RecipientsUnknown
) -> AgentMailError:
    """The same error with the names that may have been meant, read after the send was refused."""
    async with app.store.read() as db:
        project = await db.projects.find(caller.team_id, send.project_ref)
        if project is None:
            return await project_not_found(db, caller, send.project_ref)
        if isinstance(error, AgentNotFound):
            return await agent_not_found(db, project, send.sender_name)
        known = await db.agents.names(project.id, NEAR_NAME_POOL)
    for problem in error.data["recipients"]:
        near = near_names(problem["name"].partition("@")[0], known)
        if problem["code"] == "agent_not_found" and near:
            problem["near"] = near
    return error


# --- get_message ------------------------------------------------------------------------------------------------------


class RecipientView(Recipient):
    read_at: datetime | None = None
    acknowledged_at: datetime | None = None


class Message(Result):
    """A message as its project sees it: bcc only for the sender and that recipient."""

    message_id: int
    project_slug: str
    thread_id: str
    parent_id: int | None = None
    sender_name: str
    subject: str
    body_md: str | None = None
    priority: PriorityWord
    ack_required: bool
    created_at: datetime
    recipients: list[RecipientView]


def message_fields(record: MessageRecord, states: Sequence[RecipientState], viewer: AgentId | None) -> dict[str, Any]:
    """The fields of a Message for the eyes of `viewer`; None sees what everyone in the project does."""
    return {
        "message_id": record.id,
        "project_slug": record.project_slug,
        "thread_id": record.thread_key,
        "parent_id": record.parent_id,
        "sender_name": record.sender_name,
        "subject": record.subject,
        "body_md": record.body_md,
        "priority": record.priority,
        "ack_required": record.ack_required,
        "created_at": record.created_at,
        "recipients": [
            RecipientView(
                name=state.name, kind=state.kind, read_at=state.read_at, acknowledged_at=state.acknowledged_at
            )
            for state in states
            if state.kind != "bcc" or viewer in (record.sender_id, state.agent_id)
        ],
    }


def by_message(states: Sequence[RecipientState]) -> dict[MessageId, list[RecipientState]]:
    """Recipients grouped by their message, order kept."""
    grouped: dict[MessageId, list[RecipientState]] = {}
    for state in states:
        grouped.setdefault(state.message_id, []).append(state)
    return grouped


class GetMessage(Request):
    message_id: Id
    project_slug: ProjectRef | None = None
    agent_name: AgentName | None = Field(
        None, description="Your agent: adds your own read state, and bcc if you sent it"
    )


class MessageDetails(Message):
    read_at: datetime | None = None
    acknowledged_at: datetime | None = None


async def get_message(app: App, caller: Caller, request: GetMessage) -> MessageDetails:
    """Read one message: body, recipients, and who read or acknowledged it. Does not mark it read."""
    async with app.store.read() as db:
        project = await the_project(db, caller, request.project_slug) if request.project_slug is not None else None
        record = await db.messages.get(caller.team_id, MessageId(request.message_id))
        if record is None or (project is not None and record.project_id != project.id):
            raise MessageNotFound(message_id=request.message_id)
        viewer = None
        if request.agent_name is not None:
            viewer = (await acting_agent(app, db, caller, record.project_slug, request.agent_name)).agent.id
        states = await db.messages.recipients([record.id])
    own = next((state for state in states if state.agent_id == viewer), None)
    return MessageDetails(
        **message_fields(record, states, viewer),
        read_at=own.read_at if own else None,
        acknowledged_at=own.acknowledged_at if own else None,
    )


# --- list_outbox ------------------------------------------------------------------------------------------------------


class ListOutbox(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    include_bodies: bool = False
    limit: PageSize = 20
    cursor: Cursor | None = None


class MessagePage(Result):
    messages: list[Message]
    next_cursor: str | None = None


async def list_outbox(app: App, caller: Caller, request: ListOutbox) -> MessagePage:
    """List what your agent sent, newest first, with who read and acknowledged it."""
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        scope = list_scope("list_outbox", caller.team_id, actor.agent.id)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        before = MessageId(int(last[0])) if last else None
        rows = await db.messages.sent_by(actor.agent.id, before, request.include_bodies, request.limit + 1)
        page = rows[: request.limit]
        states = by_message(await db.messages.recipients([record.id for record in page]))
    return MessagePage(
        messages=[Message(**message_fields(record, states.get(record.id, ()), actor.agent.id)) for record in page],
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if len(rows) > len(page) else None,
    )
