"""Posts: messages that operations send as a part of what they do, in their own transaction (`Transaction.deliver`).

Which agents get them is decided in `delivery`, as for every send. Idempotency is the operation's own (`kept_answers`):
a post never carries the key. A long body is split into words before the transaction, by `indexed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from agent_mail_core.agents import SYSTEM
from agent_mail_core.delivery import SUBJECT_LENGTH, Delivered, Outgoing, SendOperation
from agent_mail_core.errors import NoRecipients
from agent_mail_core.fields import PriorityWord
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import Caller, Role, Transaction
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.search_text import IndexedText, index_text

LONG_BODY = 8 * 1024
"""Characters past which a body is split into words on a thread, so that it does not hold up the event loop."""

_long_bodies = ThreadPoolExecutor(1, "agent-mail-words")
"""One at a time: each holds the interpreter for milliseconds at a stretch, and short sends go on beside it."""


async def indexed_body(body_md: str) -> IndexedText:
    """A body's words; of a long one they are found on a thread."""
    if len(body_md) > LONG_BODY:
        return await asyncio.get_running_loop().run_in_executor(_long_bodies, index_text, "", body_md)
    return index_text("", body_md)


@dataclass(frozen=True, slots=True)
class PostBody:
    """A text, and its words."""

    text: str
    index: IndexedText


async def indexed(text: str) -> PostBody:
    """Split it, off the event loop when it is long."""
    return PostBody(text, await indexed_body(text))


def short_body(text: str) -> PostBody:
    """Split what is known to be short."""
    return PostBody(text, index_text("", text))


@dataclass(frozen=True, slots=True)
class Post:
    """What is sent, and to whom."""

    operation: SendOperation
    sender_name: str
    subject: str
    """Cut to what a subject may have."""
    body: PostBody
    to: Sequence[str] = ()
    bcc: Sequence[str] = ()
    thread_key: str | None = None
    priority: PriorityWord = "normal"
    allow_partial: bool = False
    """Leave out whom the sender may not write to."""
    asks_for_contacts: bool = False
    is_of_service: bool = False
    """From Overseer or System. Nobody may say so for a name that a caller gave."""


async def send_post(db: Transaction, caller: Caller, project_slug: str, post: Post) -> Delivered:
    """Send in the caller's name. Raises what `deciding.decide` raises, and then has stored nothing of it."""
    return await db.deliver(
        Outgoing(
            team_id=caller.team_id,
            principal=caller.principal,
            is_admin=caller.role >= Role.admin,
            operation=post.operation,
            project_ref=project_slug,
            sender_name=post.sender_name,
            to=tuple(post.to),
            cc=(),
            bcc=tuple(post.bcc),
            subject=post.subject[:SUBJECT_LENGTH],
            body_md=post.body.text,
            body_index=post.body.index,
            thread_key=post.thread_key,
            parent_id=None,
            reply_all=False,
            priority=post.priority,
            ack_required=False,
            allow_partial=post.allow_partial,
            idempotency_key=None,
            fingerprint=b"",
            is_of_service=post.is_of_service,
            asks_for_contacts=post.asks_for_contacts,
        )
    )


async def send_to_reachable(db: Transaction, caller: Caller, project: ProjectRecord, post: Post) -> Delivered:
    """Send to those who can be reached; when that is nobody, to the sender itself, so that the thread has it."""
    if post.to:
        try:
            return await send_post(db, caller, project.slug, replace(post, allow_partial=True))
        except NoRecipients:
            pass
    return await send_post(db, caller, project.slug, replace(post, to=(post.sender_name,)))


async def tell(
    db: Transaction, caller: Caller, project: ProjectRecord, name: str, operation: SendOperation, about: str, text: str
) -> tuple[AgentId, ...]:
    """Write to an agent from System; whose inboxes have news. Who is retired is told nothing."""
    post = Post(operation, SYSTEM, about, short_body(text), to=(name,), allow_partial=True, is_of_service=True)
    try:
        return (await send_post(db, caller, project.slug, post)).mailboxes
    except NoRecipients:
        return ()
