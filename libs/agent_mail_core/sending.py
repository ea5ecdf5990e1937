"""Sending and replying: the operations. Who gets the message is decided in `delivery`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from agent_mail_core.addresses import ThreadRef, parse
from agent_mail_core.agents import NEAR_NAME_POOL, Actor, agent_not_found
from agent_mail_core.attachments import AttachmentIds
from agent_mail_core.contact_requests import request_contacts
from agent_mail_core.delivery import Delivered, Outgoing, SentMessage, idempotency_scope
from agent_mail_core.errors import (
    AgentMailError,
    AgentNotFound,
    NoRecipients,
    ProjectNotFound,
    RecipientsRefused,
    RecipientsUnknown,
)
from agent_mail_core.fields import (
    Address,
    AgentName,
    Body,
    Id,
    IdempotencyKey,
    Priority,
    ProjectRef,
    Request,
    Subject,
)
from agent_mail_core.idempotency import fingerprint
from agent_mail_core.ids import MessageId
from agent_mail_core.ports import App, Caller, Role, inbox_topics
from agent_mail_core.posts import indexed_body
from agent_mail_core.projects import normal_ref, project_not_found
from agent_mail_core.suggestions import near_names

MAX_RECIPIENTS = 100
NEAR_NAMES_FOR = 5
"""How many unknown recipients are told which names are near."""


# --- send_message, reply_message --------------------------------------------------------------------------------------


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
    thread_id: ThreadRef | None = Field(None, description="Continue or start this thread, such as FEAT-123")
    parent_id: Id | None = Field(None, description="Message that this follows; its thread is taken")
    priority: Priority = "normal"
    ack_required: bool = Field(False, description="Ask each recipient to acknowledge_message")
    attachment_ids: AttachmentIds = Field(default_factory=list)
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
    """Send a message to agents of your project, or as Name@slug of another.

    All recipients get it, or nobody does and the error names each problem.
    """
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
            body_index=await indexed_body(request.body_md),
            thread_key=request.thread_id,
            parent_id=MessageId(request.parent_id) if request.parent_id is not None else None,
            reply_all=False,
            priority=request.priority,
            ack_required=request.ack_required,
            allow_partial=request.allow_partial,
            idempotency_key=request.idempotency_key,
            fingerprint=fingerprint(request) if request.idempotency_key is not None else b"",
            attachment_ids=tuple(request.attachment_ids),
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
    attachment_ids: AttachmentIds = Field(default_factory=list)
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
            body_index=await indexed_body(request.body_md),
            thread_key=None,
            parent_id=MessageId(request.message_id),
            reply_all=request.reply_all,
            priority=request.priority,
            ack_required=request.ack_required,
            allow_partial=request.allow_partial,
            idempotency_key=request.idempotency_key,
            fingerprint=fingerprint(request) if request.idempotency_key is not None else b"",
            attachment_ids=tuple(request.attachment_ids),
        ),
    )


async def _deliver(app: App, caller: Caller, send: Outgoing) -> SentMessage:
    try:
        delivered = await app.store.deliver(send)
    except (ProjectNotFound, AgentNotFound, RecipientsUnknown) as error:
        raise await _with_near_names(app, caller, send, error) from None
    except NoRecipients as error:
        await _with_near_names(app, caller, send, error)
        raise await with_contacts_asked(app, caller, error) from None
    except RecipientsRefused as error:
        raise await with_contacts_asked(app, caller, error) from None
    if delivered.mailboxes:
        await app.wakeups.publish(inbox_topics(delivered.mailboxes))
    if not delivered.missing:
        return delivered.sent
    try:
        return await _with_contact_ids(app, caller, send, delivered)
    except AgentMailError:
        return delivered.sent  # it is sent: whatever fails from here on is not an answer to that


async def _with_contact_ids(app: App, caller: Caller, send: Outgoing, delivered: Delivered) -> SentMessage:
    """The answer of a send that left some out, naming the contacts that are now asked for, for its retries too."""
    sent = delivered.sent.model_copy(update={"contact_ids": await _asked(app, caller, delivered.missing)})
    sender, _ = delivered.missing[0]
    scope = idempotency_scope(send, sender.agent)
    if scope is not None:
        async with app.store.write() as db:
            await db.idempotency.amend(scope, sent.model_dump_json())
    return sent


async def with_contacts_asked(app: App, caller: Caller, error: RecipientsRefused | NoRecipients) -> AgentMailError:
    """The error of a send, naming the contacts that are now asked for. Call it outside the transaction it ended."""
    if error.missing:
        error.data["contact_ids"] = await _asked(app, caller, error.missing)
    return error


async def _asked(app: App, caller: Caller, missing: tuple[tuple[Actor, Actor], ...]) -> list[int]:
    found = await request_contacts(app, caller, missing)
    pairs = [(sender.agent.id, recipient.agent.id) for sender, recipient in missing]
    return [found[pair] for pair in pairs if pair in found]


async def _with_near_names(
    app: App, caller: Caller, send: Outgoing, error: ProjectNotFound | AgentNotFound | RecipientsUnknown | NoRecipients
) -> AgentMailError:
    """The same error with the names that may have been meant, read after the send was refused."""
    async with app.store.read() as db:
        project = await db.projects.find(caller.team_id, send.project_ref)
        if project is None:
            return await project_not_found(db, caller, send.project_ref)
        if isinstance(error, AgentNotFound):
            return await agent_not_found(db, project, send.sender_name, is_own=True)
        known = await db.agents.names(project.id, NEAR_NAME_POOL)
    unknown = [
        (problem, address.name)
        for problem in error.data.get("recipients", ())
        if problem["code"] == "agent_not_found" and (address := parse(problem["name"])).is_in(project.slug)
    ]
    for problem, name in unknown[:NEAR_NAMES_FOR]:
        near = near_names(name, known)
        if near:
            problem["near"] = near
    return error
