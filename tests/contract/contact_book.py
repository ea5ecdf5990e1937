"""The contact books of a project, so that a test reads as what happens: `await book.add("Ann", "Bob@depot")`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent_mail_core.agents import Actor, Agent, the_agent
from agent_mail_core.contact_book import (
    AddContact,
    BlockContact,
    Contact,
    ContactPage,
    ListContacts,
    RespondContact,
    SetContactPolicy,
    UnblockContact,
    add_contact,
    block_contact,
    list_contacts,
    respond_contact,
    set_contact_policy,
    unblock_contact,
)
from agent_mail_core.fields import ContactPolicy
from tests.contract.office import Office


@dataclass(frozen=True)
class Book:
    """Each method calls a use case for the caller and in the project of `office`."""

    office: Office

    def _fields(self, agent_name: str, **more: Any) -> dict[str, Any]:
        return {"project_slug": self.office.slug, "agent_name": agent_name, **more}

    async def add(self, agent_name: str, contact_name: str, **more: Any) -> Contact:
        request = AddContact(**self._fields(agent_name, contact_name=contact_name, **more))
        return await add_contact(self.office.app, self.office.caller, request)

    async def respond(self, agent_name: str, contact_name: str, accept: bool) -> Contact:
        request = RespondContact(**self._fields(agent_name, contact_name=contact_name, accept=accept))
        return await respond_contact(self.office.app, self.office.caller, request)

    async def block(self, agent_name: str, contact_name: str) -> Contact:
        request = BlockContact(**self._fields(agent_name, contact_name=contact_name))
        return await block_contact(self.office.app, self.office.caller, request)

    async def unblock(self, agent_name: str, contact_name: str) -> Contact:
        request = UnblockContact(**self._fields(agent_name, contact_name=contact_name))
        return await unblock_contact(self.office.app, self.office.caller, request)

    async def policy(self, agent_name: str, policy: ContactPolicy) -> Agent:
        request = SetContactPolicy(**self._fields(agent_name, policy=policy))
        return await set_contact_policy(self.office.app, self.office.caller, request)

    async def page(self, agent_name: str, **more: Any) -> ContactPage:
        return await list_contacts(
            self.office.app, self.office.caller, ListContacts(**self._fields(agent_name, **more))
        )

    async def all(self, agent_name: str, **more: Any) -> list[tuple[str, str | None, str]]:
        """Name, direction and status of the agent's contacts, as listed."""
        page = await self.page(agent_name, limit=100, **more)
        assert page.next_cursor is None
        return [(contact.contact_name, contact.direction, contact.status) for contact in page.contacts]

    async def actor(self, agent_name: str) -> Actor:
        """The agent and its project as stored."""
        async with self.office.app.store.read() as db:
            return await the_agent(db, self.office.caller, self.office.slug, agent_name)
