"""prepare_thread: what an agent should know before it goes on with a thread, in one call."""

from __future__ import annotations

from pydantic import Field

from agent_mail_core.agents import acting_agent
from agent_mail_core.fields import AgentName, Line, ProjectRef, Request, Result
from agent_mail_core.inbox_items import InboxItem
from agent_mail_core.mailboxes import InboxFilter
from agent_mail_core.messages import Message, by_message, message_fields
from agent_mail_core.ports import App, Caller
from agent_mail_core.summarizing import ThreadSummary, may_be_summed_up, summaries_of, summary_seen_from
from agent_mail_core.threads import the_addressed_thread

LAST_MESSAGES = 5
LAST_BODY_CHARACTERS = 2000
MOST_UNREAD = 50
WAIT_SECONDS = 3.0
"""For a summary that has to be made."""


class PrepareThread(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    thread_id: Line = Field(min_length=1, max_length=229)


class LastMessage(Message):
    is_cut: bool
    """Whether `body_md` is only the beginning: get_message has it all."""


class UnreadMessage(Result):
    message_id: int
    sender_name: str
    subject: str
    ack_required: bool


class PreparedThread(Result):
    summary: ThreadSummary | None = None
    """None: in another project, and not all of its messages are to or from you."""
    last_messages: list[LastMessage]
    """Oldest first."""
    unread: list[UnreadMessage]
    """What you have not read of the thread, oldest first."""
    more_unread: bool


async def prepare_thread(app: App, caller: Caller, request: PrepareThread) -> PreparedThread:
    """Catch up on a thread before you go on with it: its summary, its last messages, and what you have not read."""
    async with app.store.read() as db:
        actor = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        asked, me = actor.project, actor.agent.id
        home, thread = await the_addressed_thread(db, caller, asked, request.thread_id, me)
        newest = await db.messages.newest_of_thread(thread.id, LAST_MESSAGES, me if home.id != asked.id else None)
        bodies = await db.summaries.bodies([record.id for record in newest], LAST_BODY_CHARACTERS + 1)
        states = by_message(await db.messages.recipients([record.id for record in newest]))
        wanted = InboxFilter(unread_only=True, thread_id=thread.id)
        unread = await db.mailboxes.after(me, 0, wanted, False, MOST_UNREAD + 1)
        is_for_me = await may_be_summed_up(db, asked, thread, me)
    summary = None
    if is_for_me:
        (found,) = await summaries_of(app, caller, [thread], WAIT_SECONDS, is_refresh=False)
        async with app.store.read() as db:
            if await may_be_summed_up(db, asked, thread, me):  # as it is now: it may sum up what came meanwhile
                summary = summary_seen_from(asked, home, found)
    messages = []
    for record in reversed(newest):
        fields = message_fields(record, states.get(record.id, ()), me, asked.slug)
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
