"""The lock that keeps a second server away from a database while there is no Redis: an advisory one."""

import asyncio

import asyncpg

from agent_mail_core.errors import DatabaseUnavailable, ServerAlreadyRunning
from agent_mail_core.settings import Settings
from agent_mail_store.postgres.connections import Row, connection_arguments
from agent_mail_store.postgres.errors import DRIVER_ERRORS, raise_translated
from agent_mail_store.postgres.session_settings import is_pooled

LOCK = 0x4147_4D41_494C_0001
"""Any number that other programs do not use: `AGMAIL` and 1."""

TRY = "SELECT pg_try_advisory_lock($1)"
TRY_WITHIN = "SELECT pg_try_advisory_xact_lock($1)"
"""Behind a pooler, in a transaction that does not end: for as long it cannot lend another server connection."""

RETRY_SECONDS = 0.5


class ServerLock:
    """Held from `take` to `release`. When its connection breaks, it is taken again in the background."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: asyncpg.Connection[Row] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._is_elsewhere = False

    async def take(self) -> None:
        """Take the lock; ServerAlreadyRunning when another server holds it."""
        await self._take()
        self._keeper = asyncio.create_task(self._keep())

    def check(self) -> None:
        """Raise while the lock is lost: ServerAlreadyRunning when another server has taken it meanwhile."""
        if self._is_elsewhere:
            raise ServerAlreadyRunning
        if self._lost.is_set():
            raise DatabaseUnavailable("The connection that keeps other servers away is lost.")

    async def release(self) -> None:
        """Let other servers in."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._on_termination)
            try:
                await connection.close(timeout=self._settings.database_lock_timeout)
            except DRIVER_ERRORS:
                connection.terminate()

    async def _take(self) -> None:
        connection: asyncpg.Connection[Row] | None = None
        try:
            connection = await asyncpg.connect(**connection_arguments(self._settings), statement_cache_size=0)
            if is_pooled(self._settings):
                await connection.execute("BEGIN")
                is_taken = await connection.fetchval(TRY_WITHIN, LOCK)
                # It also takes the place of the query before, whose snapshot would hold up vacuum for as long.
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            else:
                is_taken = await connection.fetchval(TRY, LOCK)
        except DRIVER_ERRORS as error:
            if connection is not None:
                connection.terminate()
            raise_translated(error)
        if not is_taken:
            connection.terminate()
            raise ServerAlreadyRunning
        self._connection = connection
        connection.add_termination_listener(self._on_termination)
        self._is_elsewhere = False
        self._lost.clear()

    def _on_termination(self, connection: object) -> None:
        self._connection = None
        self._lost.set()

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            try:
                await self._take()
            except ServerAlreadyRunning:
                self._is_elsewhere = True
                await asyncio.sleep(RETRY_SECONDS)
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
