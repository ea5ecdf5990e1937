"""Who gets a message: the one rule.

The store runs `decide` inside the delivering transaction on facts that it read there, so that no worker delivers on
what was true a moment ago. Who may write to whom is decided in `admission`.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent_mail_core.addresses import elsewhere, parse, show
from agent_mail_core.admission import STRANGERS, Meeting, Pair, Verdict, admit, needs_facts
from agent_mail_core.agents import Actor
from agent_mail_core.attachments import check_linked
from agent_mail_core.delivery import (
    SUBJECT_LENGTH,
    Draft,
    OpenPairs,
    Outgoing,
    Parent,
    SendFacts,
    SentMessage,
    Skipped,
    idempotency_scope,
    shown,
)
from agent_mail_core.errors import (
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    BccReplyAll,
    ContactRequired,
    DuplicateRecipient,
    MessageNotFound,
    NoRecipients,
    ProjectNotFound,
    RecipientsRefused,
    RecipientsUnknown,
    ThreadMismatch,
    ThreadNotFound,
)
from agent_mail_core.fields import RECIPIENT_KINDS, RecipientKind, name_key
from agent_mail_core.idempotency import check_same
from agent_mail_core.ids import AgentId, ThreadId
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.search_text import IndexedText, index_text


def decide(send: Outgoing, facts: SendFacts) -> Draft | SentMessage | OpenPairs:
    """What to store for a send, or what was answered under its idempotency key before, or what must be known first.

    Raises the rule that forbids it: ProjectNotFound, AgentNotFound, AgentNotYours, AgentRetired, IdempotencyConflict,
    MessageNotFound, ThreadNotFound, ThreadMismatch, BccReplyAll, DuplicateRecipient, RecipientsUnknown,
    RecipientsRefused, NoRecipients, AttachmentNotFound, TooManyAttachments, AttachmentsTooLarge.
    """
    sender = _sender(send, facts)
    if facts.answer is not None:
        response = check_same(facts.answer, send.fingerprint)
        return SentMessage.model_validate_json(response).model_copy(update={"replayed": True})
    if sender.agent.retired_at is not None:
        raise AgentRetired(agent_name=sender.agent.name, suggestion="register_agent")
    parent = _parent(send, facts, sender)
    thread = _thread(send, facts, sender, parent)
    wanted = _named_recipients(send, facts, sender.project)
    if send.operation == "reply_message" and parent is not None:
        wanted = _reply_recipients(send, parent, sender, wanted)
    _refuse_duplicates(wanted)
    verdicts = _verdicts(facts, sender, wanted, thread)
    if isinstance(verdicts, OpenPairs):
        return verdicts
    admitted = _admitted(send, sender, wanted, verdicts)
    subject = send.subject if send.subject is not None else _reply_subject(parent)
    return Draft(
        team_id=send.team_id,
        project=thread.project,
        sender=sender,
        thread_id=thread.id,
        thread_key=thread.key,
        begins_thread=not thread.has_given_key,
        parent_id=send.parent_id,
        subject=subject,
        body_md=send.body_md,
        priority=send.priority or (parent.priority if parent else "normal"),
        ack_required=send.ack_required,
        recipients=admitted.recipients,
        skipped=admitted.skipped,
        missing=admitted.missing,
        attachments=tuple(check_linked(send.attachment_ids, facts.attachments)) if send.attachment_ids else (),
        index=with_subject(subject, send.body_index),
        scope=idempotency_scope(send, sender.agent),
        fingerprint=send.fingerprint,
    )


# --- who writes, in which thread --------------------------------------------------------------------------------------


def _sender(send: Outgoing, facts: SendFacts) -> Actor:
    if facts.project is None:
        raise ProjectNotFound(project_slug=send.project_ref, suggestion="ensure_project")
    sender = facts.agents.get(name_key(send.sender_name))
    if sender is None:
        raise AgentNotFound(
            f"There is no agent {send.sender_name!r} in project {facts.project.slug!r}.",
            agent_name=send.sender_name,
            project_slug=facts.project.slug,
            suggestion="register_agent",
        )
    if sender.is_service != send.is_of_service:
        raise AgentNotYours(agent_name=sender.name)
    if not sender.is_service and sender.owner != send.principal and not send.is_admin:
        raise AgentNotYours(agent_name=sender.name)
    return Actor(facts.project, sender)


def _parent(send: Outgoing, facts: SendFacts, sender: Actor) -> Parent | None:
    """The message that is answered: of the sender's project, or one that it sent or got (SPEC 3.3 rule 7)."""
    parent = facts.parent
    if send.parent_id is None or parent is None:
        if send.parent_id is not None:
            raise MessageNotFound(message_id=send.parent_id)
        return None
    is_party = sender.agent.id == parent.sender.agent.id or any(
        actor.agent.id == sender.agent.id for actor, _ in parent.recipients
    )
    if parent.project.id != sender.project.id and not is_party:
        raise MessageNotFound(message_id=send.parent_id)
    return parent


@dataclass(frozen=True, slots=True)
class _Thread:
    """Where a message goes; without an id, to the thread of the key, made if it is new."""

    project: ProjectRecord
    id: ThreadId | None
    key: str
    has_given_key: bool = True
    """The sender named it, or answers in it. A drawn key is of a thread that begins with this message."""


def _thread(send: Outgoing, facts: SendFacts, sender: Actor, parent: Parent | None) -> _Thread:
    asked, own = send.thread, sender.project
    if parent is not None:
        if asked is not None and (asked.slug or own.slug, asked.name.lower()) != (
            parent.project.slug,
            parent.thread_key.lower(),
        ):
            parent_thread = show(parent.thread_key, elsewhere(parent.project.slug, own.slug))
            raise ThreadMismatch(parent_thread_id=parent_thread, thread_id=send.thread_key)
        return _Thread(parent.project, parent.thread_id, parent.thread_key)
    if asked is None:
        return _Thread(own, None, new_thread_key(), has_given_key=False)
    if asked.is_in(own.slug):
        return _Thread(own, None, asked.name)
    foreign = facts.foreign_thread
    if foreign is None or not foreign.is_party:
        raise ThreadNotFound(thread_id=send.thread_key, suggestion="check_inbox")
    return _Thread(foreign.project, foreign.id, foreign.key)


def new_thread_key() -> str:
    """`T-` and ten random base-32 characters."""
    return "T-" + base64.b32encode(secrets.token_bytes(7)).decode()[:10]


# --- whom it is for ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An address with the agent behind it, if there is one."""

    address: str
    kind: RecipientKind
    actor: Actor | None

    @property
    def agent_id(self) -> AgentId | None:
        return self.actor.agent.id if self.actor is not None else None


def _named_recipients(send: Outgoing, facts: SendFacts, project: ProjectRecord) -> list[_Wanted]:
    return [
        _Wanted(address, kind, _addressed(address, facts, project))
        for kind, addresses in zip(RECIPIENT_KINDS, (send.to, send.cc, send.bcc), strict=True)
        for address in addresses
    ]


def _addressed(text: str, facts: SendFacts, project: ProjectRecord) -> Actor | None:
    address = parse(text)
    key = name_key(address.name)
    if address.slug is not None and address.slug != project.slug:
        return facts.foreign.get((address.slug, key))
    agent = facts.agents.get(key)
    return Actor(project, agent) if agent is not None else None


def _reply_recipients(send: Outgoing, parent: Parent, sender: Actor, named: list[_Wanted]) -> list[_Wanted]:
    """Whom a reply goes to: those that it names, else the parent's. A bcc recipient only ever answers the sender."""
    me, author, asked_slug = sender.agent.id, parent.sender.agent.id, sender.project.slug
    was_bcc = any(actor.agent.id == me and kind == "bcc" for actor, kind in parent.recipients)
    if was_bcc and author != me:
        if send.reply_all or any(item.agent_id != author for item in named):
            raise BccReplyAll(suggestion="reply_message without reply_all and recipient_names")
        return [_Wanted(shown(parent.sender, asked_slug), "to", parent.sender)]
    if named:
        return named
    if author == me:
        wanted = [_Wanted(shown(actor, asked_slug), kind, actor) for actor, kind in parent.recipients if kind == "to"]
    else:
        wanted = [_Wanted(shown(parent.sender, asked_slug), "to", parent.sender)]
    if send.reply_all:
        kinds: tuple[RecipientKind, ...] = ("cc",) if author == me else ("to", "cc")
        known = {author, me, *(item.agent_id for item in wanted)}
        wanted += [
            _Wanted(shown(actor, asked_slug), kind, actor)
            for actor, kind in parent.recipients
            if kind in kinds and actor.agent.id not in known
        ]
    return wanted


def _refuse_duplicates(wanted: Sequence[_Wanted]) -> None:
    seen: set[str | int] = set()
    for item in wanted:
        key = item.actor.agent.id if item.actor else name_key(item.address)
        if key in seen:
            raise DuplicateRecipient(recipients=[{"name": item.address, "code": "duplicate_recipient"}])
        seen.add(key)


# --- who of them gets it ----------------------------------------------------------------------------------------------


def _verdicts(
    facts: SendFacts, sender: Actor, wanted: Sequence[_Wanted], thread: _Thread
) -> Mapping[AgentId, Verdict] | OpenPairs:
    """May the sender write to each, or what must be known before that can be said."""
    verdicts: dict[AgentId, Verdict] = {}
    open_pairs: list[Pair] = []
    for item in wanted:
        if item.actor is None:
            continue
        agent = item.actor.agent
        meeting = Meeting(
            policy=agent.contact_policy,
            is_same_project=agent.project_id == sender.agent.project_id,
            is_same_agent=agent.id == sender.agent.id,
            is_from_service=sender.agent.is_service,
            has_blocks=agent.id in facts.blockers,
        )
        if not needs_facts(meeting):
            verdicts[agent.id] = admit(meeting)
            continue
        pair = Pair(sender.agent.id, agent.id, (thread.project.id, thread.key) if thread.has_given_key else None)
        if facts.known is None:
            open_pairs.append(pair)
        else:
            verdicts[agent.id] = admit(meeting, facts.known.get(pair, STRANGERS))
    return OpenPairs(tuple(open_pairs)) if open_pairs else verdicts


@dataclass(frozen=True, slots=True)
class _Admitted:
    recipients: tuple[tuple[Actor, RecipientKind], ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[tuple[Actor, Actor], ...]


def _admitted(
    send: Outgoing, sender: Actor, wanted: Sequence[_Wanted], verdicts: Mapping[AgentId, Verdict]
) -> _Admitted:
    """Who gets it, and who is left out under allow_partial; raises when somebody is refused without it."""
    recipients: list[tuple[Actor, RecipientKind]] = []
    unknown: list[Skipped] = []
    refused: list[Skipped] = []
    missing: list[tuple[Actor, Actor]] = []
    for item in wanted:
        if item.actor is None:
            unknown.append(Skipped(name=item.address, code="agent_not_found"))
        elif item.actor.agent.retired_at is not None:
            refused.append(Skipped(name=item.address, code="agent_retired"))
        elif (verdict := verdicts[item.actor.agent.id]) != "admitted":
            refused.append(Skipped(name=item.address, code=verdict))
            # Everybody in the project sees a request: whom a bcc is for is not asked.
            if verdict == "contact_required" and send.asks_for_contacts and item.kind != "bcc":
                missing.append((sender, item.actor))
        else:
            recipients.append((item.actor, item.kind))
    skipped = (*unknown, *refused)
    if skipped and not send.allow_partial:
        raise _refusal(unknown, refused, tuple(missing))
    if not recipients:
        error = NoRecipients(
            recipients=[item.model_dump() for item in skipped] or None,
            suggestion="list_contacts" if missing and len(missing) == len(skipped) else "list_agents",
        )
        error.missing = tuple(missing)
        raise error
    return _Admitted(tuple(recipients), skipped, tuple(missing))


def _refusal(
    unknown: Sequence[Skipped], refused: Sequence[Skipped], missing: tuple[tuple[Actor, Actor], ...]
) -> RecipientsUnknown | RecipientsRefused:
    problems = [problem.model_dump() for problem in (*unknown, *refused)]
    if unknown:  # nobody is asked for a contact before the names are right
        return RecipientsUnknown(recipients=problems, suggestion="list_agents")
    codes = {problem.code for problem in refused}
    kind = ContactRequired if codes == {"contact_required"} else RecipientsRefused
    if codes == {"contact_required"} and not missing:
        return kind(
            "Nothing was sent: a bcc is for who wants to be asked first.", recipients=problems, suggestion="add_contact"
        )
    error = kind(recipients=problems, suggestion="list_contacts" if "contact_required" in codes else "list_agents")
    error.missing = missing
    return error


# --- what it says -----------------------------------------------------------------------------------------------------


def _reply_subject(parent: Parent | None) -> str:
    subject = parent.subject if parent else ""
    return (subject if subject[:3].lower() == "re:" else f"Re: {subject}")[:SUBJECT_LENGTH]


def with_subject(subject: str, body: IndexedText) -> IndexedText:
    """The text index of a message whose body was split before its subject was known."""
    head = index_text(subject, "")
    wholes = list(dict.fromkeys([*head.wholes, *body.wholes]))
    return replace(body, subject_parts=head.subject_parts, wholes=wholes)
