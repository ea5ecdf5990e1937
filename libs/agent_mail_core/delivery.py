"""A send on its way: what was asked, what the database says about it, and what is stored of it.

Who gets it is decided in `deciding`, by the store inside the delivering transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from agent_mail_core.addresses import Address, elsewhere, parse, show
from agent_mail_core.admission import Acquaintance, Pair
from agent_mail_core.agents import Actor, AgentRecord
from agent_mail_core.attachments import AttachmentRecord
from agent_mail_core.fields import PriorityWord, RecipientKind, Result, name_key
from agent_mail_core.idempotency import IdempotencyScope, StoredAnswer
from agent_mail_core.ids import AgentId, AttachmentId, MessageId, Principal, ProjectId, TeamId, ThreadId
from agent_mail_core.messages import Recipient
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.search_text import IndexedText

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
    contact_ids: list[int] | None = None
    """What now waits for an answer of those skipped with contact_required."""
    replayed: bool = False


# --- what the store and the rule speak of -----------------------------------------------------------------------------


SendOperation = Literal[
    "send_message",
    "reply_message",
    "broadcast_message",
    "hand_off",
    "request_review",
    "claim_review",
    "complete_review",
    "cancel_review",
    "send_overseer_message",
    "force_release_file",
    "add_contact",
    "respond_contact",
    "escalate",
]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A send or reply that is right in itself and has yet to be decided against the database."""

    team_id: TeamId
    principal: Principal
    is_admin: bool
    operation: SendOperation
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
    """As it was asked for: `KEY`, or `KEY@slug` for a thread of another project."""
    parent_id: MessageId | None
    reply_all: bool
    priority: PriorityWord | None
    ack_required: bool
    allow_partial: bool
    idempotency_key: str | None
    fingerprint: bytes
    is_of_service: bool = False
    """From Overseer or System, in whose name nobody else can send."""
    asks_for_contacts: bool = True
    """Whether a recipient that wants to be asked first is asked."""
    attachment_ids: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that are named, in order."""
        return (*self.to, *self.cc, *self.bcc)

    @property
    def names(self) -> set[str]:
        """Lower-cased names of all agents that the rule may need of the sender's project."""
        return {name_key(self.sender_name), *(name_key(address.partition("@")[0]) for address in self.addresses)}

    @property
    def refs(self) -> set[str]:
        """The projects that the rule may need: the sender's, by slug or key, and others by slug."""
        slugs = {slug for slug, _ in self.foreign}
        if self.thread is not None and self.thread.slug is not None:
            slugs.add(self.thread.slug)
        return {self.project_ref, *slugs}

    @property
    def foreign(self) -> set[tuple[str, str]]:
        """Slug and lower-cased name of every address that has a slug; it may be that of the sender's project."""
        found = [parse(address) for address in self.addresses if "@" in address]
        return {(address.slug, name_key(address.name)) for address in found if address.slug is not None}

    @property
    def thread(self) -> Address | None:
        """The thread that is asked for."""
        return parse(self.thread_key) if self.thread_key is not None else None


@dataclass(frozen=True, slots=True)
class Parent:
    """The message that a send answers."""

    id: MessageId
    project: ProjectRecord
    """Not a deleted one."""
    thread_id: ThreadId
    thread_key: str
    subject: str
    priority: PriorityWord
    sender: Actor
    recipients: tuple[tuple[Actor, RecipientKind], ...]
    """In the order they were given."""


@dataclass(frozen=True, slots=True)
class ForeignThread:
    """A thread of another project, which a send wants to go on with."""

    id: ThreadId
    project: ProjectRecord
    key: str
    is_party: bool
    """The sender takes part in it."""


@dataclass(frozen=True, slots=True)
class SendFacts:
    """What the database says about an Outgoing, read in the delivering transaction."""

    project: ProjectRecord | None
    """The sender's."""
    agents: Mapping[str, AgentRecord]
    """The project's agents of `Outgoing.names`, by lower-cased name."""
    parent: Parent | None
    """The team's message of `parent_id`."""
    answer: StoredAnswer | None
    """What is stored under the idempotency key; None when it is free and now held."""
    blockers: frozenset[AgentId] = frozenset()
    """Those of all agents here that blocked somebody."""
    foreign: Mapping[tuple[str, str], Actor] = field(default_factory=dict)
    """The agents of `Outgoing.foreign` in other projects."""
    foreign_thread: ForeignThread | None = None
    """The thread of `Outgoing.thread`, where that is in another project."""
    attachments: Sequence[AttachmentRecord] = ()
    """Those of `Outgoing.attachment_ids` that the sender may link."""
    known: Mapping[Pair, Acquaintance] | None = None
    """What `decide` asked for as OpenPairs; None: it has not asked."""


@dataclass(frozen=True, slots=True)
class OpenPairs:
    """What must be known about pairs of agents before a send can be decided; nearly none has any."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that may be stored: everything but its id, its time and its positions."""

    team_id: TeamId
    project: ProjectRecord
    """The thread's, where the message will live."""
    sender: Actor
    thread_id: ThreadId | None
    """An existing thread; None: the thread of `thread_key`, made if it is new."""
    thread_key: str
    begins_thread: bool
    """The key was drawn for this message: there is no such thread, and nobody else can be making it."""
    parent_id: MessageId | None
    subject: str
    body_md: str
    priority: PriorityWord
    ack_required: bool
    recipients: tuple[tuple[Actor, RecipientKind], ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[tuple[Actor, Actor], ...]
    """Sender and recipient, where one was skipped that is to be asked for a contact."""
    attachments: tuple[AttachmentId, ...]
    index: IndexedText
    scope: IdempotencyScope | None
    fingerprint: bytes

    @property
    def project_id(self) -> ProjectId:
        return self.project.id

    @property
    def event_data(self) -> dict[str, Any]:
        """What the message.sent event says, as the thread's project sees it; no bcc."""
        home = self.project.slug
        return {
            "thread_id": self.thread_key,
            "sender": shown(self.sender, home),
            "to": [shown(actor, home) for actor, kind in self.recipients if kind == "to"],
            "cc": [shown(actor, home) for actor, kind in self.recipients if kind == "cc"],
        }

    def sent(self, message_id: MessageId, thread_key: str, created_at: datetime) -> SentMessage:
        """The answer, once the store has given the message its id; `thread_key` as the thread spells it."""
        asked = self.sender.project.slug
        return SentMessage(
            message_id=message_id,
            thread_id=show(thread_key, elsewhere(self.project.slug, asked)),
            created_at=created_at,
            deliveries=[Recipient(name=shown(actor, asked), kind=kind) for actor, kind in self.recipients],
            skipped=list(self.skipped),
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """A committed answer and whose inboxes have news."""

    sent: SentMessage
    mailboxes: tuple[AgentId, ...] = ()
    missing: tuple[tuple[Actor, Actor], ...] = ()
    """As the Draft had it; of a replay nothing."""


def shown(actor: Actor, asked_slug: str) -> str:
    """The agent's name as the project of that slug writes it."""
    return show(actor.agent.name, elsewhere(actor.project.slug, asked_slug))


def idempotency_scope(send: Outgoing, sender: AgentRecord) -> IdempotencyScope | None:
    """Whose key a send's key is; None without one."""
    if send.idempotency_key is None:
        return None
    return IdempotencyScope(send.team_id, send.principal, sender.id, send.operation, send.idempotency_key)
