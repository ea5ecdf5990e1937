"""An agent's contact book: asking for contacts, answering, blocking, listing, and the policy for everybody else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from agent_mail_core.addresses import elsewhere, is_service, parse, show, the_addressed
from agent_mail_core.admission import Pair, is_closed, welcomes
from agent_mail_core.agents import Actor, Agent, AgentChanges, acting_agent, agent_result, profile_data
from agent_mail_core.contact_requests import tell_of_answer, tell_of_request
from agent_mail_core.contacts import ContactEntry, ContactRecord, ContactStatus, Direction, NewContact, contact_event
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import AgentRetired, ContactBlocked, ContactNotFound, ContactRefused, InvalidContact
from agent_mail_core.events import NewEvent
from agent_mail_core.fields import (
    Address,
    AgentName,
    ContactPolicy,
    Cursor,
    Line,
    PageSize,
    ProjectRef,
    Request,
    Result,
)
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import App, Caller, Transaction, inbox_topics


class Contact(Result):
    """A contact as one of its two agents sees it."""

    contact_id: int | None = None
    contact_name: str
    """As this agent addresses it."""
    direction: Direction | None = None
    """`outgoing`: this agent asked; `incoming`: it was asked."""
    status: ContactStatus | Literal["none"]
    reason: str | None = None
    requested_at: datetime | None = None
    decided_at: datetime | None = None
    expires_at: datetime | None = None
    """When it is as if it had never been asked; a rejection's: when asking again makes sense."""


def _shown(me: Actor, other: Actor, record: ContactRecord) -> Contact:
    request = record.request
    return Contact(
        contact_id=record.id,
        contact_name=_address(me, other),
        direction="outgoing" if request.agent_id == me.agent.id else "incoming",
        status=request.status,
        reason=request.reason,
        requested_at=request.requested_at,
        decided_at=request.decided_at,
        expires_at=request.expires_at,
    )


def _address(me: Actor, other: Actor) -> str:
    return show(other.agent.name, elsewhere(other.project.slug, me.project.slug))


class _OfContact(Request):
    project_slug: ProjectRef
    agent_name: AgentName = Field(description="Your agent name")
    contact_name: Address = Field(description="Name, or Name@slug in another project")


async def _both(app: App, db: Transaction, caller: Caller, request: _OfContact) -> tuple[Actor, Actor]:
    """The acting agent, not retired, and the other one, which is neither itself nor Overseer nor System."""
    me = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
    if me.agent.retired_at is not None:
        raise AgentRetired(agent_name=me.agent.name, suggestion="register_agent")
    if is_service(parse(request.contact_name).name):
        raise InvalidContact(contact_name=request.contact_name)
    other = await the_addressed(db, caller, me.project, request.contact_name)
    if other.agent.id == me.agent.id:
        raise InvalidContact(contact_name=request.contact_name)
    return me, other


# --- add_contact ------------------------------------------------------------------------------------------------------


class AddContact(_OfContact):
    reason: Line | None = Field(None, max_length=500, description="Shown to the one you ask")
    ttl_seconds: int | None = Field(None, ge=60, le=366 * 86400, description="How long it lasts once accepted")


async def add_contact(app: App, caller: Caller, request: AddContact) -> Contact:
    """Ask to write to an agent: accepted at once, or pending until it answers, as its policy says. You are told."""
    told: tuple[AgentId, ...] = ()
    async with app.store.write() as db:
        me, other = await _both(app, db, caller, request)
        if other.agent.retired_at is not None:
            raise AgentRetired(agent_name=request.contact_name, suggestion="list_agents")
        to, back = Pair(me.agent.id, other.agent.id), Pair(other.agent.id, me.agent.id)
        known = await db.contacts.between([to, back])
        if known[back].is_blocked:
            raise ContactBlocked(contact_name=_address(me, other), suggestion="unblock_contact")
        policy = other.agent.contact_policy
        if is_closed(policy, known[to]):
            raise ContactRefused(contact_name=_address(me, other))
        is_near = me.project.id == other.project.id
        wish = NewContact(
            team_id=caller.team_id,
            agent_id=me.agent.id,
            contact_id=other.agent.id,
            is_welcome=welcomes(policy, is_near, known[to].is_same_product),
            reason=request.reason,
            ttl=timedelta(seconds=request.ttl_seconds) if request.ttl_seconds is not None else None,
        )
        (record,) = await db.contacts.ask([wish])
        if record.is_changed:
            await db.events.add(contact_event(caller.team_id, me, other, record))
            told = await tell_of_request(db, caller, me, other, record)
    await app.wakeups.publish(inbox_topics(told))
    return _shown(me, other, record)


# --- respond_contact --------------------------------------------------------------------------------------------------


class RespondContact(_OfContact):
    accept: bool = Field(description="false rejects, and ends a contact that was accepted")


async def respond_contact(app: App, caller: Caller, request: RespondContact) -> Contact:
    """Answer an agent that asked to be your contact, as mail and list_contacts tell you. It is told."""
    told: tuple[AgentId, ...] = ()
    async with app.store.write() as db:
        me, other = await _both(app, db, caller, request)
        to, back = Pair(me.agent.id, other.agent.id), Pair(other.agent.id, me.agent.id)
        known = await db.contacts.between([to, back])
        if request.accept and known[back].is_blocked:
            raise ContactBlocked(contact_name=_address(me, other), suggestion="unblock_contact")
        record = await db.contacts.answer(me.agent.id, other.agent.id, request.accept)
        if record is None:
            raise ContactNotFound(contact_name=_address(me, other), suggestion="list_contacts")
        if record.is_changed:
            await db.events.add(contact_event(caller.team_id, me, other, record))
        if record.was_pending and not known[to].is_blocked:
            told = await tell_of_answer(db, caller, me, other, record)
    await app.wakeups.publish(inbox_topics(told))
    return _shown(me, other, record)


# --- list_contacts ----------------------------------------------------------------------------------------------------


class ListContacts(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    status: ContactStatus | None = None
    limit: PageSize = 20
    cursor: Cursor | None = None


class ContactPage(Result):
    contacts: list[Contact]
    next_cursor: str | None = None


async def list_contacts(app: App, caller: Caller, request: ListContacts) -> ContactPage:
    """List your agent's contacts A-Z: whom it asked, who asked it, and whom it blocked."""
    async with app.store.read() as db:
        me = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        scope = list_scope("list_contacts", caller.team_id, me.agent.id, request.status)
        last = open_list_cursor(app.store.identity, scope, request.cursor, str, str, str)
        after = (last[0], last[1], last[2]) if last else None
        rows = await db.contacts.page(me.agent.id, request.status, after, request.limit + 1)
    page = rows[: request.limit]
    return ContactPage(
        contacts=[_listed(entry, me) for entry in page],
        next_cursor=(
            list_cursor(app.store.identity, scope, [page[-1].name.lower(), page[-1].project_slug, page[-1].direction])
            if len(rows) > len(page)
            else None
        ),
    )


def _listed(entry: ContactEntry, me: Actor) -> Contact:
    return Contact(
        contact_id=entry.id,
        contact_name=show(entry.name, elsewhere(entry.project_slug, me.project.slug)),
        direction=entry.direction,
        status=entry.status,
        reason=entry.reason,
        requested_at=entry.requested_at,
        decided_at=entry.decided_at,
        expires_at=entry.expires_at,
    )


# --- block_contact, unblock_contact -----------------------------------------------------------------------------------


class BlockContact(_OfContact):
    pass


async def block_contact(app: App, caller: Caller, request: BlockContact) -> Contact:
    """Let an agent write to yours no more, whatever else was agreed. It is not told; you may still write to it."""
    async with app.store.write() as db:
        me, other = await _both(app, db, caller, request)
        blocked_at, is_new = await db.contacts.block(me.agent.id, other.agent.id)
        if is_new:
            await db.events.add(_silent("contact.blocked", me))
    return Contact(contact_name=_address(me, other), direction="blocked", status="blocked", decided_at=blocked_at)


class UnblockContact(_OfContact):
    pass


async def unblock_contact(app: App, caller: Caller, request: UnblockContact) -> Contact:
    """Lift a block of yours: what was agreed before it holds again."""
    async with app.store.write() as db:
        me, other = await _both(app, db, caller, request)
        if await db.contacts.unblock(me.agent.id, other.agent.id):
            await db.events.add(_silent("contact.unblocked", me))
        record = await db.contacts.live(me.agent.id, other.agent.id)
    return _shown(me, other, record) if record is not None else Contact(contact_name=_address(me, other), status="none")


def _silent(kind: Literal["contact.blocked", "contact.unblocked"], me: Actor) -> NewEvent:
    """Everybody in the project may read events, and nobody but the blocker is to know of a block: it says not who."""
    return NewEvent(kind, me.project.team_id, me.project.id)


# --- set_contact_policy -----------------------------------------------------------------------------------------------


class SetContactPolicy(Request):
    project_slug: ProjectRef
    agent_name: AgentName
    policy: ContactPolicy = Field(
        description="open: the team; auto: project and product; contacts_only: accepted contacts; block_all: nobody"
    )


async def set_contact_policy(app: App, caller: Caller, request: SetContactPolicy) -> Agent:
    """Set who may write to your agent without being its contact."""
    async with app.store.write() as db:
        me = await acting_agent(app, db, caller, request.project_slug, request.agent_name)
        if me.agent.retired_at is not None:
            raise AgentRetired(agent_name=me.agent.name, suggestion="register_agent")
        agent = await db.agents.update(me.agent.id, AgentChanges(contact_policy=request.policy))
        await db.events.add(
            NewEvent("agent.updated", caller.team_id, me.project.id, agent.id, data=profile_data(agent))
        )
    return agent_result(agent)
