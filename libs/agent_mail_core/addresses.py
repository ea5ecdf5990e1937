"""Addresses: how agents and threads are named from inside a project and from outside of it (SPEC §2, §3.3 rule 4).

Whoever reads is shown a name as it would write it: bare inside the project that it asked, else `Name@slug`; a thread's
key the same way, `KEY@slug`. This module is where both directions of that are written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from agent_mail_core.agents import SERVICE_POLICIES, Actor, agent_not_found
from agent_mail_core.errors import AgentNotFound
from agent_mail_core.fields import RESERVED_THREAD_KEYS, THREAD_KEY, name_key
from agent_mail_core.ports import Caller, Transaction
from agent_mail_core.projects import ProjectRecord

DELETED = "-deleted"
"""Shown for the slug of a deleted project. What its row has instead lets its rows be found, and is for nobody."""


def _thread_ref(text: str) -> str:
    if text.partition("@")[0].lower() in RESERVED_THREAD_KEYS:
        raise PydanticCustomError("reserved_name", "this thread id is reserved")
    return text


ThreadRef = Annotated[
    str,
    Field(pattern=THREAD_KEY.replace("$", "(@[a-z0-9-]{1,100})?$")),
    AfterValidator(_thread_ref),
]
"""A thread's key, or `KEY@slug` for one that lives in another project."""


@dataclass(frozen=True, slots=True)
class Address:
    """A name, or a thread's key, and the slug after its `@`; no slug: of the project at hand."""

    name: str
    slug: str | None

    def is_in(self, project_slug: str) -> bool:
        """Whether it means that project, to whoever asks in it."""
        return self.slug is None or self.slug == project_slug


def parse(text: str) -> Address:
    """Split at the first `@`, which neither a name nor a key can hold. An empty slug is one that no project has."""
    name, at, slug = text.partition("@")
    return Address(name, slug if at else None)


def show(name: str, elsewhere: str | None) -> str:
    """A name or key for a reader; `elsewhere`: the slug of its project, when that is not the one that was asked."""
    if elsewhere is None:
        return name
    return f"{name}@{DELETED if elsewhere.startswith('-') else elsewhere}"


def elsewhere(project_slug: str, asked_slug: str) -> str | None:
    """What `show` needs, from the slug of the project where something is and that of the project that was asked."""
    return None if project_slug == asked_slug else project_slug


def seen_from(asked_slug: str, home_slug: str, text: str) -> str:
    """A name or key in the project that was asked, given as it is shown in the project `home_slug`."""
    if asked_slug == home_slug:
        return text
    address = parse(text)
    return show(address.name, elsewhere(address.slug or home_slug, asked_slug))


def is_service(name: str) -> bool:
    """Whether an agent of that name, in any case, is Overseer or System."""
    return name_key(name) in map(name_key, SERVICE_POLICIES)


async def the_addressed(db: Transaction, caller: Caller, asked: ProjectRecord, text: str) -> Actor:
    """The agent that an address means to whoever asks in the project `asked`.

    Raises AgentNotFound, with near names for this project only: an agent that another project does not have, and a
    project that is not there or not for this caller, answer alike.
    """
    address = parse(text)
    if address.is_in(asked.slug):
        _, agent = await db.agents.find(caller.team_id, asked.slug, address.name)
        if agent is None:
            raise _perhaps_elsewhere(await agent_not_found(db, asked, address.name))
        return Actor(asked, agent)
    project, agent = await db.agents.find(caller.team_id, address.slug or "", address.name)
    # `find` takes a human key too, and an address does not.
    if project is None or agent is None or project.slug != address.slug:
        raise AgentNotFound(f"There is no agent {text!r}.", agent_name=text, suggestion="list_agents")
    return Actor(project, agent)


def _perhaps_elsewhere(error: AgentNotFound) -> AgentNotFound:
    """The same error; where no name is near, it says how agents of other projects are addressed."""
    if "near" not in error.data:
        error.data["suggestion"] = "list_agents, or Name@slug for an agent of another project"
    return error
