"""Leases: what reservations and build slots share: a project's lock, its fences, and queues (SPEC §3.6, DESIGN 8).

Whoever grants, moves or frees a lease of a project holds its lease lock, which is the first lock of a transaction. A
fence only grows within a project. A queue is kept in order of arrival. Who asked and waits has a place for as long as
it asks at least once a minute, and what becomes free is its alone for five seconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Generic, Literal, Protocol, TypeVar

from pydantic import Field

from agent_mail_core.agents import Actor, acting_agent, still_acting
from agent_mail_core.errors import AgentRetired, TransactionConflict
from agent_mail_core.fields import Line
from agent_mail_core.ids import AgentId, ProjectId
from agent_mail_core.ports import App, Caller, Transaction

T = TypeVar("T")

TICKET_TTL = timedelta(seconds=60)
"""A place in a queue is lost when its agent has not asked for so long."""

HOLD_TTL = timedelta(seconds=5)
"""What became free is kept for the head of its queue for so long."""

MAX_TICKETS = 200
"""Places in a project's queues for reservations, and as many in those for slots."""

MAX_WAIT_SECONDS = 50
LOOK_AGAIN_SECONDS = 5.0
"""A waiting call looks by itself this often, should a wake-up have got lost."""

SOONEST_LOOK_SECONDS = 0.02
TRIES = 4

TicketKind = Literal["reservation", "slot"]
WaitSeconds = Annotated[
    float,
    Field(ge=0, le=MAX_WAIT_SECONDS, strict=False, description="Queue and wait for it this long"),
]
LeaseReason = Annotated[Line, Field(min_length=1, max_length=500)]


KEPT_PLACE_HINT = "Call again with the same arguments within 60 seconds: your place in the queue is kept."


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in a queue. Ids are in order of arrival."""

    id: int
    agent_id: AgentId
    agent_name: str
    wanted: str
    """What is asked for, as canonical JSON."""


class Leases(Protocol):
    """Store of the lease locks, fences and queues of projects."""

    async def lock(self, project_id: ProjectId) -> int:
        """Hold the project's lease lock until the transaction ends; its version.

        The version changes whenever a reservation, or a place in a queue for one, is added.
        """
        ...

    async def fences(self, project_id: ProjectId, count: int) -> list[int]:
        """As many new fences, ascending, each higher than all before. Under the lock."""
        ...

    async def change(self, project_id: ProjectId) -> None:
        """Give the project another version. Under the lock."""
        ...

    async def tickets(self, project_id: ProjectId, kind: TicketKind) -> list[Ticket]:
        """The places whose agents asked within TICKET_TTL, in order of arrival."""
        ...

    async def ask(
        self, project_id: ProjectId, agent_id: AgentId, kind: TicketKind, wanted: str, may_join: bool
    ) -> tuple[Ticket | None, bool]:
        """Note that the agent asks, and whether it is new in the queue; who does not ask any more loses its place.

        None for who has no place, and may not join or finds MAX_TICKETS there. Under the lock.
        """
        ...

    async def leave(self, ticket_id: int) -> None:
        """Give up a place. Under the lock."""
        ...

    async def leave_all(self, agent_id: AgentId) -> None:
        """Give up all places of an agent. Under the lock."""
        ...


LEASES = "leases:"


def leases_topic(project_id: ProjectId) -> str:
    """The wake-up topic of a project's leases: published whenever one of them may have become free."""
    return f"{LEASES}{project_id}"


def leases_of(topic: str) -> ProjectId | None:
    """Of which project's leases a wake-up topic tells; None for other topics."""
    return ProjectId(int(topic.removeprefix(LEASES))) if topic.startswith(LEASES) else None


async def lock_leases(app: App, db: Transaction, caller: Caller, project_ref: str, name: str) -> Actor:
    """The agent as which the caller acts, under its project's lease lock."""
    actor = await acting_agent(app, db, caller, project_ref, name)
    await db.leases.lock(actor.project.id)
    return actor


async def lease_holder(app: App, db: Transaction, caller: Caller, known: Actor) -> int:
    """Take the lease lock of an agent's project; its version. Raises AgentRetired: who is retired holds no leases.

    `known` is the agent as it was found before; under the lock it is looked at again.
    """
    version = await db.leases.lock(known.project.id)
    refuse_retired(await still_acting(app, db, caller, known))
    return version


def refuse_retired(actor: Actor) -> None:
    """Raise AgentRetired if the agent is."""
    if actor.agent.retired_at is not None:
        raise AgentRetired(agent_name=actor.agent.name, suggestion="register_agent")


# --- waiting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What one look for a lease found."""

    answer: T
    is_over: bool
    """Whether there is nothing to wait for: it is granted, or cannot become so."""
    next_look: timedelta | None = None
    """When something in the way ends by itself, which nobody is woken for."""


async def wait_for_lease(
    app: App,
    caller: Caller,
    actor: Actor,
    wait: float,
    look: Callable[[bool], Awaitable[Look[T]]],
) -> T:
    """Look until it is over, at most `wait` seconds. Between two looks no connection is held.

    `look` is told whether it is the first or the last look, which keep the caller's place in the queue; those between
    need not write. A wait ends early on a draining server.
    """
    if wait <= 0:
        return (await insist(lambda: look(True))).answer
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    async with app.waiters.place(caller.team_id), app.wakeups.subscribe(leases_topic(actor.project.id)) as news:
        is_first = True
        while True:
            remaining = deadline - loop.time()
            is_last = remaining <= 0 or app.is_draining()
            if not is_first:
                async with app.store.read() as db:
                    refuse_retired(await still_acting(app, db, caller, actor))
            found = await insist(lambda: look(is_first or is_last))  # noqa: B023 - awaited in the same turn
            if found.is_over or is_last:
                return found.answer
            is_first = False
            patience = min(max(deadline - loop.time(), 0), LOOK_AGAIN_SECONDS)
            if found.next_look is not None:
                patience = min(patience, max(found.next_look.total_seconds(), SOONEST_LOOK_SECONDS))
            await news.wait(patience)
            app.presence.saw(actor.agent.id)


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do it again when it lost a race, as calls that do not wait are done again as a whole (DESIGN 5)."""
    for attempt in range(1, TRIES):
        try:
            return await work()
        except TransactionConflict:
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
    return await work()
