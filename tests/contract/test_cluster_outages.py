"""What lives in Redis may vanish at any time: flushed, paused, killed. Two workers, and a server of one's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
import redis

from agent_mail_cluster.redis.connection import connect
from agent_mail_cluster.redis.wakeups import look_while_lossy
from agent_mail_core.errors import Unavailable
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.limits import Budget
from agent_mail_core.signals import Signal
from tests.contract.clusters import RedisWorker, connected, redis_worker, redis_workers, until
from tests.contract.valkey_server import ValkeyServer, valkey_server

pytestmark = pytest.mark.valkey

TEAM, ANN = TeamId(1), Principal("token:1")
READS = Budget("reads", 5)

Pair = list[RedisWorker]


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@pytest.fixture
async def workers(server: ValkeyServer) -> AsyncIterator[Pair]:
    """Two; each has two connections, whatever happened, and none at the end."""
    async with redis_workers(server.url, 2) as workers:
        yield workers
        await until(lambda: connected(server.url) == 4)
    await until(lambda: connected(server.url) == 0)


async def works(one: RedisWorker, two: RedisWorker) -> bool:
    """Whether all of it works between two workers, each way."""
    if one.wakeups.is_lossy or two.wakeups.is_lossy or one.limits.is_local:
        return False
    try:
        session = await one.sessions.create(TEAM, ANN, "v", {})
        assert await two.sessions.get(session.id) == session
        await two.stream_log.append(session.id, b"x")
        assert len((await one.stream_log.read_after(session.id, None)).events) == 1
        await one.sessions.delete(session.id)
    except Unavailable:
        return False
    with one.replies.expect("s") as expected:
        assert await two.replies.deliver("s", expected.request_id, {"ok": 1})
        assert await expected.wait(1) == {"ok": 1}
    async with one.wakeups.subscribe("t") as news:
        await two.wakeups.publish(["t"])
        assert await news.wait(1)
    return True


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_that_is_used_costs_no_round_trip_and_slides(server: ValkeyServer) -> None:
    async with redis_worker(server.url, ttl=60) as worker:
        await until(lambda: not worker.wakeups.is_lossy)
        session = await worker.sessions.create(TEAM, ANN, "v", {})
        await worker.subscriptions.add(session.id, "u")
        with redis.Redis.from_url(server.url) as client:
            keys = [key.decode() for key in client.keys("am:s*")]
            assert len(keys) == 3
            for key in keys:
                client.expire(key, 5)
            assert await worker.sessions.get(session.id) == session
            assert all(50 < client.ttl(key) <= 60 for key in keys)
            calls = client.info("stats")["total_commands_processed"]
            for _ in range(1000):
                assert await worker.sessions.get(session.id) == session
            assert client.info("stats")["total_commands_processed"] - calls < 50
            await worker.sessions.delete(session.id)
            assert client.keys("am:s*") == []


async def test_an_unused_session_ends(server: ValkeyServer) -> None:
    async with redis_worker(server.url, ttl=1) as worker:
        session = await worker.sessions.create(TEAM, ANN, "v", {})
        with redis.Redis.from_url(server.url) as client:
            await until(lambda: client.keys("am:s*") == [], patience=3)
        assert await worker.sessions.get(session.id) is None


async def test_past_the_limit_the_principals_oldest_ends_everywhere(server: ValkeyServer) -> None:
    async with redis_workers(server.url, 2, most_a_principal=3) as (one, two):
        bobs = await one.sessions.create(TEAM, Principal("bob"), "v", {})
        anns = [await one.sessions.create(TEAM, ANN, "v", {}) for _ in range(3)]
        for session in (bobs, *anns):
            assert await two.sessions.get(session.id) == session
        await one.sessions.delete(anns[1].id)
        anns += [await two.sessions.create(TEAM, ANN, "v", {}) for _ in range(2)]
        await until(lambda: len(two.sessions._copies) == 2)
        assert [await two.sessions.get(s.id) is not None for s in anns] == [False, False, True, True, True]
        assert await two.sessions.get(bobs.id) == bobs


async def test_expired_sessions_make_room_before_live_ones_end(server: ValkeyServer) -> None:
    async with redis_workers(server.url, 1, most_a_principal=3) as (worker,):
        anns = [await worker.sessions.create(TEAM, Principal("cid"), "v", {}) for _ in range(3)]
        with redis.Redis.from_url(server.url) as client:
            client.delete(f"am:session:{anns[1].id}")
        await worker.sessions.create(TEAM, Principal("cid"), "v", {})
        assert [await worker.sessions.get(session.id) is not None for session in anns] == [True, False, True]


async def test_a_session_that_ends_while_it_is_read_is_not_kept(workers: Pair) -> None:
    one, two = workers
    for _ in range(50):
        session = await one.sessions.create(TEAM, ANN, "v", {})
        reads = [asyncio.create_task(two.sessions.get(session.id)) for _ in range(3)]
        await one.sessions.delete(session.id)
        await asyncio.gather(*reads)
        await asyncio.sleep(0.01)
        assert await two.sessions.get(session.id) is None


async def test_a_worker_that_hears_nothing_asks_redis_each_time(workers: Pair) -> None:
    one, two = workers
    session = await one.sessions.create(TEAM, ANN, "v", {})
    assert await two.sessions.get(session.id) == session
    await two.subscriber.close()
    assert not two.sessions._copies
    await one.sessions.delete(session.id)
    assert await two.sessions.get(session.id) is None
    await two.subscriber.open()


async def test_flushed_sessions_are_unknown_within_the_cache_time(workers: Pair, server: ValkeyServer) -> None:
    session = await workers[0].sessions.create(TEAM, ANN, "v", {})
    assert await workers[1].sessions.get(session.id) == session
    with redis.Redis.from_url(server.url) as client:
        client.flushall()

    async def is_unknown() -> bool:
        return await workers[1].sessions.get(session.id) is None

    await until(is_unknown, patience=5)
    assert await works(*workers)


# --- Redis is away ----------------------------------------------------------------------------------------------------


async def test_a_worker_starts_without_redis_and_finds_it_later(server: ValkeyServer) -> None:
    server.stop()
    async with redis_worker(server.url) as one, redis_worker(server.url) as two:
        assert not one.connection.is_up
        assert one.wakeups.is_lossy
        with pytest.raises(Unavailable):
            await one.sessions.get("x" * 32)
        server.start()
        assert await until(lambda: works(one, two)) < 5


async def test_a_killed_server_fails_calls_at_once_and_is_found_again(workers: Pair, server: ValkeyServer) -> None:
    one, two = workers
    session = await one.sessions.create(TEAM, ANN, "v", {})
    server.stop()
    await until(lambda: not one.connection.is_up, patience=1)
    await until(lambda: one.wakeups.is_lossy, patience=1.5)
    began = time.monotonic()
    for call in (one.sessions.get(session.id), one.stream_log.append("s", b"x"), one.subscriptions.uris("s")):
        with pytest.raises(Unavailable):
            await call
    await one.wakeups.publish(["t"])
    await one.signals.send(Signal("ended", "s"))
    assert time.monotonic() - began < 0.1
    server.start()
    assert await until(lambda: works(one, two)) < 5
    assert await one.sessions.get(session.id) is None


async def test_a_paused_server_hangs_nobody_for_longer_than_the_timeout(workers: Pair, server: ValkeyServer) -> None:
    one, two = workers
    session = await one.sessions.create(TEAM, ANN, "v", {})
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await two.sessions.get(session.id)
        assert time.monotonic() - began < 2
        assert not two.connection.is_up
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await two.sessions.get(session.id)
        assert (await two.limits.take(READS, "k")).is_granted
        assert time.monotonic() - began < 0.1
        await until(lambda: one.wakeups.is_lossy, patience=1.5)
        await asyncio.sleep(3)  # long enough for the subscriptions to be given up too
    finally:
        server.resume()
    assert await until(lambda: works(one, two)) < 5
    assert await two.sessions.get(session.id) == session


async def test_outages_leak_no_connection(workers: Pair, server: ValkeyServer) -> None:
    for _ in range(4):
        server.stop()
        await asyncio.sleep(0.05)
        server.start()
        await until(lambda: works(*workers))
    with redis.Redis.from_url(server.url) as client:
        for _ in range(4):
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
            await until(lambda: works(*workers))


async def test_limits_go_on_alone_and_come_back(workers: Pair, server: ValkeyServer) -> None:
    one, two = workers
    assert (await one.limits.take(READS, "eve")).is_granted
    server.stop()
    await until(lambda: not one.connection.is_up and not two.connection.is_up)
    for worker in workers:
        answers = [(await worker.limits.take(READS, "dot")).is_granted for _ in range(8)]
        assert answers == [True] * 5 + [False] * 3
        assert worker.limits.is_local
        assert worker.limits.local_takes == 8
    server.start()
    await until(lambda: works(one, two))
    answers = [(await workers[turn % 2].limits.take(READS, "fay")).is_granted for turn in range(8)]
    assert answers == [True] * 5 + [False] * 3


# --- wake-ups ---------------------------------------------------------------------------------------------------------


async def test_every_listener_is_woken_once_when_the_connection_is_back(workers: Pair, server: ValkeyServer) -> None:
    one, two = workers
    async with one.wakeups.subscribe("a") as a, one.wakeups.subscribe("b") as b:
        server.stop()
        await until(lambda: not one.connection.is_up)
        assert await a.wait(0.02) is False
        server.start()
        assert all(await asyncio.gather(a.wait(5), b.wait(5)))
        await until(lambda: works(one, two))
        assert await a.wait(0.05) is False
        await two.wakeups.publish(["b"])
        assert await b.wait(5)
        assert await a.wait(0.05) is False


async def test_a_listener_enters_and_its_own_worker_wakes_it_while_redis_is_away(
    workers: Pair, server: ValkeyServer
) -> None:
    server.pause()
    try:
        began = time.monotonic()
        async with workers[0].wakeups.subscribe("a") as news:
            assert time.monotonic() - began < 0.5
            await workers[0].wakeups.publish(["a"])
            assert await news.wait(0)
    finally:
        server.resume()
    await until(lambda: works(*workers))


async def test_what_is_published_while_redis_is_away_is_published_later(workers: Pair, server: ValkeyServer) -> None:
    one, two = workers
    server.stop()
    await until(lambda: not one.connection.is_up and not two.connection.is_up)
    for number in range(20_000):
        await one.wakeups.publish([f"t{number}"])
    assert len(one.wakeups._missed) == 10_000
    server.start()
    await until(lambda: works(one, two))
    assert one.wakeups._missed == {}


async def test_while_wake_ups_may_be_missing_one_look_a_round_serves_all(workers: Pair, server: ValkeyServer) -> None:
    one, _ = workers
    looks: list[frozenset[str]] = []

    async def look(topics: frozenset[str]) -> Iterable[str]:
        looks.append(topics)
        return ["b"]

    looking = asyncio.create_task(look_while_lossy(one.wakeups, look, every=0.1))
    async with one.wakeups.subscribe("a") as a, one.wakeups.subscribe("b") as b:
        await asyncio.sleep(0.3)
        assert looks == []
        server.stop()
        await until(lambda: one.wakeups.is_lossy)
        assert await b.wait(1)
        assert await a.wait(0.05) is False
        assert looks[0] == {"a", "b"}
        server.start()
        await until(lambda: not one.wakeups.is_lossy)
    looking.cancel()
    await asyncio.wait((looking,))
    await until(lambda: works(*workers))


async def test_a_thousand_idle_topics_do_no_harm(workers: Pair, server: ValkeyServer) -> None:
    one, two = workers
    woken = 0

    async def listen(number: int) -> None:
        nonlocal woken
        async with one.wakeups.subscribe(f"t{number}") as news:
            if await news.wait(30):
                woken += 1

    listening = [asyncio.create_task(listen(number)) for number in range(1000)]
    await until(lambda: len(one.wakeups.topics) == 1000)
    await asyncio.sleep(0.1)
    began = time.process_time()
    await asyncio.sleep(1)
    assert time.process_time() - began < 0.25
    waits = []
    async with one.wakeups.subscribe("hot") as hot:
        for _ in range(200):
            sent_at = time.monotonic()
            await two.wakeups.publish(["hot"])
            assert await hot.wait(5)
            waits.append(time.monotonic() - sent_at)
    assert sorted(waits)[197] < 0.1
    assert connected(server.url) == 4
    await two.wakeups.publish([f"t{number}" for number in range(1000)])
    await asyncio.gather(*listening)
    assert woken == 1000
    assert one.wakeups.topics == frozenset()


# --- where Redis is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "redis", "http://localhost", "postgresql://h/db", "redis+sentinel://h", "redis+sentinel:///service"]
)
async def test_a_url_that_names_no_redis_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        connect(url)


async def test_a_wrong_password_is_unavailable(server: ValkeyServer) -> None:
    connection = connect(f"redis://:wrong@127.0.0.1:{server.port}/0")
    await connection.open()
    with pytest.raises(Unavailable):
        await connection.check()
    await connection.close()


async def test_what_a_url_says_of_replies_is_overruled(server: ValkeyServer) -> None:
    connection = connect(f"{server.url}?decode_responses=true&protocol=3&socket_timeout=0.001")
    await connection.open()
    assert await connection.call("ECHO", "x") == b"x"
    await connection.close()
