"""The queue between servers and job workers, on arq: both halves, so that no other file knows the library.

A wake is a queued call of one function with a kind and a subject's id. arq runs it once however often it is queued
meanwhile, and forgets it when it has returned, which it does at once: the work itself is in the database, and how it
is taken, limited, repeated and given up is told there (`jobs.perform`), not by arq.

Measured on arq 0.28: with its own poll_delay of 0.5 s a wake is picked up after 436 ms, with 0.05 s after 17 ms. It
pickles by default, and whoever may write to a queue of pickles may run what they like in its workers: hence JSON.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast, get_args

import orjson
import structlog
from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from agent_mail_cluster.redis.urls import server
from agent_mail_core.job_queue import MOST_BUNDLED, Bundle, JobKind, JobQueue, Wake

Hear = Callable[[JobKind, int], Awaitable[None]]

FUNCTION = "wake"
QUEUE = "am:jobs"
KINDS = frozenset(get_args(JobKind))

TIMEOUT = 2.0
"""Seconds for one command."""

POLL_SECONDS = 0.05
HEARD_AT_ONCE = 4
HEAR_TIMEOUT = 10
"""Seconds until a wake that was picked up by a worker which died is picked up by another, less ten."""

KEPT_MS = 60_000
"""How long a wake is worth hearing; by then the sweep has found its work."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)
"""RuntimeError: the event loop's transports say it when a connection was closed under a command."""


def _client(url: str, name: str) -> ArqRedis:
    """Raises ValueError for a URL that is none."""
    pool: ConnectionPool = server(url, f"agent-mail-{name}").pool
    pool.connection_kwargs.update(socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
    return ArqRedis(
        pool,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        default_queue_name=QUEUE,
        expires_extra_ms=KEPT_MS,
    )


async def _close(client: ArqRedis) -> None:
    await client.aclose(close_connection_pool=True)


class RedisJobQueue(JobQueue):
    """Queues wakes, in the background. Made where the event loop runs; close it."""

    def __init__(self, url: str, worker: str) -> None:
        self._client = _client(url, f"{worker}-jobs")
        self._bundle = Bundle(self._pass_on)
        self._sending: asyncio.Task[None] | None = None
        self._passed_on: set[Wake] = set()

    def wake(self, kind: JobKind, subject_id: int) -> None:
        self._bundle.add((kind, subject_id))

    async def close(self) -> None:
        """Send what is being sent, and let go of the connection."""
        self._bundle.close()
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=TIMEOUT)
            self._sending.cancel()
        await _close(self._client)

    def _pass_on(self, wakes: set[Wake]) -> None:
        if len(self._passed_on) < MOST_BUNDLED:
            self._passed_on |= wakes
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._passed_on:
            wakes, self._passed_on = self._passed_on, set()
            try:
                for kind, subject_id in wakes:
                    async with asyncio.timeout(TIMEOUT):
                        await self._client.enqueue_job(FUNCTION, kind, subject_id, _job_id=f"{kind}:{subject_id}")
            except FAILURES:  # the link in connection.py tells of the outage, and the sweep finds the work
                continue


async def consume(url: str, worker: str, hear: Hear) -> None:
    """Until cancelled: call `hear` with each wake, up to HEARD_AT_ONCE at a time; it raises nothing.

    A Redis that is away, flushed or started anew is asked again and again.
    """
    pause, is_away = FIRST_PAUSE, False
    while True:
        client = _client(url, f"{worker}-hears")
        arq = _listener(client, hear)
        began = asyncio.get_running_loop().time()
        try:
            await arq.async_run()
        except FAILURES as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the client's own timeouts can take a cancellation for one
                raise asyncio.CancelledError from error
            if asyncio.get_running_loop().time() - began > LONGEST_PAUSE:
                pause, is_away = FIRST_PAUSE, False
            if not is_away:
                structlog.get_logger().warning("the job queue is away", reason=f"{type(error).__name__}: {error}")
            is_away = True
        finally:
            for task in arq.tasks.values():
                task.cancel()
            await asyncio.gather(*arq.tasks.values(), return_exceptions=True)
            if arq.finishing:
                await asyncio.wait(arq.finishing, timeout=TIMEOUT)
            await _close(client)
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that workers do not come all at once
        pause = min(pause * 2, LONGEST_PAUSE)


def _listener(client: ArqRedis, hear: Hear) -> _Listener:
    async def wake(ctx: dict[Any, Any], *arguments: Any, **named: Any) -> None:
        match arguments:  # anybody may have put them there who may write to this Redis
            case (str(kind), int(subject_id)) if kind in KINDS:
                await hear(cast("JobKind", kind), subject_id)

    return _Listener(
        [func(wake, name=FUNCTION, keep_result=0, timeout=HEAR_TIMEOUT, max_tries=1)],
        queue_name=QUEUE,
        redis_pool=client,
        handle_signals=False,
        max_jobs=HEARD_AT_ONCE,
        poll_delay=POLL_SECONDS,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )


class _Listener(Worker):
    """Without the line about Redis that arq logs at its start: INFO is no command for an account of few rights.

    And it ends when it is cancelled: while redis-py connects, it can swallow that. What arq writes after a call it
    shields from being cancelled, in tasks of their own: `finishing`, which nobody else waits for.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.finishing: set[asyncio.Task[None]] = set()

    async def main(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        while not task.cancelling():
            await self._poll_iteration()
            if not task.cancelling():
                await asyncio.sleep(self.poll_delay_s)
        raise asyncio.CancelledError

    async def finish_job(self, *arguments: Any, **named: Any) -> None:
        await self._finish(super().finish_job(*arguments, **named))

    async def finish_failed_job(self, *arguments: Any, **named: Any) -> None:
        await self._finish(super().finish_failed_job(*arguments, **named))

    async def _finish(self, writing: Awaitable[None]) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self.finishing.add(task)
        try:
            with suppress(*FAILURES):
                await writing
        finally:
            self.finishing.discard(task)
