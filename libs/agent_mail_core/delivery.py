"""Who gets a message: the one rule, and what it and the store speak of.

The store runs `decide` inside the delivering transaction on facts that it read there, so that no worker delivers on
what was true a moment ago.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from agent_mail_core.agents import AgentRecord
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
    PriorityWord,
    RecipientKind,
    Result,
    name_key,
)
from agent_mail_core.idempotency import IdempotencyScope, StoredAnswer, check_same
from agent_mail_core.ids import AgentId, MessageId, Principal, ProjectId, TeamId, ThreadId
from agent_mail_core.messages import Recipient
from agent_mail_core.projects import ProjectRecord, normal_ref
from agent_mail_core.search_text import IndexedText, index_text

SUBJECT_LENGTH = 200


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
        return {name_key(self.sender_name), *(name_key(address.partition("@")[0]) for address in self.addresses)}


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


# --- the rule ---------------------------------------------------------------------------------------------------------


def idempotency_scope(send: Outgoing, sender: AgentRecord) -> IdempotencyScope | None:
    """Whose key a send's key is; None without one."""
    if send.idempotency_key is None:
        return None
    return IdempotencyScope(send.team_id, send.principal, sender.id, send.operation, send.idempotency_key)


def decide(send: Outgoing, facts: SendFacts) -> Draft | SentMessage:
    """What to store for a send, or what was answered under its idempotency key before.

    Raises the rule that forbids it: ProjectNotFound, AgentNotFound, AgentNotYours, AgentRetired, IdempotencyConflict,
    MessageNotFound, ThreadMismatch, BccReplyAll, DuplicateRecipient, RecipientsUnknown, RecipientsRefused,
    NoRecipients.
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
    sender = facts.agents.get(name_key(send.sender_name))
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
            wanted.append(_Wanted(address, kind, facts.agents.get(name_key(name)) if is_here else None))
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
        key = item.agent.id if item.agent else name_key(item.address)
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
