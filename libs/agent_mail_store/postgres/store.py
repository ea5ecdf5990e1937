"""The store on PostgreSQL: a pool of connections, a transaction per use case, and batches of sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

from agent_mail_core.delivery import Delivered, Outgoing
from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, SchemaTooOld
from agent_mail_core.ports import Store, StoreIdentity, Transaction
from agent_mail_core.settings import Settings
from agent_mail_store.postgres.batches import Batches
from agent_mail_store.postgres.connections import SILENCE, Connections
from agent_mail_store.postgres.restoring import check_is_here
from agent_mail_store.postgres.server_lock import ServerLock
from agent_mail_store.postgres.statements import Reading
from agent_mail_store.postgres.together import Together
from agent_mail_store.postgres.transaction import PostgresTransaction
from agent_mail_store.postgres.writing import writing
from agent_mail_store.schema import check_serves


class PostgresStore(Store):
    """Made by `open`. Belongs to the event loop that opened it. Time is the database's."""

    @classmethod
    async def open(cls, settings: Settings, single_server: bool) -> Self:
        """See `opening.open_store`."""
        lock = ServerLock(settings) if single_server else None
        if lock is not None:
            await lock.take()
        connections = Connections(settings)
        try:
            await connections.open()
            await _check_schema(connections)
            await check_is_here(connections)
            identity = await _identity(connections)
        except (AgentMailError, OSError):
            await connections.close()
            if lock is not None:
                await lock.release()
            raise
        return cls(settings, connections, lock, identity)

    def __init__(
        self, settings: Settings, connections: Connections, lock: ServerLock | None, identity: StoreIdentity
    ) -> None:
        self._connections = connections
        self._lock = lock
        self._identity = identity
        # At most half of the connections deliver, so that reads always find one.
        at_once = settings.database_pool_size // 2
        self._batches = Batches(connections, at_once, settings.database_lock_timeout)
        self._together = Together(connections)
        self._writers: set[asyncio.Task[Any] | None] = set()
        """The tasks that are inside a block of `write`."""
        self._is_closed = False

    @property
    def identity(self) -> StoreIdentity:
        return self._identity

    @property
    def engine(self) -> str:
        return "postgres"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        block = Reading(self._connections, self._together)
        try:
            yield PostgresTransaction(block)
        finally:
            block.end()

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        return self._write()

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[Transaction]:
        self._refuse_nesting()
        writer = asyncio.current_task()
        self._writers.add(writer)
        try:
            async with writing(self._connections) as block:
                yield PostgresTransaction(block)
        finally:
            self._writers.discard(writer)

    async def deliver(self, send: Outgoing) -> Delivered:
        self._refuse_nesting()
        return await self._batches.deliver(send)

    def _refuse_nesting(self) -> None:
        if asyncio.current_task() in self._writers:
            raise RuntimeError("store.write() inside store.write()")

    async def check(self) -> None:
        if self._lock is not None:
            self._lock.check()
        in_vain = asyncio.get_running_loop().call_later(SILENCE, self._connections.give_up_reads)
        try:
            await _check_schema(self._connections)
        except DatabaseUnavailable:
            self._connections.give_up_reads()
            raise
        finally:
            in_vain.cancel()

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._batches.close()
        await self._connections.close()
        if self._lock is not None:
            await self._lock.release()


async def _check_schema(connections: Connections) -> None:
    """SchemaTooOld unless the database's schema serves this code."""
    db = Reading(connections)
    try:
        row = await db.the_row(
            """
            SELECT (SELECT max(number) FROM schema_migrations) AS number,
                   (SELECT value FROM facts WHERE name = 'oldest_code') AS oldest_code
            """
        )
    finally:
        db.end()
    if row["number"] is None or row["oldest_code"] is None:
        raise SchemaTooOld
    check_serves(row["number"], row["oldest_code"])


async def _identity(connections: Connections) -> StoreIdentity:
    db = Reading(connections)
    try:
        rows = await db.rows("SELECT name, value FROM facts WHERE name IN ('epoch', 'cursor_key')")
    finally:
        db.end()
    facts = {row["name"]: row["value"] for row in rows}
    if len(facts) < 2:
        raise SchemaTooOld
    return StoreIdentity(facts["epoch"], bytes.fromhex(facts["cursor_key"]))
