"""Contact requests on their way: what a send has to ask for, and the mail from System by which both sides hear of it.

A request is told once, to whom it was asked of, and its first answer once, to whom asked. What changes later shows in
list_contacts. The mail is a part of the transaction that makes or answers the request.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from agent_mail_core.agents import Actor
from agent_mail_core.contacts import ContactRecord, NewContact, contact_event
from agent_mail_core.delivery import shown
from agent_mail_core.front_matter import wire_time
from agent_mail_core.ids import AgentId, ContactId
from agent_mail_core.leases import insist
from agent_mail_core.ports import App, Caller, Transaction, inbox_topics
from agent_mail_core.posts import tell


async def request_contacts(
    app: App, caller: Caller, wanted: Collection[tuple[Actor, Actor]]
) -> dict[tuple[AgentId, AgentId], ContactId]:
    """Ask for the contacts that a send found missing, as (sender, recipient), in a transaction of its own.

    The ids of the requests that now wait for an answer, by sender and recipient: those made before are not made again.
    """
    pairs = {frozenset((sender.agent.id, recipient.agent.id)): (sender, recipient) for sender, recipient in wanted}
    if not pairs:
        return {}
    records, mailboxes = await insist(lambda: _request(app, caller, list(pairs.values())))
    await app.wakeups.publish(inbox_topics(mailboxes))
    return {
        (record.request.agent_id, record.request.contact_id): record.id
        for record in records
        if record.request.status == "pending"
    }


async def _request(
    app: App, caller: Caller, pairs: list[tuple[Actor, Actor]]
) -> tuple[list[ContactRecord], list[AgentId]]:
    wishes = [NewContact(caller.team_id, sender.agent.id, recipient.agent.id, False) for sender, recipient in pairs]
    mailboxes: list[AgentId] = []
    async with app.store.write() as db:
        records = await db.contacts.ask(wishes)
        changed = [(*pair, record) for pair, record in zip(pairs, records, strict=True) if record.is_changed]
        await db.events.add(*(contact_event(caller.team_id, *each) for each in changed))
        # In the order of DESIGN 5, as each of them locks a mailbox.
        for sender, recipient, record in sorted(changed, key=lambda each: each[1].agent.id):
            mailboxes += await tell_of_request(db, caller, sender, recipient, record)
    return records, mailboxes


async def tell_of_request(
    db: Transaction, caller: Caller, asker: Actor, other: Actor, record: ContactRecord
) -> tuple[AgentId, ...]:
    """Tell the other one what an agent's asking came to, where that is news to it; whose inboxes have news.

    A contact that its policy accepted at once is none: there is nothing to answer.
    """
    request = record.request
    if request.agent_id == other.agent.id:  # asked back, which is an answer
        return await tell_of_answer(db, caller, asker, other, record)
    if request.status != "pending":
        return ()
    slug, name = other.project.slug, shown(asker, other.project.slug)
    parts = [f"{name} asks for leave to write to you."]
    if request.reason is not None:
        # Indented, so that no character of it means anything in Markdown.
        parts.append(f"The reason given:\n\n    {request.reason}")
    call = f'project_slug="{slug}", agent_name="{other.agent.name}", contact_name="{name}", accept=true'
    parts.append("A reply to this mail reaches nobody.")
    parts.append(f"Answer with this call, or with accept=false{_until(request.expires_at)}:")
    parts.append(f"    respond_contact({call})")
    about = f"{name} asks to be your contact"
    return await tell(db, caller, other.project, other.agent.name, "add_contact", about, "\n\n".join(parts))


async def tell_of_answer(
    db: Transaction, caller: Caller, answerer: Actor, asker: Actor, record: ContactRecord
) -> tuple[AgentId, ...]:
    """Tell who asked for a contact how that was answered; whose inboxes have news."""
    request, name = record.request, shown(answerer, asker.project.slug)
    if request.status == "accepted":
        about = f"{name} accepted your contact request"
        text = f"You may write to {name}{_until(request.expires_at)}."
    else:
        about = f"{name} turned down your contact request"
        text = f"{name} takes neither mail nor another request from you{_until(request.expires_at)}."
    return await tell(db, caller, asker.project, asker.agent.name, "respond_contact", about, text)


def _until(expires_at: datetime | None) -> str:
    return f" until {wire_time(expires_at)}" if expires_at is not None else ""
