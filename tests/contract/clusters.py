"""The cluster ports as a worker has them, in memory and on Redis, for tests that ask both the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import redis

from agent_mail_cluster.memory.limits import MemoryLimits
from agent_mail_cluster.memory.replies import MemoryReplies
from agent_mail_cluster.memory.sessions import MemorySessions
from agent_mail_cluster.memory.signals import MemorySignals
from agent_mail_cluster.memory.stream_log import MemoryStreamLog
from agent_mail_cluster.memory.subscriptions import MemorySubscriptions
from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_cluster.redis.connection import RedisConnection, connect
from agent_mail_cluster.redis.limits import RedisLimits
from agent_mail_cluster.redis.replies import RedisReplies
from agent_mail_cluster.redis.sessions import RedisSessions
from agent_mail_cluster.redis.signals import RedisSignals
from agent_mail_cluster.redis.stream_log import RedisStreamLog
from agent_mail_cluster.redis.subscriber import Subscriber
from agent_mail_cluster.redis.subscriptions import RedisSubscriptions
from agent_mail_cluster.redis.wakeups import RedisWakeups
from agent_mail_core.clock import SystemClock
from agent_mail_core.limits import Limits
from agent_mail_core.replies import Replies
from agent_mail_core.sessions import Sessions
from agent_mail_core.signals import Signals
from agent_mail_core.stream_log import StreamLog
from agent_mail_core.subscriptions import Subscriptions

TTL = 100


@dataclass(frozen=True)
class Worker:
    """What one worker has of the cluster. Typed by the wake-ups that both halves have in common."""

    sessions: Sessions
    wakeups: MemoryWakeups | RedisWakeups
    stream_log: StreamLog
    replies: Replies
    signals: Signals
    subscriptions: Subscriptions
    limits: Limits


@dataclass(frozen=True)
class RedisWorker(Worker):
    """One on Redis, with what carries it."""

    connection: RedisConnection
    subscriber: Subscriber
    sessions: RedisSessions
    wakeups: RedisWakeups
    limits: RedisLimits


def memory_worker() -> Worker:
    """The only worker of the embedded mode."""
    clock, wakeups = SystemClock(), MemoryWakeups()
    return Worker(
        sessions=MemorySessions(clock, TTL),
        wakeups=wakeups,
        stream_log=MemoryStreamLog(clock, wakeups, TTL),
        replies=MemoryReplies(),
        signals=MemorySignals(),
        subscriptions=MemorySubscriptions(clock, wakeups, TTL),
        limits=MemoryLimits(),
    )


@asynccontextmanager
async def redis_worker(url: str, *, ttl: int = TTL, **sessions: Any) -> AsyncIterator[RedisWorker]:
    """A worker of a cluster; all of its tasks and connections are gone at the end."""
    connection = connect(url)
    subscriber = Subscriber(connection)
    wakeups = RedisWakeups(connection, subscriber)
    worker = RedisWorker(
        sessions=RedisSessions(connection, subscriber, ttl, **sessions),
        wakeups=wakeups,
        stream_log=RedisStreamLog(connection, wakeups, ttl),
        replies=RedisReplies(connection, subscriber),
        signals=RedisSignals(connection, subscriber),
        subscriptions=RedisSubscriptions(connection, wakeups, ttl),
        limits=RedisLimits(connection),
        connection=connection,
        subscriber=subscriber,
    )
    try:
        await connection.open()
        await subscriber.open()
        yield worker
    finally:
        await worker.limits.close()
        await subscriber.close()
        await connection.close()


@asynccontextmanager
async def redis_workers(url: str, count: int, **options: Any) -> AsyncIterator[list[RedisWorker]]:
    """Several, which have heard of each other."""
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(redis_worker(url, **options)) for _ in range(count)]
        for worker in workers:
            await until(lambda worker=worker: not worker.wakeups.is_lossy)
        yield workers


async def until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]], patience: float = 5.0) -> float:
    """Return how many seconds it took until something holds; fail when it does not within `patience`."""
    began = time.monotonic()
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return time.monotonic() - began
        assert time.monotonic() - began < patience, "it did not come to hold"
        await asyncio.sleep(0.01)


def connected(url: str) -> int:
    """How many clients the server has, the asking one apart."""
    with redis.Redis.from_url(url) as client:
        return len([c for c in client.client_list() if c["name"].startswith("agent-mail-")])
