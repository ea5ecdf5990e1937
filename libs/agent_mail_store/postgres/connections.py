"""Connections: how they are opened, and the pool that lends them. No server is waited for longer than settings say."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from agent_mail_core.settings import Settings
from agent_mail_store.postgres.errors import DRIVER_ERRORS, is_connection_lost, raise_translated

Row = asyncpg.Record

ANSWER_GRACE = 0.5
"""Seconds past the server's statement timeout after which a server that does not answer at all counts as away."""

RELEASE_TIMEOUT = 1.0
CLOSE_TIMEOUT = 10.0
IDLE_LIFETIME = 300.0


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """How every connection is opened. The server ends what takes too long; the client what the server does not."""
    statement = settings.database_statement_timeout
    return {
        "dsn": settings.database_url.get_secret_value(),
        "timeout": settings.database_lock_timeout,
        "command_timeout": statement + ANSWER_GRACE,
        "server_settings": {
            "application_name": "agent-mail",
            "timezone": "UTC",
            "synchronous_commit": "on",
            "statement_timeout": _milliseconds(statement),
            "lock_timeout": _milliseconds(settings.database_lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(statement),
            # Everything has an index to go by: a plan made while a table was small must not outlive that.
            "random_page_cost": "1.1",
            "enable_seqscan": "off",
            "jit": "off",  # for long queries; before PostgreSQL 18 the line above makes short ones look long
        },
    }


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


async def _leave_as_is(connection: object) -> None:
    """Instead of asyncpg's reset, which costs a round trip: our blocks leave nothing to reset."""


class Connections:
    """The pool. It opens connections when they are needed and forgets those that broke."""

    def __init__(self, settings: Settings, statement_cache_size: int) -> None:
        self._patience = settings.database_lock_timeout
        self._pool = asyncpg.create_pool(
            min_size=0,
            max_size=settings.database_pool_size,
            max_inactive_connection_lifetime=IDLE_LIFETIME,
            statement_cache_size=statement_cache_size,
            reset=_leave_as_is,
            **connection_arguments(settings),
        )

    async def open(self) -> None:
        """Make the pool usable; connects to nothing yet."""
        await self._pool

    async def close(self) -> None:
        """Wait for the blocks that run, a few seconds at most, then close every connection."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._pool.close()
        except DRIVER_ERRORS:
            self._pool.terminate()

    async def borrow(self) -> "PoolConnectionProxy[Row]":
        """A connection, within the lock timeout or DatabaseUnavailable."""
        try:
            return await self._pool.acquire(timeout=self._patience)
        except DRIVER_ERRORS as error:
            raise_translated(error)

    async def give_back(self, connection: "PoolConnectionProxy[Row]") -> None:
        """Return a connection, whatever its state."""
        try:
            await self._pool.release(connection, timeout=RELEASE_TIMEOUT)
        except DRIVER_ERRORS:  # the pool has closed it
            return

    def forget_if_lost(self, connection: "PoolConnectionProxy[Row]", error: BaseException) -> None:
        """Close a connection at once when an error says that it is of no more use; nothing waits for its server."""
        if is_connection_lost(error):
            with suppress(asyncpg.InterfaceError):  # it has been forgotten before
                connection.terminate()
