"""How the interpreter is set for a process that serves: garbage collection, and turns of threads."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 10_000
"""How many more objects there are than at the last look before Python looks for garbage in circles again.

Requests make few circles and many objects: at Python's own 700 looking took an eighth of a send's time.
"""

TURN_SECONDS = 0.0005
"""How long a thread that runs Python keeps others waiting who want to.

The event loop lets go at each SQLite statement; at Python's own 5 ms each of them could wait that long for the thread
that writes the archive.
"""


@contextmanager
def set_for_serving() -> Iterator[None]:
    """Enter it once everything is built: until it is left, what is there by then is not looked through for garbage."""
    sys.setswitchinterval(TURN_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
