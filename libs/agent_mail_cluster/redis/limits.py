"""Limits over all workers: the moving window of the `limits` library in Redis, its tokens taken in small batches.

Owns how tokens come into this worker: a key that has none left asks for a batch; all keys that ask in the same moment
share one round trip; a key that was refused is refused here until the next try can succeed. A batch is at most 1/40 of
the limit over all workers, so what they hold unused is at most 2.5 % of it. The window's times are the workers': their
clocks must agree to about a second (NTP).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Sequence

from limits.aio.storage.redis.bridge import RedisBridge
from redis.exceptions import NoScriptError

from agent_mail_cluster.memory.limits import MAX_KEYS, MemoryLimits
from agent_mail_cluster.redis.connection import PREFIX, RedisConnection, lua
from agent_mail_cluster.redis.errors import translate
from agent_mail_cluster.redis.link import Command
from agent_mail_cluster.redis.signals import CHANNEL as EVERY_WORKER
from agent_mail_core.errors import Unavailable
from agent_mail_core.limits import Allowance, Budget, Limits

ACQUIRE = lua(RedisBridge.SCRIPT_ACQUIRE_MOVING_WINDOW.decode())
LOOK = lua(RedisBridge.SCRIPT_MOVING_WINDOW.decode())

SHARE = 40
"""A batch is the limit divided by this and by the number of workers."""

LARGEST_BATCH = 1000
"""Redis keeps an entry for each token: a batch of 800,000 was measured to hold up everybody for half a second."""

REFUSED_FOR = 1 / 400
"""Part of a window that a refusal is kept for at least. More, and a burst that comes again in every window drifts out
of some; less, and a busy refused key asks more often."""

MOST_TRIES = 3
"""How often a bucket asks for what seemed to be left and was not: other workers took it, or their clocks are wrong."""

COUNTED_EVERY = 5.0
LONGEST_KEY = 200


class _Bucket:
    """What this worker knows of one budget and key."""

    __slots__ = (
        "asks_for",
        "budget",
        "key",
        "left",
        "refused_until",
        "resets_at",
        "tokens",
        "tries",
        "used_at",
        "waiting",
    )

    def __init__(self, budget: Budget, key: str) -> None:
        self.budget = budget
        self.key = key
        self.tokens = 0
        """Taken from Redis and not yet granted."""
        self.left = 0
        """In Redis, when last seen."""
        self.resets_at = 0.0
        self.refused_until = 0.0
        self.used_at = 0.0
        self.asks_for = 0
        self.tries = 0
        self.waiting: deque[asyncio.Future[Allowance]] = deque()


class RedisLimits(Limits):
    """Buckets of tokens, filled from Redis. While Redis is away this worker judges every take alone."""

    def __init__(self, connection: RedisConnection, max_keys: int = MAX_KEYS) -> None:
        self.local_takes = 0
        """How often this worker judged alone."""
        self.workers = 1
        """How many listen to the channel of all workers, when last counted."""
        self._connection = connection
        self._max_keys = max_keys
        self._local = MemoryLimits(max_keys=max_keys)
        self._is_local = False
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._asking: list[_Bucket] = []
        self._filling: asyncio.Task[None] | None = None
        self._counted_at = float("-inf")
        connection.on_up(self._begin_anew)

    def __len__(self) -> int:
        return len(self._buckets)

    @property
    def is_local(self) -> bool:
        return self._is_local or not self._connection.is_up

    async def take(self, budget: Budget, key: str) -> Allowance:
        bucket = self._buckets.get((budget.name, key))
        if bucket is None:
            bucket = self._new_bucket(budget, key)
        now = time.monotonic()
        if bucket.tokens > 0:
            bucket.tokens -= 1
            bucket.used_at = now
            return Allowance(True, budget.limit, bucket.left + bucket.tokens, max(0.0, bucket.resets_at - now))
        if not self._connection.is_up:
            return self._judge_alone(bucket)
        if now < bucket.refused_until:
            return Allowance(False, budget.limit, 0, bucket.refused_until - now)
        bucket.used_at = now
        if not bucket.waiting:
            self._asking.append(bucket)
        answer: asyncio.Future[Allowance] = asyncio.get_running_loop().create_future()
        bucket.waiting.append(answer)
        if self._filling is None:
            self._filling = asyncio.create_task(self._fill())
        return await answer

    async def close(self) -> None:
        """Stop asking; who still waits is judged here."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait((self._filling,))

    def _new_bucket(self, budget: Budget, key: str) -> _Bucket:
        if len(self._buckets) >= self._max_keys:
            self._make_room()
        is_plain = len(key) <= LONGEST_KEY and key.isascii()
        name = key if is_plain else hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        bucket = _Bucket(budget, f"{PREFIX}limit:{budget.name}:{name}")
        self._buckets[budget.name, key] = bucket
        return bucket

    def _make_room(self) -> None:
        """Forget the tenth that was not used for longest; their tokens, a batch at most, are not granted."""
        idle = sorted(
            (place for place, b in self._buckets.items() if not b.waiting), key=lambda p: self._buckets[p].used_at
        )
        for place in idle[: self._max_keys // 10 + 1]:
            del self._buckets[place]

    # --- filling ------------------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Fill the buckets that ask, until none does. Those that ask meanwhile go together next time."""
        asking: list[_Bucket] = []
        try:
            while self._asking:
                asking, self._asking = self._asking, []
                try:
                    seen = await self._acquire(asking)
                except Unavailable:
                    self._is_local = True
                    for bucket in asking:
                        self._release_alone(bucket)
                    continue
                self._is_local = False
                for bucket, (is_granted, oldest, count) in zip(asking, seen, strict=True):
                    self._settle(bucket, is_granted, oldest, count)
        finally:
            self._filling = None
            for bucket in (*asking, *self._asking):
                self._release_alone(bucket)
            self._asking = []

    async def _acquire(self, buckets: Sequence[_Bucket]) -> list[tuple[bool, float, int]]:
        """For each bucket whether it got what it asks for, the window's oldest entry and how many are in it."""
        now = time.time()
        commands: list[Command] = []
        for bucket in buckets:
            budget = bucket.budget
            if not bucket.asks_for:
                batch = min(budget.limit // (SHARE * self.workers), LARGEST_BATCH)
                bucket.asks_for = min(budget.limit, max(1, batch, len(bucket.waiting)))
            key, window = bucket.key, budget.window_seconds
            commands.append(("EVALSHA", ACQUIRE.sha, 1, key, now, budget.limit, window, bucket.asks_for))
            commands.append(("EVALSHA", LOOK.sha, 1, key, now - window, budget.limit))
        if now - self._counted_at > COUNTED_EVERY:
            self._counted_at = now
            commands.append(("PUBSUB", "NUMSUB", EVERY_WORKER))
        answers = await self._connection.call_all(commands)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._connection.call_all([("SCRIPT", "LOAD", ACQUIRE.text), ("SCRIPT", "LOAD", LOOK.text)])
            answers = await self._connection.call_all(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise translate(answer)
        if len(answers) > 2 * len(buckets):
            self.workers = max(1, int(answers[-1][1]))
        return [
            (bool(acquired), float(window[0]) if window else now, int(window[1]) if window else 0)
            for acquired, window in zip(
                answers[0 : 2 * len(buckets) : 2], answers[1 : 2 * len(buckets) : 2], strict=True
            )
        ]

    def _settle(self, bucket: _Bucket, is_granted: bool, oldest: float, count: int) -> None:
        """Hand out what was got. A part of it is asked for again when there was not enough for all of it."""
        now, limit, window = time.monotonic(), bucket.budget.limit, bucket.budget.window_seconds
        resets_after = min(max(0.0, oldest + window - time.time()), float(window))
        bucket.left = max(0, limit - count)
        bucket.resets_at = now + resets_after
        if is_granted:
            bucket.tokens += bucket.asks_for
            bucket.asks_for = bucket.tries = 0
        elif bucket.left and bucket.tries < MOST_TRIES:
            bucket.tries += 1
            bucket.asks_for = min(bucket.asks_for - 1, bucket.left) or 1
        else:
            bucket.asks_for = bucket.tries = 0
            if bucket.left:
                resets_after = 0.0
            bucket.refused_until = now + max(resets_after, window * REFUSED_FOR)
        while bucket.waiting:
            answer = bucket.waiting[0]
            if answer.done():
                pass
            elif bucket.tokens > 0:
                bucket.tokens -= 1
                answer.set_result(Allowance(True, limit, bucket.left + bucket.tokens, resets_after))
            elif bucket.refused_until > now:
                answer.set_result(Allowance(False, limit, 0, bucket.refused_until - now))
            else:
                self._asking.append(bucket)
                return
            bucket.waiting.popleft()

    # --- without Redis ------------------------------------------------------------------------------------------------

    def _judge_alone(self, bucket: _Bucket) -> Allowance:
        self.local_takes += 1
        return self._local.take_now(bucket.budget, bucket.key)

    def _release_alone(self, bucket: _Bucket) -> None:
        bucket.asks_for = 0
        while bucket.waiting:
            answer = bucket.waiting.popleft()
            if not answer.done():
                answer.set_result(self._judge_alone(bucket))

    def _begin_anew(self) -> None:
        self._is_local = False
        self._counted_at = float("-inf")
