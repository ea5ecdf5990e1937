"""prepare_thread: what an agent should know before it goes on with a thread, in one call."""

from __future__ import annotations

from pydantic import Field

from agent_mail_core.agents import acting_agent
from agent_mail_core.fields import AgentName, Line, ProjectRef, Request, Result
from agent_mail_core.inbox_items import InboxItem
from agent_mail_core.mailboxes import InboxFilter
from agent_mail_core.messages import Message, by_message, message_fields
from agent_mail_core.ports import App, Caller
from agent_mail_core.summarizing import ThreadSummary, summaries_of
from agent_mail_core.threads import the_thread

LAST_MESSAGES = 5
LAST_BODY_CHARACTERS = 2000
MOST_UNREAD = 50
WAIT_SECONDS = 3.0
"""For a summary that has to be made."""


class PrepareThread(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    thread_id: Line = Field(min_length=1, max_length=128)


class LastMessage(Message):
    is_cut: bool
    """Whether `body_md` is only the beginning: get_message has it all."""


class UnreadMessage(Result):
    message_id: int
    sender_name: str
    subject: str
    ack_required: bool


class PreparedThread(Result):
    summary: ThreadSummary
    last_messages: list[LastMessage]
    """Oldest first."""
    unread: list[UnreadMessage]
    """What you have not read of the thread, oldest first."""
    more_unread: bool


async def prepare_thread(app: App, caller: Caller, request: PrepareThread) -> PreparedThread:
    """Catch up on a thread before you go on with it: its summary, its last messages, and what you have not read."""
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        thread = await the_thread(db, actor.project, request.thread_id)
        newest = await db.messages.newest_of_thread(thread.id, LAST_MESSAGES)
        bodies = await db.summaries.bodies([record.id for record in newest], LAST_BODY_CHARACTERS + 1)
        states = by_message(await db.messages.recipients([record.id for record in newest]))
        wanted = InboxFilter(unread_only=True, thread_id=thread.id)
        unread = await db.mailboxes.after(actor.agent.id, 0, wanted, False, MOST_UNREAD + 1)
    (summary,) = await summaries_of(app, caller, actor.project, [thread], WAIT_SECONDS, is_refresh=False)
    messages = []
    for record in reversed(newest):
        fields = message_fields(record, states.get(record.id, ()), actor.agent.id)
        body = bodies.get(record.id, "")
        fields["body_md"] = body[:LAST_BODY_CHARACTERS]
        messages.append(LastMessage(**fields, is_cut=len(body) > LAST_BODY_CHARACTERS))
    return PreparedThread(
        summary=summary,
        last_messages=messages,
        unread=[_unread(item) for item in unread.items[:MOST_UNREAD]],
        more_unread=len(unread.items) > MOST_UNREAD,
    )


def _unread(item: InboxItem) -> UnreadMessage:
    return UnreadMessage(
        message_id=item.message_id,
        sender_name=item.sender_name,
        subject=item.subject,
        ack_required=item.ack_required,
    )
