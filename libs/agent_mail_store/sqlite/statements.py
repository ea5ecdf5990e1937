"""Running statements: what the nouns of this backend ask of a connection, whether it reads or writes.

Rows are fetched whole before a method returns, so that no statement stays open between two of them, and errors are
translated here alone. `Reading` bounds the time of each statement; `Writing` (in writer.py) is never interrupted.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import apsw

from agent_mail_core.idempotency import IdempotencyScope
from agent_mail_store.sqlite.errors import translate

Row: TypeAlias = tuple[Any, ...]
Value: TypeAlias = str | int | bytes | None
Values: TypeAlias = tuple[Value, ...]
T = TypeVar("T")

STEPS_A_LOOK = 10_000
"""SQLite's instructions between two looks at the clock: a few hundred µs."""


class Statements(ABC):
    """A connection as the nouns see it."""

    @abstractmethod
    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """Run one statement; all its rows."""

    def row(self, sql: str, values: Values = ()) -> Row | None:
        """Run one statement; its first row, if there is one."""
        found = self.rows(sql, values)
        return found[0] if found else None

    @abstractmethod
    def many(self, sql: str, values: Iterable[Values]) -> list[Row]:
        """Run one changing statement with each of the values; all rows together."""

    @abstractmethod
    def insert(self, sql: str, values: Values) -> int:
        """Insert one row; its rowid. RuntimeError on a connection that only reads, as from `many`."""

    @property
    @abstractmethod
    def held_keys(self) -> dict[IdempotencyScope, bytes]:
        """Idempotency keys that this transaction holds, with the fingerprints they were taken for."""

    @abstractmethod
    def one_state(self) -> AbstractContextManager[None]:
        """Statements inside the block see one state of the database."""

    @abstractmethod
    async def apart(self, work: Callable[["Statements"], T]) -> T:
        """Do work that may take milliseconds where it does not hold up the event loop. Cancelling ends it."""


class Reading(Statements):
    """A reading connection, for one thread at a time. A statement has `timeout` seconds, then DatabaseUnavailable."""

    def __init__(self, connection: apsw.Connection, timeout: float) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._timeout = timeout
        self._deadline = 0.0
        self._one_state = _OneState(connection)
        self.is_abandoned: Callable[[], bool] = lambda: False
        """Asked while a statement runs, to end it."""
        connection.set_progress_handler(self._must_end, STEPS_A_LOOK)

    def _must_end(self) -> bool:
        return time.monotonic() > self._deadline or self.is_abandoned()

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        self._deadline = time.monotonic() + self._timeout
        try:
            return self._execute(sql, values).fetchall()
        except apsw.Error as error:
            raise translate(error) or error from error

    def many(self, sql: str, values: Iterable[Values]) -> list[Row]:
        raise RuntimeError("a change inside store.read()")

    def insert(self, sql: str, values: Values) -> int:
        raise RuntimeError("a change inside store.read()")

    @property
    def held_keys(self) -> dict[IdempotencyScope, bytes]:
        raise RuntimeError("a change inside store.read()")

    def one_state(self) -> AbstractContextManager[None]:
        return self._one_state

    async def apart(self, work: Callable[[Statements], T]) -> T:
        return work(self)


class _OneState:
    """A read transaction: it begins with its first statement."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        try:
            self._connection.execute("BEGIN")
        except apsw.Error as error:
            raise translate(error) or error from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def piece(text: str) -> str:
    r"""The LIKE pattern, with `\` as its escape, of what holds the text; LIKE ignores the case of ASCII."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
