"""Time: aware UTC, and never going back within a process.

Postgres uses its own clock for whatever is stored or expires; this one serves SQLite, cursors of memory and log lines.
"""

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class SystemClock:
    """Wall-clock time in microseconds that does not go back when the machine's clock does."""

    def __init__(self) -> None:
        self._last = 0

    def microseconds(self) -> int:
        """Microseconds since 1970; never less than an earlier answer."""
        self._last = max(self._last, time.time_ns() // 1000)
        return self._last

    def now(self) -> datetime:
        """The same instant as a datetime."""
        return from_microseconds(self.microseconds())


def from_microseconds(value: int) -> datetime:
    """Microseconds since 1970 as an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=value)


def to_microseconds(value: datetime) -> int:
    """An aware datetime as microseconds since 1970; years 1 to 9999 fit."""
    return (value - EPOCH) // MICROSECOND
