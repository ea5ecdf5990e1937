"""What a server shares with its fellows: the ports of the cluster, in memory or on Redis, as REDIS_URL says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from agent_mail_cluster.memory.job_queue import Hear, MemoryJobQueue
from agent_mail_cluster.memory.limits import MemoryLimits
from agent_mail_cluster.memory.replies import MemoryReplies
from agent_mail_cluster.memory.sessions import MemorySessions
from agent_mail_cluster.memory.signals import MemorySignals
from agent_mail_cluster.memory.stream_log import MemoryStreamLog
from agent_mail_cluster.memory.subscriptions import MemorySubscriptions
from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_core.job_queue import JobQueue
from agent_mail_core.limits import Limits
from agent_mail_core.ports import Clock, Dependency, Wakeups
from agent_mail_core.questions import Questions
from agent_mail_core.replies import Replies
from agent_mail_core.sessions import Sessions
from agent_mail_core.settings import Settings
from agent_mail_core.settings_errors import SettingsError
from agent_mail_core.signals import Signals
from agent_mail_core.stream_log import StreamLog
from agent_mail_core.subscriptions import Subscriptions

STREAM_TTL_SECONDS = 300
"""How long a client may be gone and still resume its stream."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The ports, and what running them needs."""

    sessions: Sessions
    wakeups: Wakeups
    signals: Signals
    replies: Replies
    stream_log: StreamLog
    subscriptions: Subscriptions
    limits: Limits
    jobs: JobQueue
    hear_jobs: Callable[[Hear], Awaitable[None]]
    """For who does jobs: until cancelled, call the function with what the queue tells."""
    listened: Callable[[], frozenset[str]]
    """The topics that somebody on this worker listens to."""
    wake_here: Callable[[Iterable[str]], Awaitable[None]]
    """Wake this worker's listeners only."""
    is_lossy: Callable[[], bool]
    """Whether wake-ups may be missing now."""
    questions: Questions | None = None
    """From servers to job workers; None where one process is both."""
    dependencies: tuple[Dependency, ...] = ()


def cluster(settings: Settings, clock: Clock) -> AbstractAsyncContextManager[Cluster]:
    """The ports, open while the block lasts. A Redis that is away is no error: it may come back."""
    if settings.redis_url is not None:
        return _redis(settings, settings.redis_url.get_secret_value())
    return _memory(settings, clock)


@asynccontextmanager
async def _memory(settings: Settings, clock: Clock) -> AsyncIterator[Cluster]:
    wakeups, jobs = MemoryWakeups(), MemoryJobQueue()
    yield Cluster(
        sessions=MemorySessions(clock, settings.session_ttl_seconds),
        wakeups=wakeups,
        signals=MemorySignals(),
        replies=MemoryReplies(),
        stream_log=MemoryStreamLog(clock, wakeups, STREAM_TTL_SECONDS),
        subscriptions=MemorySubscriptions(clock, wakeups, settings.session_ttl_seconds),
        limits=MemoryLimits(),
        jobs=jobs,
        hear_jobs=jobs.consume,
        listened=lambda: wakeups.topics,
        wake_here=wakeups.publish,
        is_lossy=lambda: False,
    )


@asynccontextmanager
async def _redis(settings: Settings, url: str) -> AsyncIterator[Cluster]:
    # The embedded mode starts without the driver.
    from agent_mail_cluster.redis.connection import connect
    from agent_mail_cluster.redis.job_queue import RedisJobQueue, consume
    from agent_mail_cluster.redis.limits import RedisLimits
    from agent_mail_cluster.redis.questions import RedisQuestions
    from agent_mail_cluster.redis.replies import RedisReplies
    from agent_mail_cluster.redis.sessions import RedisSessions
    from agent_mail_cluster.redis.signals import RedisSignals
    from agent_mail_cluster.redis.stream_log import RedisStreamLog
    from agent_mail_cluster.redis.subscriber import Subscriber
    from agent_mail_cluster.redis.subscriptions import RedisSubscriptions
    from agent_mail_cluster.redis.wakeups import RedisWakeups

    try:
        connection = connect(url)
    except ValueError as error:
        raise SettingsError(f"REDIS_URL: {error}") from None
    subscriber = Subscriber(connection)
    wakeups = RedisWakeups(connection, subscriber)
    limits = RedisLimits(connection)
    jobs = RedisJobQueue(url, connection.worker)

    async def wake_here(topics: Iterable[str]) -> None:
        wakeups.wake(topics)

    ports = Cluster(
        sessions=RedisSessions(connection, subscriber, settings.session_ttl_seconds),
        wakeups=wakeups,
        signals=RedisSignals(connection, subscriber),
        replies=RedisReplies(connection, subscriber),
        stream_log=RedisStreamLog(connection, wakeups, STREAM_TTL_SECONDS),
        subscriptions=RedisSubscriptions(connection, wakeups, settings.session_ttl_seconds),
        limits=limits,
        jobs=jobs,
        hear_jobs=lambda hear: consume(url, connection.worker, hear),
        listened=lambda: wakeups.topics,
        wake_here=wake_here,
        is_lossy=lambda: wakeups.is_lossy,
        questions=RedisQuestions(connection, subscriber),
        dependencies=(Dependency("redis", connection.check),),
    )
    try:
        await connection.open()
        await subscriber.open()
        yield ports
    finally:
        await jobs.close()
        await limits.close()
        await subscriber.close()
        await connection.close()
