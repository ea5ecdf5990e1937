"""What apsw and the file system raise, as the core's errors: the only such table of this backend.

Messages name the kind of trouble and what to do, never a path, a statement or a value. What is none of the world's
doing (a statement that is wrong, a violated constraint) stays what it is: a fault of ours.
"""

import apsw

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, ModeUnavailable, SchemaTooOld

_UNAVAILABLE: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.BusyError, "Another process holds the lock of the database."),
    (apsw.LockedError, "Another process holds the lock of the database."),
    (apsw.ProtocolError, "The lock of the database could not be taken."),
    (apsw.FullError, "The disk of the database is full, or its largest size is reached: make room."),
    (apsw.IOError, "The database file could not be read or written: its disk is full or broken."),
    (apsw.CantOpenError, "The database file cannot be opened: look whether it exists, and may be read and written."),
    (apsw.ReadOnlyError, "The database file or its directory may not be written to."),
    (apsw.PermissionsError, "The database file may not be opened by this user."),
    (apsw.CorruptError, "The database file is damaged: restore it from a backup."),
    (apsw.NotADBError, "The database file is no SQLite database: restore it from a backup."),
    (apsw.InterruptError, "The database took too long to answer."),
    (apsw.NoMemError, "The database ran out of memory."),
    (apsw.ConnectionClosedError, "The database is closed."),
)
_NOT_MIGRATED = ("no such table", "no such column")


def translate(error: apsw.Error) -> AgentMailError | None:
    """The core's error for a driver's; None when the database is not to blame."""
    for kind, message in _UNAVAILABLE:
        if isinstance(error, kind):
            return DatabaseUnavailable(message)
    if isinstance(error, apsw.SQLError) and str(error).removeprefix("SQLError: ").startswith(_NOT_MIGRATED):
        return SchemaTooOld()
    if isinstance(error, apsw.SQLError) and "no such function: vec_" in str(error):
        return ModeUnavailable("The extension sqlite-vec cannot be loaded here: use mode=text.")
    return None
