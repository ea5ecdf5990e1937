"""Connections: how they are opened, and the pool that lends them. No server is waited for longer than settings say."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeAlias

import asyncpg

from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.settings import Settings
from agent_mail_store.postgres import session_settings
from agent_mail_store.postgres.errors import DRIVER_ERRORS, is_connection_lost, raise_translated

Row = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[Row]"

ANSWER_GRACE = 0.5
"""Seconds past the server's statement timeout after which a server that does not answer at all counts as away."""

SILENCE = 0.7
"""Seconds in which a server that is there answers a look at it, or somebody else."""

UNREAD = 0.25
"""Seconds for answers that are there and were not looked at: it may be this process that stood still."""

RELEASE_TIMEOUT = 1.0
CLOSE_TIMEOUT = 10.0
IDLE_LIFETIME = 300.0


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """How every connection is opened. The server ends what takes too long; the client what the server does not."""
    return {
        "dsn": settings.database_url.get_secret_value(),
        "timeout": settings.database_lock_timeout,
        "command_timeout": settings.database_statement_timeout + ANSWER_GRACE,
        "server_settings": session_settings.asked_for(settings),
    }


class Connections:
    """The pool. It opens connections when they are needed, lends the one used last, and forgets those that broke.

    asyncpg has one, which costs a read 15 µs, more than most statements: it makes a proxy, a task and timers for each
    loan, and asks the server to reset what our blocks leave as it was.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._patience = settings.database_lock_timeout
        self._arguments = connection_arguments(settings) | {"statement_cache_size": settings.database_statement_cache}
        self._size = settings.database_pool_size
        self._places = asyncio.Semaphore(self._size)
        """One for each connection that is lent, being opened or being settled: so many are open at most."""
        self._idle: list[tuple[float, Connection]] = []
        """The one used last at the end, each with the time since when."""
        self._sweep: asyncio.TimerHandle | None = None
        self._lent: set[Connection] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._answered_at = 0.0
        self._is_closed = False

    async def open(self) -> None:
        """Before the first loan. Behind a pooler, DatabaseUnavailable unless the role brings our settings along."""
        if session_settings.is_pooled(self._settings):
            await self._check_settings()

    async def _check_settings(self) -> None:
        connection = await self.borrow()
        try:
            rows = await connection.fetch(session_settings.IN_FORCE, list(session_settings.wanted(self._settings)))
        except DRIVER_ERRORS as error:
            raise_translated(error)
        finally:
            self.give_back(connection)
        complaint = session_settings.complaint(self._settings, ((row["name"], row["setting"]) for row in rows))
        if complaint is not None:
            raise DatabaseUnavailable(complaint)

    async def close(self) -> None:
        """Wait for the blocks that run, a few seconds at most, then close every connection."""
        self._is_closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                for _ in range(self._size):
                    await self._places.acquire()
                await asyncio.gather(*(connection.close() for _, connection in self._idle), return_exceptions=True)
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in (*self._lent, *(connection for _, connection in self._idle)):
            connection.terminate()
        self._idle.clear()
        for _ in range(self._size):
            self._places.release()  # whoever asks is refused instead of kept waiting

    async def borrow(self) -> Connection:
        """A connection, within the lock timeout or DatabaseUnavailable. Give it back."""
        deadline = 0.0
        if self._places.locked():
            deadline = asyncio.get_running_loop().time() + self._patience
            await self._wait_for_place()
        else:
            await self._places.acquire()  # at once
        try:
            if self._is_closed:
                raise DatabaseUnavailable("The database is closed.")
            connection = self._newest() or await self._opened(deadline)
        except BaseException:
            self._places.release()
            raise
        self._lent.add(connection)
        return connection

    async def _wait_for_place(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError as error:
            raise_translated(error)

    def _newest(self) -> Connection | None:
        """The idle connection that was used last; None when there is none left that is open."""
        while self._idle:
            _, connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            connection.terminate()  # lets go of what a lost one still holds
        return None

    async def _opened(self, deadline: float) -> Connection:
        """A new connection; `deadline` is the loop's time, 0 for the whole lock timeout from now on."""
        left = deadline - asyncio.get_running_loop().time() if deadline else self._patience
        try:
            return await asyncpg.connect(**self._arguments | {"timeout": max(0.0, left)})
        except DRIVER_ERRORS as error:
            raise_translated(error)

    def give_back(self, connection: Connection, is_settled: bool = True) -> None:
        """Return a connection, whatever its state. One whose statement was interrupted is not settled."""
        if connection.is_closed():
            connection.terminate()
            self._let_go(connection)
        elif is_settled and not connection.is_in_transaction():
            self._answered_at = asyncio.get_running_loop().time()
            self._keep(connection)
        else:
            task = asyncio.get_running_loop().create_task(self._settle(connection))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def _settle(self, connection: Connection) -> None:
        """Let the server end what it does, and any transaction, before the next one gets the connection."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await connection.execute("ROLLBACK")
        except BaseException as error:
            connection.terminate()
            self._let_go(connection)
            if not isinstance(error, DRIVER_ERRORS):
                raise
        else:
            self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time(), connection))
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_LIFETIME, self._close_unused)
        self._let_go(connection)

    def _let_go(self, connection: Connection) -> None:
        self._lent.discard(connection)
        self._places.release()

    def _close_unused(self) -> None:
        loop = asyncio.get_running_loop()
        unused = [connection for since, connection in self._idle if loop.time() - since >= IDLE_LIFETIME]
        for connection in unused:
            connection.terminate()
        del self._idle[: len(unused)]  # the oldest stand first
        self._sweep = loop.call_at(self._idle[0][0] + IDLE_LIFETIME, self._close_unused) if self._idle else None

    def forget_if_lost(self, connection: Connection, error: BaseException) -> None:
        """Close a connection at once when an error says that it is of no more use; nothing waits for its server."""
        if is_connection_lost(error):
            connection.terminate()

    def give_up_reads(self) -> None:
        """End what reads or begins, if the server has answered nobody for so long: why wait for their time limits.

        A transaction is left to its own limits, within which its outcome may become known.
        """
        loop = asyncio.get_running_loop()
        if loop.time() - self._answered_at >= SILENCE:
            loop.call_later(UNREAD, self._give_up_reads, self._answered_at)

    def _give_up_reads(self, answered_at: float) -> None:
        if self._answered_at != answered_at:
            return
        for connection in self._lent:
            if not connection.is_closed() and not connection.is_in_transaction():
                connection.terminate()
