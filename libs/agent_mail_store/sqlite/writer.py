"""The one writer of a process: waiting transactions run one after another and share a commit (DESIGN 6).

Each member of a group runs inside a savepoint of one BEGIN IMMEDIATE, on the event loop's thread; the commit, which
waits for the disk, runs on a thread of its own, never beside a member. What queues meanwhile is the next group: nobody
is delayed to make a group larger. Nobody is answered, not even with an error, before the commit. When SQLite ended the
transaction itself (full disk, I/O error) or the commit fails, nothing of the group is stored and every member gets
DatabaseUnavailable. The writer is never interrupted: deadlines are looked at before a member starts.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar
from typing import Any, TypeVar, cast

import apsw

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, Overloaded
from agent_mail_store.sqlite.connections import DatabaseFile
from agent_mail_store.sqlite.errors import translate
from agent_mail_store.sqlite.members import Member
from agent_mail_store.sqlite.statements import Values
from agent_mail_store.sqlite.writing import Writing

T = TypeVar("T")

GROUP_MEMBERS = 64
GROUP_SECONDS = 0.020
MAX_QUEUED = 10_000
SLICE_SECONDS = 0.002
"""How long members run before others on the event loop get a turn."""

LOCK_RETRY_SECONDS = 0.002
"""How often a lock that another process holds is tried: its commits take about as long."""

_current: ContextVar[Member | None] = ContextVar("agent_mail_sqlite_member", default=None)
"""The member whose block the running task is inside of."""


class Writer:
    """Runs transactions. `lock_timeout` bounds the wait for a turn, `block_timeout` a block that does not leave."""

    def __init__(
        self, connection: apsw.Connection, file: DatabaseFile, lock_timeout: float, block_timeout: float
    ) -> None:
        self._connection = connection
        self._file = file
        self._lock_timeout = lock_timeout
        self._block_timeout = block_timeout
        self._queue: deque[Member] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "agent-mail-commit")
        self._is_closed = False

    # --- what a transaction calls -------------------------------------------------------------------------------------

    async def run(self, work: Callable[[Writing], T]) -> T:
        """The result of `work`, committed, or what it raised. Cancelled before its turn, it never starts."""
        member = self._join(work)
        return cast("T", await member.answer)

    async def enter(self) -> Member:
        """Wait for a turn; the caller then runs statements, and calls `leave`."""
        member = self._join(None)
        try:
            await member.turn
        except asyncio.CancelledError as error:
            # The turn may have been given in the same moment: hand it back.
            member.leave(error)
            raise
        _current.set(member)
        return member

    async def leave(self, member: Member, error: BaseException | None) -> None:
        """End a turn, undoing it if there was an error, and wait for the commit. Cancelling then undoes nothing."""
        _current.set(None)
        member.leave(error)
        if error is None or isinstance(error, Exception):
            await member.answer

    async def close(self) -> None:
        """Finish what is queued, then close."""
        self._is_closed = True
        while self._runner is not None:
            await asyncio.wait([self._runner])
        if self._expiry is not None:
            self._expiry.cancel()
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()

    # --- the queue ----------------------------------------------------------------------------------------------------

    def _join(self, work: Callable[[Writing], Any] | None) -> Member:
        inside = _current.get()
        if inside is not None and inside.is_open:
            raise RuntimeError("store.write() inside store.write()")
        if self._is_closed:
            raise DatabaseUnavailable("The database is closed.")
        if len(self._queue) >= MAX_QUEUED:
            raise Overloaded
        loop = asyncio.get_running_loop()
        member = Member(loop, self._connection, work, loop.time() + self._lock_timeout)
        self._queue.append(member)
        if self._expiry is None:
            self._expiry = loop.call_at(member.deadline, self._expire)
        if self._runner is None:
            self._start()
        return member

    def _start(self) -> None:
        self._runner = asyncio.get_running_loop().create_task(self._run(), context=Context())
        self._runner.add_done_callback(self._ended)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        self._runner = None
        if runner.cancelled():  # the event loop is being torn down
            self._is_closed = True
            self._refuse_all(DatabaseUnavailable("The database is closed."))
        elif (error := runner.exception()) is not None:  # a fault of ours: nobody is left waiting
            self._refuse_all(DatabaseUnavailable())
            runner.get_loop().call_exception_handler({"message": "SQLite's writer failed", "exception": error})
        elif self._queue:
            self._start()

    def _expire(self) -> None:
        """Refuse those who waited too long, also while the writer itself waits. The queue is in order of deadlines."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._queue and self._queue[0].deadline <= now:
            self._queue.popleft().refuse(DatabaseUnavailable("The database was locked or busy for too long."))
        self._expiry = loop.call_at(self._queue[0].deadline, self._expire) if self._queue else None

    # --- the groups ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._queue:
            try:
                if not self._begin():
                    await asyncio.sleep(LOCK_RETRY_SECONDS)
                    continue
            except AgentMailError as error:
                self._refuse_all(error)
                return
            await self._run_group()

    def _begin(self) -> bool:
        """Begin a group; False while another process writes. BEGIN waits for nothing here, so it needs no thread."""
        self._file.check()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return False
        except apsw.Error as error:
            raise translate(error) or error from error
        return True

    def _refuse_all(self, error: AgentMailError) -> None:
        """The database cannot be written to at all: nobody needs to wait to learn it."""
        for _ in range(len(self._queue)):
            self._queue.popleft().refuse(type(error)(error.message))

    async def _run_group(self) -> None:
        group: list[Member] = []
        failure: AgentMailError | None = DatabaseUnavailable("The writer of the database ended.")
        try:
            try:
                await self._run_members(group)
            finally:
                failure = await self._commit(group)
        finally:
            for member in group:
                member.settle(failure)

    async def _run_members(self, group: list[Member]) -> None:
        now = time.monotonic()
        group_end, slice_end = now + GROUP_SECONDS, now + SLICE_SECONDS
        while self._queue and len(group) < GROUP_MEMBERS and now < group_end:
            member = self._queue.popleft()
            if member.start():
                group.append(member)
                if member.work is None:
                    await member.finish_within(self._block_timeout)
                if not self._connection.in_transaction:
                    return
            now = time.monotonic()
            if now >= slice_end:
                await asyncio.sleep(0)
                now = time.monotonic()
                slice_end = now + SLICE_SECONDS

    async def _commit(self, group: list[Member]) -> AgentMailError | None:
        """Commit the group on the writer's thread, or say why nothing of it is stored. Waits even when cancelled."""
        failure = self._run_postponed(group)
        future = asyncio.get_running_loop().run_in_executor(self._thread, _end, self._connection, failure)
        is_cancelled = False
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                is_cancelled = True
        if is_cancelled and (runner := asyncio.current_task()) is not None:
            runner.cancel()  # at its next wait
        return future.result()

    def _run_postponed(self, group: list[Member]) -> AgentMailError | None:
        """Run what the members left for the end, or say why the group has failed."""
        postponed: dict[str, list[Values]] = {}
        for member in group:
            if member.failure is not None:
                return member.failure
            for sql, values in member.statements.postponed:
                postponed.setdefault(sql, []).append(values)
        try:
            for sql, rows in postponed.items():
                self._connection.executemany(sql, rows)
        except apsw.Error as error:
            return _failure(error)
        return None


def _end(connection: apsw.Connection, failure: AgentMailError | None) -> AgentMailError | None:
    """Commit, unless the group has failed; why it has."""
    try:
        if failure is None:
            connection.execute("COMMIT")
    except apsw.Error as error:
        failure = _failure(error)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return failure


def _failure(error: apsw.Error) -> AgentMailError:
    failure = translate(error) or DatabaseUnavailable()
    failure.__cause__ = error
    return failure
