"""Batches: sends that wait for the database at the same time share a transaction, team by team (DESIGN 6).

Nobody is delayed to make a batch larger: what gathers while the last ones run forms the next. No member is answered
before the commit that its answer rests on. A batch that fails for a reason that may lie in one member is run again one
by one. A send whose caller has gone is dropped while it waits, and completed once it is in a batch.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from functools import partial

from agent_mail_core.delivery import Delivered, Outgoing
from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, Overloaded, TransactionConflict
from agent_mail_core.ids import TeamId
from agent_mail_store.postgres.connections import Connections
from agent_mail_store.postgres.delivery import Outcome, Parcel, deliver_together
from agent_mail_store.postgres.message_search import stored_body
from agent_mail_store.postgres.writing import writing

BATCH_MEMBERS = 32
BATCH_CHARACTERS = 128 * 1024
"""Of bodies: one long message and its index fill a statement by themselves."""

BATCHES_A_TEAM = 2
SLOW = 0.05
"""Seconds after which a team's next batch no longer waits for the one under way: a long text is in it, or a lock.

Until then it gathers: a batch of sixteen costs two thirds of two of eight, which also wait for each other's locks.
"""

TICK = 0.002
"""Seconds by which the event loop's timers may be early."""

MAX_WAITING = 10_000
RETRIES = 3
LONG_BODY_PARTS = 2_000
"""Parts past which what is stored of a body is made on a thread: longer ones would hold up the event loop."""


class _Member:
    """A send on its way: waiting, in a batch, or between two tries."""

    __slots__ = ("answer", "deadline", "is_alone", "parcel", "tries")

    def __init__(self, parcel: Parcel, answer: "asyncio.Future[Delivered]", deadline: float) -> None:
        self.parcel = parcel
        self.answer = answer
        self.deadline = deadline
        self.is_alone = False
        self.tries = 0

    def settle(self, outcome: Outcome | BaseException) -> None:
        """Answer the caller, if it is still there."""
        if self.answer.done():
            return
        if isinstance(outcome, Delivered):
            self.answer.set_result(outcome)
        else:
            self.answer.set_exception(outcome)


class Batches:
    """The sends of this worker. `patience` is how long, in seconds, one waits for its batch to begin."""

    def __init__(self, connections: Connections, batches_at_once: int, patience: float) -> None:
        self._connections = connections
        self._batches_at_once = batches_at_once
        self._patience = patience
        self._waiting: dict[TeamId, deque[_Member]] = {}
        self._running: dict[TeamId, list[float]] = {}
        """When each team's batches under way began."""
        self._open: set[_Member] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def deliver(self, send: Outgoing) -> Delivered:
        """Decide and store a send, together with others of its team."""
        if self._is_closed:
            raise DatabaseUnavailable("The database is closed.")
        if len(self._open) >= MAX_WAITING:
            raise Overloaded
        if len(send.body_index.body_parts) > LONG_BODY_PARTS:
            body = await asyncio.to_thread(stored_body, send.body_index)
        else:
            body = stored_body(send.body_index)
        loop = asyncio.get_running_loop()
        member = _Member(Parcel(send, body), loop.create_future(), loop.time() + self._patience)
        self._open.add(member)
        member.answer.add_done_callback(lambda _: self._open.discard(member))
        self._enqueue(member)
        return await member.answer

    async def close(self) -> None:
        """Finish what waits and runs; nothing new begins."""
        self._is_closed = True
        while self._open:
            await asyncio.wait([member.answer for member in self._open])

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _enqueue(self, member: _Member) -> None:
        self._waiting.setdefault(member.parcel.send.team_id, deque()).append(member)
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(self._patience / 4, self._expire)
        self._start()

    def _expire(self) -> None:
        """Refuse those that have waited too long, also while every batch hangs on a server that does not answer."""
        now = asyncio.get_running_loop().time()
        for team_id, queue in list(self._waiting.items()):
            for member in queue:
                if member.deadline <= now:
                    member.settle(DatabaseUnavailable("The database was busy for too long."))
            left = deque(member for member in queue if not member.answer.done())
            if left:
                self._waiting[team_id] = left
            else:
                del self._waiting[team_id]
        again = asyncio.get_running_loop().call_later
        self._expiry = again(self._patience / 4, self._expire) if self._waiting else None

    # --- running ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Begin as many batches as may run, for the team that waits longest first."""
        loop = asyncio.get_running_loop()
        for team_id in list(self._waiting):
            if sum(map(len, self._running.values())) >= self._batches_at_once:
                return
            running = self._running.setdefault(team_id, [])
            if len(running) < BATCHES_A_TEAM and all(loop.time() - began >= SLOW for began in running):
                began = loop.time()
                running.append(began)
                members: list[_Member] = []
                patience = loop.call_at(began + SLOW + TICK, self._start)
                batch = loop.create_task(self._run(team_id, members), context=Context())
                batch.add_done_callback(partial(self._ended, team_id, began, patience, members))

    async def _run(self, team_id: TeamId, members: list[_Member]) -> list[Outcome]:
        members += self._next_members(team_id)
        if not members:
            return []
        async with writing(self._connections, is_shielded=True) as db:  # callers wait for the answer only
            return await deliver_together(db, team_id, [member.parcel for member in members])

    def _next_members(self, team_id: TeamId) -> Sequence[_Member]:
        """Take the next batch out of the queue. Of two sends with one idempotency key the second waits for the next."""
        queue = self._waiting.pop(team_id, deque())
        members: list[_Member] = []
        postponed: list[_Member] = []
        keys = set()
        characters = 0
        while queue and len(members) < BATCH_MEMBERS:
            member = queue[0]
            send = member.parcel.send
            characters += len(send.body_md)
            if members and (member.is_alone or characters > BATCH_CHARACTERS):
                break
            queue.popleft()
            if member.answer.done():  # its caller has gone
                continue
            key = send.principal, send.operation, send.idempotency_key
            if send.idempotency_key is not None and key in keys:
                postponed.append(member)
                continue
            keys.add(key)
            members.append(member)
            if member.is_alone:
                break
        queue.extendleft(reversed(postponed))
        if queue:
            self._waiting[team_id] = queue  # behind the other teams
        return members

    def _ended(
        self,
        team_id: TeamId,
        began: float,
        patience: asyncio.TimerHandle,
        members: Sequence[_Member],
        batch: "asyncio.Task[list[Outcome]]",
    ) -> None:
        patience.cancel()
        self._running[team_id].remove(began)
        if not self._running[team_id]:
            del self._running[team_id]
        error = DatabaseUnavailable() if batch.cancelled() else batch.exception()
        if error is None:
            for member, outcome in zip(members, batch.result(), strict=True):
                member.settle(outcome)
        elif isinstance(error, TransactionConflict):
            for member in members:
                self._try_again(member)
        elif isinstance(error, AgentMailError):
            for member in members:
                member.settle(type(error)(error.message))
        elif len(members) > 1:  # one of them cannot be stored, and only that one shall fail
            for member in members:
                self._run_alone(member)
        else:
            for member in members:
                member.settle(error)
        self._start()

    def _try_again(self, member: _Member) -> None:
        member.tries += 1
        if member.tries > RETRIES:
            member.settle(DatabaseUnavailable())
            return
        delay = random.uniform(0, 0.01 * 2**member.tries)  # noqa: S311 - jitter, not a secret
        asyncio.get_running_loop().call_later(delay, self._run_alone, member)

    def _run_alone(self, member: _Member) -> None:
        member.is_alone = True
        member.deadline = asyncio.get_running_loop().time() + self._patience
        self._enqueue(member)
