"""What the server's processes take while nothing is asked of them, as the kernel counts it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.serving import cpu_seconds, family

SETTLING = 2.0
WATCHED = 3.0


@dataclass(frozen=True)
class Processes:
    """All processes of one server. Memory in megabytes (10^6 bytes)."""

    engine: str
    ready_after: float
    """Seconds from the start of the command to the first answer of /ready."""
    start_cpu: float
    """Seconds of processor time, of all its processes, that this took."""
    resident: list[float]
    """Of each process, the parent first; what they share is counted in each."""
    proportional: list[float]
    """The same with what they share divided among them; empty where the kernel does not tell."""
    idle_share: float
    """Of one processor, all of them together."""

    def sentence(self) -> str:
        """For people."""
        resident = " + ".join(f"{size:.0f}" for size in self.resident)
        proportional = " + ".join(f"{size:.0f}" for size in self.proportional)
        shared = f" ({proportional} MB with what is shared divided)" if len(self.proportional) > 1 else ""
        return (
            f"{self.engine}: ready after {self.ready_after:.2f} s ({self.start_cpu:.2f} s of CPU);"
            f" at rest {resident} MB resident{shared},"
            f" {self.idle_share:.1%} of a processor."
        )


def at_rest(engine: str, ready_after: float, pid: int) -> Processes:
    """Look at a server that has just become ready, after it has settled."""
    start_cpu = cpu_seconds(pid)
    time.sleep(SETTLING)
    cpu, begun = cpu_seconds(pid), time.monotonic()
    time.sleep(WATCHED)
    share = (cpu_seconds(pid) - cpu) / (time.monotonic() - begun)
    members = family(pid)
    resident = [size for member in members if (size := megabytes(f"/proc/{member}/status", "VmRSS"))]
    proportional = [size for member in members if (size := megabytes(f"/proc/{member}/smaps_rollup", "Pss"))]
    return Processes(engine, ready_after, start_cpu, resident, proportional, share)


def megabytes(path: str, name: str) -> float:
    """What a line `name:  number kB` of a file says; 0 when there is none."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 / 1e6 if found else 0
