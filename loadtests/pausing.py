"""Processes that stand still for a while, and go on whatever becomes of us."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

LET_GO = 'all=; while read -r pid; do all="$pid $all"; done; kill -CONT $all 2>/dev/null; exit 0'
"""The first to stop, a parent, goes on last."""


@contextmanager
def paused(members: Callable[[], Sequence[int]]) -> Iterator[list[int]]:
    """Stop all `members`, which are asked for until no new one appears; yields them. They go on at the end.

    A shell sees to that when our pipe to it ends, and the kernel ends that should we be killed: a process that is
    stopped heeds no other signal, so that nothing else would ever end it.
    """
    with subprocess.Popen(["/bin/sh", "-c", LET_GO], stdin=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdin is not None
        stopped: list[int] = []
        while left := [pid for pid in members() if pid not in stopped]:  # children that began meanwhile
            shell.stdin.write(b"".join(b"%d\n" % pid for pid in left))
            shell.stdin.flush()
            for pid in left:
                send_signal(pid, signal.SIGSTOP)
            stopped += left
        yield stopped


def send_signal(pid: int, number: signal.Signals) -> None:
    """To one process, which may be gone by now."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
