"""What may happen to a cluster: each fault hurts one part, undoes that, and returns once the part is up again."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

from loadtests.cluster import Cluster
from loadtests.pausing import paused
from tests.e2e.serving import family

PAUSE_SECONDS = 3.0
"""Longer than a writer of the ledger is patient: its retry on another worker races the paused one."""
AWAY_SECONDS = 1.0

Fault = Callable[[Cluster, random.Random], Awaitable[str]]
"""Returns the name of the part that it hit."""


async def kill_worker(cluster: Cluster, chance: random.Random) -> str:
    """SIGKILL, as when memory runs out; then a new process in its place."""
    worker = chance.choice(cluster.workers)
    worker.send(signal.SIGKILL)
    await worker.ended()
    await asyncio.sleep(chance.uniform(0, AWAY_SECONDS))
    worker.start()
    await worker.ready()
    return worker.name


async def pause_worker(cluster: Cluster, chance: random.Random) -> str:
    """SIGSTOP in the middle of whatever it does, then SIGCONT: its transactions stay open, its clients go elsewhere."""
    worker = chance.choice(cluster.workers)
    with paused(lambda: family(worker.pid)):
        await asyncio.sleep(PAUSE_SECONDS)
    return worker.name


async def flush_redis(cluster: Cluster, chance: random.Random) -> str:
    """FLUSHALL: sessions, wake-ups and counts are gone at once."""
    await cluster.flush_redis()
    return "redis"


async def restart_redis(cluster: Cluster, chance: random.Random) -> str:
    """Killed, away for a while, started again empty."""
    cluster.valkey.stop()
    await asyncio.sleep(AWAY_SECONDS)
    cluster.valkey.start()
    return "redis"


async def pause_redis(cluster: Cluster, chance: random.Random) -> str:
    """It takes connections and answers nothing."""
    with paused(lambda: [cluster.valkey.process.pid]):
        await asyncio.sleep(PAUSE_SECONDS)
    return "redis"


async def restart_postgres(cluster: Cluster, chance: random.Random) -> str:
    """A planned restart: sessions are ended, everything is written."""
    await cluster.postgres.restart(signal.SIGINT, AWAY_SECONDS)
    return "postgres"


async def crash_postgres(cluster: Cluster, chance: random.Random) -> str:
    """An immediate shutdown: what was committed has to come back from the log."""
    await cluster.postgres.restart(signal.SIGQUIT, 0)
    return "postgres"


async def pause_postgres(cluster: Cluster, chance: random.Random) -> str:
    """Every process of it stops for a while and then goes on, locks and all."""
    with paused(lambda: family(cluster.postgres.pid)):
        await asyncio.sleep(PAUSE_SECONDS)
    return "postgres"


async def rolling_restart(cluster: Cluster, chance: random.Random) -> str:
    """One worker after the other is asked to stop, and followed by a new process."""
    for worker in cluster.workers:
        worker.send(signal.SIGTERM)
        await worker.ended()
        worker.start()
        await worker.ready()
    return "every worker"


FAULTS: dict[str, Fault] = {
    "kill-worker": kill_worker,
    "pause-worker": pause_worker,
    "flush-redis": flush_redis,
    "restart-redis": restart_redis,
    "pause-redis": pause_redis,
    "restart-postgres": restart_postgres,
    "crash-postgres": crash_postgres,
    "pause-postgres": pause_postgres,
    "rolling-restart": rolling_restart,
}
