"""Reading connections: one for the event loop's thread, and a few on threads of their own for what may take long.

An indexed read takes 25 µs on the calling thread and 150 µs through an executor (FINDINGS), so short ones stay there.
Readers never wait for the writer: in WAL mode they see the last commit.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from agent_mail_core.errors import DatabaseUnavailable, Overloaded
from agent_mail_store.sqlite.connections import DatabaseFile
from agent_mail_store.sqlite.statements import Reading, Statements

T = TypeVar("T")

SHORT_LOCK_TIMEOUT_MS = 20
"""On the event loop: a reader only ever meets a lock while another process recovers or closes the database."""

MAX_THREADS = 4
MAX_QUEUED = 1_000


class LongReads:
    """Threads with a reading connection each."""

    def __init__(self, file: DatabaseFile, count: int, lock_timeout: float, statement_timeout: float) -> None:
        self._lock_timeout = lock_timeout
        self._free: queue.SimpleQueue[Reading] = queue.SimpleQueue()
        self._connections: list[apsw.Connection] = []
        self._pending = 0
        self._is_closed = False
        self._threads = ThreadPoolExecutor(min(count, MAX_THREADS), "agent-mail-read")
        try:
            for _ in range(min(count, MAX_THREADS)):
                connection = file.connect(is_reader=True, with_vectors=True)
                self._connections.append(connection)
                connection.set_busy_timeout(round(lock_timeout * 1000))
                self._free.put(Reading(connection, statement_timeout))
        except DatabaseUnavailable:
            self.close()
            raise

    async def do(self, work: Callable[[Statements], T]) -> T:
        """The result of `work` on a thread. Past its place in the queue or the lock timeout it is not begun.

        Cancelling ends it at the next look of its statement.
        """
        if self._pending >= MAX_QUEUED:
            raise Overloaded
        latest_start = time.monotonic() + self._lock_timeout
        is_over = threading.Event()

        def run() -> T:
            if is_over.is_set() or time.monotonic() > latest_start:
                raise DatabaseUnavailable("The database is busy with other reads.")
            reading = self._free.get_nowait()  # there are as many as threads
            reading.is_abandoned = is_over.is_set
            try:
                return work(reading)
            finally:
                self._free.put(reading)

        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except RuntimeError as error:
            if self._is_closed:  # what the executor raises
                raise DatabaseUnavailable("The database is closed.") from error
            raise
        finally:
            self._pending -= 1
            is_over.set()

    def close(self) -> None:
        """Finish what runs, then close. Blocks: not for the event loop's thread."""
        self._is_closed = True
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()


class ShortReads(Reading):
    """The event loop's own connection, which hands long work to the threads."""

    def __init__(self, connection: apsw.Connection, timeout: float, long_reads: LongReads) -> None:
        super().__init__(connection, timeout)
        connection.set_busy_timeout(SHORT_LOCK_TIMEOUT_MS)
        self._long_reads = long_reads

    async def apart(self, work: Callable[[Statements], T]) -> T:
        return await self._long_reads.do(work)
