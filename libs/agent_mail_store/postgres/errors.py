"""What asyncpg and the network raise, as the core's errors: the only such table of this backend.

The message of a driver's error never reaches a caller, who could read statements and values in it. What is none of the
world's doing (a statement that is wrong, a value that does not fit its column) stays what it is: a fault of ours.
"""

import socket
from typing import NoReturn

import asyncpg

from agent_mail_core.errors import AgentMailError, DatabaseUnavailable, SchemaTooOld, TransactionConflict

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""All that a call of the driver raises; TimeoutError is an OSError."""

_LOST_RACES = (
    asyncpg.TransactionRollbackError,  # serialization failure, deadlock
    asyncpg.LockNotAvailableError,
    asyncpg.ForeignKeyViolationError,  # what it points at was deleted meanwhile
    asyncpg.InvalidCachedStatementError,  # a migration changed the table below a prepared statement
)
_NOT_MIGRATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
_AWAY = (
    OSError,
    asyncpg.InterfaceError,  # the connection is closed, or being closed
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.OperatorInterventionError,  # stopping, starting, statement timeout, session ended
    asyncpg.PostgresSystemError,
    asyncpg.InvalidTransactionTerminationError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # the primary became a replica
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_LOSES_CONNECTION = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)


def translate(error: BaseException) -> AgentMailError | None:
    """The core's error for a driver's; None when it is neither a lost race nor a database that is away."""
    if isinstance(error, ValueError):
        return None  # an argument that does not fit its parameter, which asyncpg files under InterfaceError
    if isinstance(error, _LOST_RACES):
        return TransactionConflict()
    if isinstance(error, _NOT_MIGRATED):
        return SchemaTooOld()
    if isinstance(error, _AWAY):
        return DatabaseUnavailable(_reason(error))
    return None


def _reason(error: BaseException) -> str | None:
    """What whoever set the server up can mend; fixed texts, because those of the driver name hosts and users."""
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "The database server refuses the user or the password of DATABASE_URL."
        case asyncpg.InvalidCatalogNameError():
            return "The database server has no database of the name in DATABASE_URL."
        case ConnectionRefusedError() | FileNotFoundError() | socket.gaierror():
            return "No database server answers at the address in DATABASE_URL."
        case asyncpg.ProtocolViolationError() if "startup parameter" in str(error):
            return "A pooler refuses the settings of our connections: set DATABASE_STATEMENT_CACHE=0."
        case _:
            return None


def raise_translated(error: BaseException) -> NoReturn:
    """Raise the core's error for a driver's, or the driver's own when there is none."""
    ours = translate(error)
    if ours is None:
        raise error
    raise ours from error


def is_connection_lost(error: BaseException) -> bool:
    """Whether the connection it came over must not be used again."""
    return isinstance(error, _LOSES_CONNECTION)
