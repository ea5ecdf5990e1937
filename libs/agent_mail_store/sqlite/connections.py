"""The database file and connections to it: how they are opened, and whether the file is still the one it was."""

import fcntl
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import apsw

from agent_mail_core.errors import DatabaseUnavailable, ServerAlreadyRunning
from agent_mail_store.sqlite.errors import translate

OPENING_TIMEOUT_MS = 2_000
STATEMENTS_CACHED = 256
CACHE_KIB = 16 * 1024
WAL_LIMIT_BYTES = 64 * 1024 * 1024
"""What a checkpoint leaves of the write-ahead log, which grows past it only while a long reader stands in the way."""


class DatabaseFile:
    """A database file and its write-ahead log, known by their inodes.

    SQLite would go on writing into files that were deleted or moved away, and nobody would find there what it wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._name = os.fspath(self.path)
        self._log_name = f"{self._name}-wal"
        self._identity = self._now(self._name)
        self._log_identity: tuple[int, int] | None = None

    def remember_log(self) -> None:
        """Know the write-ahead log from now on: it is there once a connection has read, until all are closed."""
        self._log_identity = self._now(self._log_name)

    def check(self) -> None:
        """Raise DatabaseUnavailable when a path no longer leads to the file that was opened. Takes 4 µs."""
        if self._now(self._name) != self._identity:
            raise DatabaseUnavailable(
                "The database file was replaced while the server runs: restart it to use the new one."
            )
        if self._log_identity is not None and self._now(self._log_name) != self._log_identity:
            raise DatabaseUnavailable(
                "The write-ahead log beside the database file was removed while the server runs. Stop the server with"
                " SIGTERM, which writes what it holds into the database file."
            )

    def _now(self, name: str) -> tuple[int, int]:
        try:
            found = os.stat(name)
        except FileNotFoundError as error:
            raise DatabaseUnavailable("There is no database file: restore it, or run `agent-mail migrate`.") from error
        except OSError as error:
            raise DatabaseUnavailable("The database file cannot be reached.") from error
        return found.st_dev, found.st_ino

    def connect(self, is_reader: bool, with_vectors: bool = False) -> apsw.Connection:
        """A new connection; it may be used by one thread at a time. It waits for no lock until it is told to."""
        try:
            # SQLite's own mutexes stay: apsw frees the GIL while a statement runs.
            connection = apsw.Connection(
                self._name, flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=STATEMENTS_CACHED
            )
            # Else SQLite, built with STAT4, plans every join again at each run, for the values that it is given: 12 of
            # the 14 µs that looking up an agent took.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            # Another process may be making or removing the write-ahead log.
            connection.set_busy_timeout(OPENING_TIMEOUT_MS)
            for pragma in (
                "synchronous = FULL",  # a commit is on the disk before it is answered
                "foreign_keys = ON",
                "temp_store = MEMORY",
                f"cache_size = -{CACHE_KIB}",
                f"journal_size_limit = {WAL_LIMIT_BYTES}",
                f"query_only = {int(is_reader)}",
            ):
                connection.execute(f"PRAGMA {pragma}")
            connection.set_busy_timeout(0)
            if with_vectors:
                load_vectors(connection)
        except apsw.Error as error:
            raise translate(error) or error from error
        return connection


def load_vectors(connection: apsw.Connection) -> None:
    """Load sqlite-vec, whose package is not imported: it imports Python's own sqlite3, which not every build has.

    Where it cannot be loaded, searches by meaning say so, and all else works.
    """
    package = find_spec("sqlite_vec")
    if package is None or not package.submodule_search_locations:
        return
    connection.enable_load_extension(True)
    with suppress(apsw.ExtensionLoadingError):
        connection.load_extension(os.path.join(package.submodule_search_locations[0], "vec0"))
    connection.enable_load_extension(False)


def has_vectors() -> bool:
    """Whether sqlite-vec can be loaded here."""
    connection = apsw.Connection(":memory:")
    load_vectors(connection)
    found = connection.execute("SELECT count(*) FROM pragma_function_list WHERE name = 'vec_distance_hamming'")
    is_there = bool(found.fetchall()[0][0])
    connection.close()
    return is_there


class ServerLock:
    """Held by the one server of a database, on a file beside it. The kernel lets go of it however the process ends."""

    def __init__(self, database: DatabaseFile) -> None:
        path = database.path.with_name(f"{database.path.name}.server-lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DatabaseUnavailable("The directory of the database file may not be written to.") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise ServerAlreadyRunning from error

    def release(self) -> None:
        """Let the next server in."""
        os.close(self._descriptor)
