"""Statements of one transaction: from its first one on it is never interrupted, and it ends with its block.

A statement runs in a task of its own, out of reach of whoever cancels the caller. That costs 4 µs each; who runs the
whole block in a task that it shows to nobody (`is_shielded`) has no need of it.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agent_mail_core.errors import DatabaseUnavailable, TransactionConflict
from agent_mail_store.postgres.connections import Connections, Row
from agent_mail_store.postgres.errors import is_connection_lost
from agent_mail_store.postgres.statements import Statements

T = TypeVar("T")


class OutcomeUnknown(DatabaseUnavailable):
    """The database went away while it stored this, which may be stored or not; try again with the same key."""


class Writing(Statements):
    """One transaction. Cancelling the caller does not interrupt it once it has begun: `was_cancelled` remembers."""

    was_cancelled = False

    def __init__(self, connections: Connections, is_shielded: bool) -> None:
        super().__init__(connections)
        self._is_shielded = is_shielded

    async def begin(self) -> None:
        """Open the transaction."""
        self._connection = await self._connections.borrow()
        try:
            await self._finish(self._command("BEGIN"))
        except BaseException:
            self._give_back()
            raise

    async def rows(self, statement: str, *arguments: object) -> list[Row]:
        return await self._finish(self._run(statement, arguments))

    async def commit(self) -> None:
        """End it durably; OutcomeUnknown when the database goes away meanwhile."""
        try:
            outcome = await self._finish(self._command("COMMIT"))
        except DatabaseUnavailable as error:
            if is_connection_lost(error.__cause__ or error):
                raise OutcomeUnknown from error
            raise
        finally:
            self._give_back()
        if outcome != "COMMIT":  # a statement had failed, and the block went on all the same
            raise TransactionConflict

    async def roll_back(self) -> None:
        """End it as if it had not been."""
        try:
            await self._finish(self._command("ROLLBACK"))
        except DatabaseUnavailable:  # the server undoes what loses its connection
            return
        finally:
            self._give_back()

    async def _command(self, command: str) -> str:
        return await self._answer(lambda connection: connection.execute(command))

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        if self._is_shielded:
            return await work
        task = asyncio.get_running_loop().create_task(work)
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self.was_cancelled = True
                if task.cancelled():  # the event loop ends
                    raise


@asynccontextmanager
async def writing(connections: Connections, is_shielded: bool = False) -> AsyncIterator[Writing]:
    """Leaving the block commits, an exception rolls back. A caller that is cancelled inside learns it afterwards.

    `is_shielded` promises that nobody cancels the task that the block runs in.
    """
    block = Writing(connections, is_shielded)
    await block.begin()
    try:
        if block.was_cancelled:
            raise asyncio.CancelledError
        yield block
    except BaseException:
        await block.roll_back()
        raise
    await block.commit()
    if block.was_cancelled:
        raise asyncio.CancelledError
