"""Running statements: what the nouns of this backend ask of a connection, whether it reads or writes.

Every statement goes through here, so that errors are translated and broken connections leave the pool in one place. No
block leaves state on its connection: a pooler may stand between us and the server.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from agent_mail_core.errors import TransactionConflict
from agent_mail_store.postgres.connections import Connection, Connections, Row
from agent_mail_store.postgres.errors import DRIVER_ERRORS, raise_translated

if TYPE_CHECKING:
    from agent_mail_store.postgres.together import Together

T = TypeVar("T")

PLANNED_ANEW = "/* planned anew */"
"""At the beginning of a statement: it is planned for its arguments each time, for a round trip more. PostgreSQL soon
takes one plan for all arguments otherwise, which knows nothing of how frequent a word is."""


class Statements(ABC):
    """Runs statements; arguments are bound as `$1`, `$2`, …. What the nouns are written on."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: Connection | None = None
        self._is_interrupted = False

    @property
    def together(self) -> Together | None:
        """Reads that may be asked together with those of other requests; None where a connection is already held."""
        return None

    @abstractmethod
    async def rows(self, statement: str, *arguments: object) -> list[Row]:
        """All rows of the answer."""

    async def row(self, statement: str, *arguments: object) -> Row | None:
        """The first row."""
        found = await self.rows(statement, *arguments)
        return found[0] if found else None

    async def the_row(self, statement: str, *arguments: object) -> Row:
        """The first row of an answer that must have one; without it something vanished: TransactionConflict."""
        found = await self.rows(statement, *arguments)
        if not found:
            raise TransactionConflict
        return found[0]

    async def _run(self, statement: str, arguments: tuple[object, ...]) -> list[Row]:
        if statement.startswith(PLANNED_ANEW):
            return await self._answer(lambda connection: _planned_anew(connection, statement, arguments))
        return await self._answer(lambda connection: connection.fetch(statement, *arguments))

    async def _answer(self, ask: Callable[[Connection], Awaitable[T]]) -> T:
        connection = self._connection
        assert connection is not None
        try:
            return await ask(connection)
        except DRIVER_ERRORS as error:
            self._connections.forget_if_lost(connection, error)
            raise_translated(error)
        except asyncio.CancelledError:
            self._is_interrupted = True
            raise

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connections.give_back(connection, is_settled=not self._is_interrupted)


async def _planned_anew(connection: Connection, statement: str, arguments: tuple[object, ...]) -> list[Row]:
    return await (await connection.prepare(statement, name="")).fetch(*arguments)


class Reading(Statements):
    """Each statement alone, in autocommit, on a connection that is borrowed at the first one."""

    def __init__(self, connections: Connections, together: Together | None = None) -> None:
        super().__init__(connections)
        self._together = together

    @property
    def together(self) -> Together | None:
        return self._together if self._connection is None else None

    async def rows(self, statement: str, *arguments: object) -> list[Row]:
        if self._connection is None:
            self._connection = await self._connections.borrow()
        return await self._run(statement, arguments)

    def end(self) -> None:
        """Return the connection."""
        self._give_back()
