"""What may happen to those that archive: each fault hurts one part, undoes that, and returns once the part is up."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections import Counter

from agent_mail_core.jobs import LEASE
from loadtests.cluster import Cluster
from loadtests.faults import AWAY_SECONDS, FAULTS, Fault
from loadtests.members import until
from loadtests.pausing import paused
from tests.e2e.serving import family

BEYOND_SECONDS = 2.0
"""That a worker is paused beyond its lease: another one has taken its jobs by then."""
FULL_SECONDS = 3.0
"""That the disk stays full after the first job has met it."""
MEET_TIMEOUT = 30.0
NO_ROOM = re.compile(r"disk is full|no space left", re.IGNORECASE)
LOST = "job lost to another worker, or to time"


async def kill_job_worker(cluster: Cluster, chance: random.Random) -> str:
    """SIGKILL; then a new process in its place, which waits for the leases of the dead one like everybody else."""
    worker = chance.choice(cluster.job_workers)
    worker.send(signal.SIGKILL)
    await worker.ended()
    await asyncio.sleep(chance.uniform(0, AWAY_SECONDS))
    worker.start()
    await worker.ready()
    return worker.name


async def stop_job_worker(cluster: Cluster, chance: random.Random) -> str:
    """SIGTERM: it gives its jobs back."""
    worker = chance.choice(cluster.job_workers)
    worker.send(signal.SIGTERM)
    await worker.ended()
    worker.start()
    await worker.ready()
    return worker.name


def pause_job_worker(lease: float) -> Fault:
    """SIGSTOP for longer than a lease lasts, then SIGCONT: it goes on in the middle of what is another's by then."""

    async def pause(cluster: Cluster, chance: random.Random) -> str:
        worker = chance.choice(cluster.job_workers)
        with paused(lambda: family(worker.pid)):
            await asyncio.sleep(lease + BEYOND_SECONDS)
        return worker.name

    return pause


async def fill_disk(cluster: Cluster, chance: random.Random) -> str:
    """Not a byte fits onto a disk of archives until a job has met that, and for a while after; then there is room."""
    before = refused_by_disk(cluster)
    with chance.choice(cluster.disks).filled():
        await until(
            lambda: refused_by_disk(cluster) > before, f"a job on the full disk, {undone(cluster)}", MEET_TIMEOUT
        )
        await asyncio.sleep(FULL_SECONDS)
    return f"{refused_by_disk(cluster) - before} attempts met it"


def refused_by_disk(cluster: Cluster) -> int:
    """Attempts that found the disk full, as the workers told."""
    return sum(count for reason, count in undone(cluster).items() if NO_ROOM.search(reason))


def undone(cluster: Cluster) -> Counter[str]:
    """Why attempts to do jobs came to nothing, as the workers told."""
    lines = [line for worker in cluster.job_workers for line in worker.lines("job not done")]
    lost = sum(len(worker.lines(LOST)) for worker in cluster.job_workers)
    reasons = Counter(
        str(line.get("reason") or line.get("exception", "")).strip().rpartition("\n")[2] for line in lines
    )
    return reasons + Counter({LOST: lost})


def archive_faults(lease: float = LEASE.total_seconds()) -> dict[str, Fault]:
    """Those of job workers and disks, and all others that there are."""
    return {
        "kill-job-worker": kill_job_worker,
        "stop-job-worker": stop_job_worker,
        "pause-job-worker": pause_job_worker(lease),
        "fill-disk": fill_disk,
        **FAULTS,
    }
