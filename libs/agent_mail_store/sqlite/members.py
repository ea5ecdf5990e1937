"""A member of a group of transactions that share a commit: it waits, has its turn, and is answered after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

import apsw

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable
from agent_mail_store.sqlite.errors import translate
from agent_mail_store.sqlite.writing import Writing


class Member:
    """One transaction: either `work` that the writer calls, or (None) the block of a task that is told `turn`."""

    __slots__ = (
        "_connection",
        "_error",
        "_loop",
        "_over",
        "_result",
        "answer",
        "deadline",
        "failure",
        "is_open",
        "statements",
        "turn",
        "work",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: apsw.Connection,
        work: Callable[[Writing], Any] | None,
        deadline: float,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self.work = work
        self.deadline = deadline
        """By the loop's clock; it does not start later."""
        self.turn: asyncio.Future[None] = loop.create_future()
        self.answer: asyncio.Future[Any] = loop.create_future() if work is None else self.turn
        self.is_open = False
        """Whether it has its turn."""
        self.statements = Writing(connection)
        self.failure: AgentMailError | None = None
        """Why the whole transaction ended with this member, if it did."""
        self._over: asyncio.Future[None] | None = None
        self._result: Any = None
        self._error: BaseException | None = None

    def refuse(self, error: AgentMailError) -> None:
        """It does not get a turn."""
        if not self.turn.done():
            self.turn.set_exception(error)

    def start(self) -> bool:
        """Give it its turn and run its work, if it has some; False when it no longer waits."""
        if self.turn.done():  # cancelled
            return False
        if self._loop.time() > self.deadline:
            self.refuse(DatabaseUnavailable("The database was locked or busy for too long."))
            return False
        try:
            self._connection.execute("SAVEPOINT member")
        except apsw.Error as error:
            self._broken(error)
            self.refuse(self.failure or DatabaseUnavailable())
            return True
        self.is_open = True
        if self.work is None:
            self._over = self._loop.create_future()
            self.turn.set_result(None)
        else:
            with self:
                self._result = self.work(self.statements)
        return True

    async def finish_within(self, timeout: float) -> None:
        """Wait until its block was left. One that does not leave in time is undone and left behind."""
        if self._over is None or self._over.done():
            return
        timer = self._loop.call_later(timeout, self._expel)
        try:
            await self._over
        finally:
            timer.cancel()
            self._expel()

    def leave(self, error: BaseException | None) -> None:
        """Its block was left: keep what it did, or undo it after an error. Does nothing without a turn."""
        if self.is_open:
            self._end(error)
        if error is not None and not isinstance(error, Exception):
            self.answer.cancel()  # nobody will wait for it

    def settle(self, failure: AgentMailError | None) -> None:
        """Answer it: the group was committed, or failed as a whole."""
        if self.answer.done():  # cancelled, or refused
            return
        if failure is not None:
            answer = type(failure)(failure.message)
            answer.__cause__ = self._error or failure
            self.answer.set_exception(answer)
        elif self._error is not None:
            self.answer.set_exception(self._error)
        else:
            self.answer.set_result(self._result)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._end(error)
        self._error = error
        return isinstance(error, Exception)

    def _expel(self) -> None:
        if self.is_open:
            error = DatabaseUnavailable("The transaction took too long and was undone.")
            self._end(error)
            self._error = error

    def _end(self, error: BaseException | None) -> None:
        self.is_open = False
        self.statements.is_over = True
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        if self.statements.failure is not None:
            self.failure = self.statements.failure
            return
        try:
            if error is None:
                self._connection.execute("RELEASE member")
            else:
                self.statements.postponed.clear()
                self._connection.execute("ROLLBACK TO member; RELEASE member")
        except apsw.Error as trouble:
            self._broken(trouble)

    def _broken(self, error: apsw.Error) -> None:
        """A savepoint failed: what the transaction holds is not known, so it ends."""
        self.failure = translate(error) or DatabaseUnavailable()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
