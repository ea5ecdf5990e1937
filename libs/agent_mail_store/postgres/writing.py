"""Statements of one transaction: from its first one on it is never interrupted, and it ends with its block."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agent_mail_core.errors import DatabaseUnavailable, TransactionConflict
from agent_mail_store.postgres.connections import Connections, Row
from agent_mail_store.postgres.errors import DRIVER_ERRORS, is_connection_lost, raise_translated
from agent_mail_store.postgres.statements import Statements

T = TypeVar("T")


class OutcomeUnknown(DatabaseUnavailable):
    """The database went away while it stored this, which may be stored or not; try again with the same key."""


class Writing(Statements):
    """One transaction. Cancelling the caller does not interrupt it once it has begun: `was_cancelled` remembers."""

    was_cancelled = False

    async def begin(self) -> None:
        """Open the transaction."""
        self._connection = await self._connections.borrow()
        try:
            await self._finish(self._command("BEGIN"))
        except BaseException:
            await self._give_back()
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
            await self._finish(self._give_back())
        if outcome != "COMMIT":  # a statement had failed, and the block went on all the same
            raise TransactionConflict

    async def roll_back(self) -> None:
        """End it as if it had not been."""
        try:
            await self._finish(self._command("ROLLBACK"))
        except DatabaseUnavailable:  # the server undoes what loses its connection
            return
        finally:
            await self._finish(self._give_back())

    async def _command(self, command: str) -> str:
        connection = self._connection
        assert connection is not None
        try:
            return await connection.execute(command)
        except DRIVER_ERRORS as error:
            self._connections.forget_if_lost(connection, error)
            raise_translated(error)

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                self.was_cancelled = True
        return task.result()


@asynccontextmanager
async def writing(connections: Connections) -> AsyncIterator[Writing]:
    """Leaving the block commits, an exception rolls back. A caller that is cancelled inside learns it afterwards."""
    block = Writing(connections)
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
