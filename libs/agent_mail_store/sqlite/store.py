"""The store on one SQLite file: reads on connections of their own, writes through the one writer of this process."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import apsw

from agent_mail_core.database_urls import sqlite_path
from agent_mail_core.delivery import Delivered, Outgoing
from agent_mail_core.errors import AgentMailError, SchemaTooOld
from agent_mail_core.ports import Clock, Store, StoreIdentity, Transaction
from agent_mail_core.settings import Settings
from agent_mail_store.schema import check_serves
from agent_mail_store.sqlite.connections import DatabaseFile, ServerLock
from agent_mail_store.sqlite.delivery import deliver
from agent_mail_store.sqlite.members import Member
from agent_mail_store.sqlite.readers import LongReads, ShortReads
from agent_mail_store.sqlite.statements import Statements
from agent_mail_store.sqlite.transaction import SqliteTransaction
from agent_mail_store.sqlite.writer import Writer

READS_AT_ONCE = 16
"""Short reads in one round of the event loop, after which others get a turn: below half a millisecond."""


class SqliteStore(Store):
    """Made by `open`. Belongs to the event loop that it is first used on."""

    @classmethod
    async def open(cls, settings: Settings, clock: Clock, single_server: bool) -> Self:
        """See `opening.open_store`."""
        file = DatabaseFile(sqlite_path(settings.database_url.get_secret_value()))
        lock = ServerLock(file) if single_server else None
        connections: list[apsw.Connection] = []
        try:
            return cls(settings, clock, file, lock, connections)
        except (AgentMailError, apsw.Error):
            for connection in connections:
                connection.close()
            if lock is not None:
                lock.release()
            raise

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        file: DatabaseFile,
        lock: ServerLock | None,
        connections: list[apsw.Connection],
    ) -> None:
        """Opens connections and adds them to `connections`, for whoever must close them when this raises."""
        self._clock = clock
        self._file = file
        self._lock = lock
        connections.append(file.connect(is_reader=True))
        connections.append(file.connect(is_reader=False))
        self._reader, writing = connections
        self._long_reads = LongReads(
            file, settings.database_pool_size, settings.database_lock_timeout, settings.database_statement_timeout
        )
        try:
            self._reads = ShortReads(self._reader, settings.database_statement_timeout, self._long_reads)
            self._read_block = _ReadBlock(file, SqliteTransaction(self._reads, clock))
            _check_schema(self._reads)
            self._identity = _identity(self._reads)
            file.remember_log()
        except (AgentMailError, apsw.Error):
            self._long_reads.close()
            raise
        self._writer = Writer(
            writing, file, settings.database_lock_timeout, block_timeout=settings.database_statement_timeout
        )
        self._is_closed = False

    @property
    def identity(self) -> StoreIdentity:
        return self._identity

    @property
    def engine(self) -> str:
        return "sqlite"

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self._read_block

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        return _WriteBlock(self._writer, self._clock)

    async def deliver(self, send: Outgoing) -> Delivered:
        return await self._writer.run(lambda statements: deliver(statements, self._clock, send))

    async def check(self) -> None:
        self._file.check()
        _check_schema(self._reads)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._writer.close()
        await asyncio.to_thread(self._long_reads.close)
        self._reader.close()
        if self._lock is not None:
            self._lock.release()


def _check_schema(statements: Statements) -> None:
    """SchemaTooOld unless the database's schema serves this code."""
    version, oldest_code = statements.rows(
        "SELECT (SELECT max(number) FROM schema_migrations), (SELECT value FROM facts WHERE name = 'oldest_code')"
    )[0]
    if version is None or oldest_code is None:
        raise SchemaTooOld
    check_serves(version, oldest_code)


def _identity(statements: Statements) -> StoreIdentity:
    facts: dict[str, str] = dict(statements.rows("SELECT name, value FROM facts WHERE name IN ('epoch', 'cursor_key')"))
    return StoreIdentity(facts["epoch"], bytes.fromhex(facts["cursor_key"]))


class _ReadBlock(AbstractAsyncContextManager[Transaction]):
    """Reading needs no transaction around it: each method sees one state. All readers share this block."""

    def __init__(self, file: DatabaseFile, transaction: Transaction) -> None:
        self._file = file
        self._transaction = transaction
        self._reads_at_once = 0

    async def __aenter__(self) -> Transaction:
        if not self._reads_at_once:  # once in a round of the event loop
            self._file.check()
        # Short reads never wait, so a task that reads in a loop would keep the event loop to itself.
        self._reads_at_once += 1
        if self._reads_at_once == 1:
            asyncio.get_running_loop().call_soon(self._others_ran)
        elif self._reads_at_once > READS_AT_ONCE:
            await asyncio.sleep(0)
        return self._transaction

    def _others_ran(self) -> None:
        self._reads_at_once = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _WriteBlock(AbstractAsyncContextManager[Transaction]):
    """A turn of the writer."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._member: Member | None = None

    async def __aenter__(self) -> Transaction:
        self._member = await self._writer.enter()
        return SqliteTransaction(self._member.statements, self._clock)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._member is not None
        await self._writer.leave(self._member, error)
