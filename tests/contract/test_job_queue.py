"""The job queue in memory and on a real Valkey: wakes are passed on soon, together, and never in the sender's way."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest
import redis

from agent_mail_cluster.memory.job_queue import Hear, MemoryJobQueue
from agent_mail_cluster.redis import job_queue
from agent_mail_cluster.redis.job_queue import QUEUE, RedisJobQueue, consume
from agent_mail_core.job_queue import MOST_BUNDLED, Bundle, JobKind, JobQueue, Wake
from tests.contract.clusters import until
from tests.contract.valkey_server import ValkeyServer, valkey_server

PATIENCE = 10.0


@dataclass
class Heard:
    """Who hears, and what."""

    wakes: Counter[Wake] = field(default_factory=Counter)

    async def __call__(self, kind: JobKind, subject_id: int) -> None:
        self.wakes[kind, subject_id] += 1


@asynccontextmanager
async def hearing(listening: asyncio.Future[None]) -> AsyncIterator[None]:
    """Until the end of the block."""
    await asyncio.sleep(0)
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.wait({listening})


@dataclass
class Pair:
    """Both halves of a queue."""

    queue: JobQueue
    url: str | None

    def hear(self, heard: Hear) -> asyncio.Future[None]:
        if self.url is None:
            assert isinstance(self.queue, MemoryJobQueue)
            return asyncio.ensure_future(self.queue.consume(heard))
        return asyncio.ensure_future(consume(self.url, "test", heard))


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.valkey)])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    if request.param == "memory":
        yield Pair(MemoryJobQueue(), None)
        return
    url: str = request.getfixturevalue("valkey_url")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    queue = RedisJobQueue(url, "test")
    yield Pair(queue, url)
    await queue.close()


async def test_a_wake_is_heard_soon(pair: Pair) -> None:
    heard = Heard()
    async with hearing(pair.hear(heard)):
        pair.queue.wake("archive", 7)
        await until(lambda: heard.wakes == {("archive", 7): 1})


async def test_a_thousand_wakes_of_one_subject_are_heard_a_few_times_and_cost_nothing(pair: Pair) -> None:
    heard = Heard()
    async with hearing(pair.hear(heard)):
        began = time.perf_counter()
        for _ in range(1000):
            pair.queue.wake("archive", 7)
        assert time.perf_counter() - began < 0.1
        pair.queue.wake("summary", 8)
        await until(lambda: heard.wakes["summary", 8] == 1)
        assert heard.wakes["archive", 7] == 1


async def test_what_comes_while_a_wake_is_heard_is_heard_too(pair: Pair) -> None:
    heard = Heard()
    may_go_on = asyncio.Event()

    async def slowly(kind: JobKind, subject_id: int) -> None:
        await heard(kind, subject_id)
        await may_go_on.wait()

    async with hearing(pair.hear(slowly)):
        pair.queue.wake("archive", 7)
        await until(lambda: heard.wakes["archive", 7] == 1)
        may_go_on.set()

        # What is being heard counts as queued, so this may need a second try.
        async def woken_again() -> bool:
            pair.queue.wake("archive", 7)
            await asyncio.sleep(0.01)
            return heard.wakes["archive", 7] >= 2

        await until(woken_again)


def test_a_bundle_is_bounded() -> None:
    async def overfilled() -> list[int]:
        passed_on: list[int] = []
        bundle = Bundle(lambda wakes: passed_on.append(len(wakes)))
        for subject_id in range(2 * MOST_BUNDLED):
            bundle.add(("archive", subject_id))
        await until(lambda: bool(passed_on))
        bundle.close()
        return passed_on

    assert asyncio.run(overfilled()) == [MOST_BUNDLED]


async def test_the_first_wake_after_a_pause_goes_at_once_and_others_together() -> None:
    passed_on: list[tuple[float, set[Wake]]] = []
    loop = asyncio.get_running_loop()
    bundle = Bundle(lambda wakes: passed_on.append((loop.time(), wakes)), every=0.3)
    began = loop.time()
    bundle.add(("archive", 1))
    await until(lambda: len(passed_on) == 1)
    bundle.add(("archive", 2))
    bundle.add(("archive", 3))
    bundle.add(("archive", 2))
    await until(lambda: len(passed_on) == 2)
    bundle.close()
    assert passed_on[0][0] - began < 0.15
    assert passed_on[1][0] - passed_on[0][0] >= 0.3
    assert [wakes for _, wakes in passed_on] == [{("archive", 1)}, {("archive", 2), ("archive", 3)}]


# --- on Redis alone ---------------------------------------------------------------------------------------------------


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


async def test_a_wake_is_heard_by_one_of_several_workers_and_leaves_nothing_behind(valkey_url: str) -> None:
    heard = [Heard(), Heard(), Heard()]
    queue = RedisJobQueue(valkey_url, "test")
    async with (
        hearing(asyncio.ensure_future(consume(valkey_url, "a", heard[0]))),
        hearing(asyncio.ensure_future(consume(valkey_url, "b", heard[1]))),
        hearing(asyncio.ensure_future(consume(valkey_url, "c", heard[2]))),
    ):
        for subject_id in range(30):
            queue.wake("archive", subject_id)

        def total() -> Counter[Wake]:
            return sum((one.wakes for one in heard), Counter())

        await until(lambda: len(total()) == 30)
        with redis.Redis.from_url(valkey_url) as client:
            await until(lambda: not [key for key in client.keys("arq:*") if b"health" not in key])
        assert set(total().values()) == {1}
    await queue.close()


async def test_both_halves_go_on_after_redis_was_flushed_or_started_anew(valkey: ValkeyServer) -> None:
    heard = Heard()
    queue = RedisJobQueue(valkey.url, "test")

    async def is_heard(subject_id: int) -> bool:
        queue.wake("archive", subject_id)
        await asyncio.sleep(0.02)
        return heard.wakes["archive", subject_id] >= 1

    async with hearing(asyncio.ensure_future(consume(valkey.url, "test", heard))):
        await until(lambda: is_heard(1))
        with redis.Redis.from_url(valkey.url) as client:
            client.flushall()
        await until(lambda: is_heard(2))
        valkey.stop()
        queue.wake("archive", 3)  # it is lost, and nobody notices
        await asyncio.sleep(0.05)
        valkey.start()
        await until(lambda: is_heard(4), patience=15)
    await queue.close()


async def test_nobody_waits_for_a_redis_that_does_not_answer(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_queue, "TIMEOUT", 0.3)
    heard = Heard()
    queue = RedisJobQueue(valkey.url, "test")
    async with hearing(asyncio.ensure_future(consume(valkey.url, "test", heard))):
        queue.wake("archive", 1)
        await until(lambda: heard.wakes["archive", 1] == 1)
        valkey.pause()
        try:
            began = time.perf_counter()
            for number in range(100):
                queue.wake("archive", number)
            assert time.perf_counter() - began < 0.05
            began = time.perf_counter()
            await queue.close()
            assert time.perf_counter() - began < 2
        finally:
            valkey.resume()
    again = RedisJobQueue(valkey.url, "test")
    async with hearing(asyncio.ensure_future(consume(valkey.url, "test", heard))):
        again.wake("summary", 1)
        await until(lambda: heard.wakes["summary", 1] == 1)
    await again.close()


async def test_what_is_no_wake_is_passed_over(valkey_url: str) -> None:
    """Anybody may have put it there who may write to this Redis."""
    heard = Heard()
    calls = {
        "kind": {"t": None, "f": "wake", "a": ["rm -rf", 1], "k": {}, "et": 1},
        "id": {"t": None, "f": "wake", "a": ["archive", "1"], "k": {}, "et": 1},
        "arguments": {"t": None, "f": "wake", "a": [], "k": {"x": 1}, "et": 1},
        "function": {"t": None, "f": "eval", "a": ["archive", 1], "k": {}, "et": 1},
    }
    with redis.Redis.from_url(valkey_url) as client:
        for name, call in calls.items():
            client.set(f"arq:job:{name}", orjson.dumps(call))
            client.zadd(QUEUE, {name: 1})
        client.set("arq:job:pickle", b"\x80\x04K\x01.")
        client.zadd(QUEUE, {"pickle": 1})
        queue = RedisJobQueue(valkey_url, "test")
        async with hearing(asyncio.ensure_future(consume(valkey_url, "test", heard))):
            await until(lambda: client.zcard(QUEUE) == 0)
            queue.wake("archive", 1)
            await until(lambda: heard.wakes == {("archive", 1): 1})
        await queue.close()


@pytest.mark.valkey
async def test_who_hears_stops_whenever_it_is_told_to(valkey_url: str) -> None:
    """At each step of connecting: a listener that went on would keep its worker from ending."""

    async def stop_after(steps: int) -> bool:
        listening = asyncio.ensure_future(consume(valkey_url, "test", Heard()))
        for _ in range(steps):
            await asyncio.sleep(0)
        listening.cancel()
        ended, _ = await asyncio.wait({listening}, timeout=PATIENCE)
        for _ in range(3):  # so that a failing test ends too
            listening.cancel()
            await asyncio.wait({listening}, timeout=0.1)
        return listening in ended

    for _ in range(10):
        assert await asyncio.gather(*(stop_after(steps) for steps in range(60))) == [True] * 60
