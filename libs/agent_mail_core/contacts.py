"""Contacts: leave to write to an agent that does not take mail from everybody, asked for and given (SPEC §2, §3.3).

A request is directed, and one row for each direction; once accepted, each of the two may write to the other. A request,
a rejection and, if so agreed, an acceptance expire, and then are as if they had never been. Blocks are apart from all
that and beat it: whoever is blocked is refused, and is never told by what. Who may write is decided in `admission`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol

from agent_mail_core.addresses import elsewhere, show
from agent_mail_core.admission import Acquaintance, Pair
from agent_mail_core.agents import Actor
from agent_mail_core.events import EventKind, NewEvent
from agent_mail_core.ids import AgentId, ContactId, TeamId

PENDING_FOR = timedelta(days=30)
REJECTED_FOR = timedelta(hours=24)
"""How long a rejection stands before the same agent may ask again."""

RequestStatus = Literal["pending", "accepted", "rejected"]
ContactStatus = Literal["pending", "accepted", "rejected", "blocked"]
"""As one of the two sees it; `blocked` only who blocked."""

Direction = Literal["outgoing", "incoming", "blocked"]
"""Of an entry of an agent's list: who asked, or that it is a block."""


@dataclass(frozen=True, slots=True)
class ContactRequest:
    """That `agent_id` asked to write to `contact_id`, and how that stands."""

    agent_id: AgentId
    contact_id: AgentId
    status: RequestStatus
    reason: str | None
    ttl: timedelta | None
    """How long an acceptance lasts; None: for good."""
    requested_at: datetime
    decided_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ContactRecord:
    """A request as stored."""

    id: ContactId
    request: ContactRequest
    is_changed: bool
    """By the call that answers this."""
    was_pending: bool = False
    """The call that answers this found it unanswered."""


@dataclass(frozen=True, slots=True)
class NewContact:
    """A wish of `agent_id` to write to `contact_id`."""

    team_id: TeamId
    agent_id: AgentId
    contact_id: AgentId
    is_welcome: bool
    """The contact's policy accepts it at once."""
    reason: str | None = None
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ContactEntry:
    """A row of an agent's list: a live request either way, or a block of its own."""

    id: ContactId | None
    """None: a block."""
    name: str
    project_slug: str
    """Of the other agent."""
    direction: Direction
    status: ContactStatus
    reason: str | None
    requested_at: datetime | None
    decided_at: datetime | None
    """Of a block: since when."""
    expires_at: datetime | None


class Contacts(Protocol):
    """Store of contacts and blocks. What has expired by the database's clock is not there, for every method."""

    async def ask(self, wanted: Sequence[NewContact]) -> list[ContactRecord]:
        """Do what `asked` says for each wish, no two of which are of the same two agents; in their order.

        Atomic: calls about the same two agents, from either side, run one after another.
        """
        ...

    async def answer(self, agent_id: AgentId, asker_id: AgentId, accept: bool) -> ContactRecord | None:
        """Do what `answered` says with what `asker_id` asked of `agent_id`; None when it asked nothing. Like `ask`.

        What a contact that ends here admitted does not get through to `agent_id` in a send that commits later.
        """
        ...

    async def block(self, agent_id: AgentId, blocked_id: AgentId) -> tuple[datetime, bool]:
        """Block; since when, and whether it was not blocked before. Requests stay as they are.

        A send that commits later does not get through.
        """
        ...

    async def unblock(self, agent_id: AgentId, blocked_id: AgentId) -> bool:
        """Lift the block; whether there was one."""
        ...

    async def live(self, agent_id: AgentId, other_id: AgentId) -> ContactRecord | None:
        """What `standing` chooses of the live requests between two agents; None when there is none."""
        ...

    async def between(self, pairs: Collection[Pair]) -> dict[Pair, Acquaintance]:
        """What admission needs to know of each pair. One query, whatever their number."""
        ...

    async def page(
        self, agent_id: AgentId, status: ContactStatus | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ContactEntry]:
        """In order of (lower-cased name, slug, direction), above `after`. For a blocked agent the block alone."""
        ...


# --- the rules --------------------------------------------------------------------------------------------------------


def asked(
    new: NewContact, own: ContactRecord | None, other: ContactRecord | None, now: datetime
) -> ContactRequest | None:
    """What to store when an agent asks; None: nothing, as `standing` is the answer.

    `own` is what it asked before, `other` what the contact asked of it, both live. Asking back accepts, and then the
    shorter of both times counts. A rejection stands until it expires.
    """
    mine = own.request if own is not None else None
    theirs = other.request if other is not None else None
    if "accepted" in [request.status for request in (mine, theirs) if request is not None]:
        return None
    if theirs is not None and theirs.status == "pending":
        return _accepted(replace(theirs, ttl=_shorter(theirs.ttl, new.ttl)), now)
    if mine is not None:
        return _accepted(mine, now) if mine.status == "pending" and new.is_welcome else None
    made = ContactRequest(
        new.agent_id, new.contact_id, "pending", new.reason, new.ttl, now, decided_at=None, expires_at=now + PENDING_FOR
    )
    return _accepted(made, now) if new.is_welcome else made


def standing(own: ContactRecord | None, other: ContactRecord | None) -> ContactRecord | None:
    """Of the live requests between two agents, the one that counts: an accepted one, else the agent's own."""
    accepted = [record for record in (own, other) if record is not None and record.request.status == "accepted"]
    return accepted[0] if accepted else own or other


def answered(request: ContactRequest, accept: bool, now: datetime) -> ContactRequest | None:
    """What to store when the contact answers a live request; None: nothing, as it said so before.

    It may change its mind: a rejection becomes an acceptance, and rejecting ends a contact.
    """
    if accept:
        return None if request.status == "accepted" else _accepted(request, now)
    if request.status == "rejected":
        return None
    return replace(request, status="rejected", decided_at=now, expires_at=now + REJECTED_FOR)


def _accepted(request: ContactRequest, now: datetime) -> ContactRequest:
    expires_at = now + request.ttl if request.ttl is not None else None
    return replace(request, status="accepted", decided_at=now, expires_at=expires_at)


def _shorter(one: timedelta | None, two: timedelta | None) -> timedelta | None:
    return min((ttl for ttl in (one, two) if ttl is not None), default=None)


# --- what others need -------------------------------------------------------------------------------------------------


def contact_event(team_id: TeamId, by: Actor, other: Actor, record: ContactRecord) -> NewEvent:
    """What happened to a request: written in the project of `other`, who is to hear of it.

    It names both as either of them can address them: with their slugs when they are of two projects.
    """
    kinds: dict[RequestStatus, EventKind] = {
        "pending": "contact.requested",
        "accepted": "contact.accepted",
        "rejected": "contact.rejected",
    }
    names = {actor.agent.id: _address(actor, by if actor is other else other) for actor in (by, other)}
    request = record.request
    data = {"contact_id": record.id, "agent": names[request.agent_id], "contact": names[request.contact_id]}
    return NewEvent(kinds[request.status], team_id, other.project.id, by.agent.id, data=data)


def _address(actor: Actor, seen_by: Actor) -> str:
    return show(actor.agent.name, elsewhere(actor.project.slug, seen_by.project.slug))
