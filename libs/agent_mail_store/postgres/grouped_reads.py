"""Reads of several requests as one statement: what is asked while others are being answered is asked together.

Under load most of a short read's price is the way to the server and back, and waking its process: sixteen looks at an
inbox cost a half of what they cost one by one, sixteen looks for an agent a quarter. Nobody is delayed to make a group
larger. Each answer comes from a snapshot that is taken after its question.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from agent_mail_core.errors import Overloaded
from agent_mail_store.postgres.connections import Connections
from agent_mail_store.postgres.statements import Reading, Statements

AT_ONCE = 2
"""Groups that one worker has under way: while the server answers one, the next gathers."""

MOST_TOGETHER = 16
MAX_WAITING = 10_000

Q = TypeVar("Q")
A = TypeVar("A")


class GroupedReads(Generic[Q, A]):
    """One kind of question. `ask` answers several, in their order."""

    def __init__(
        self, connections: Connections, ask: Callable[[Statements, Sequence[Q]], Awaitable[Sequence[A]]]
    ) -> None:
        self._connections = connections
        self._ask = ask
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, question: Q) -> A:
        """The answer. Never call it while holding a connection: all could be held by those who wait here."""
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, answer))
        if self._under_way < AT_ONCE:
            self._under_way += 1
            task = loop.create_task(self._answer_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                together = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
                group = [(question, answer) for question, answer in together if not answer.done()]
                if group:
                    await self._answer(group)
        finally:
            self._under_way -= 1  # in the same turn of the event loop as the last look at who waits

    async def _answer(self, group: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            found = await self._asked([question for question, _ in group])
        except Exception as error:  # noqa: BLE001 - it is raised where the answers are awaited
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), one in zip(group, found, strict=True):
            if not answer.done():
                answer.set_result(one)

    async def _asked(self, questions: Sequence[Q]) -> Sequence[A]:
        block = Reading(self._connections)
        try:
            return await self._ask(block, questions)
        finally:
            block.end()
