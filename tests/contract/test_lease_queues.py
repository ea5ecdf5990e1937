"""Waiting for leases: in order of arrival, for as long as one asks, on whichever worker."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_core import acquiring, leases
from agent_mail_core.build_slot_errors import SlotCapacityMismatch
from agent_mail_core.errors import AgentRetired, TooManyWaiters
from agent_mail_core.ports import App
from agent_mail_core.reserving import Reserved
from tests.contract.databases import Database
from tests.contract.leasing import acquire, pass_time, patterns, release, release_slot, reserve, slots
from tests.contract.office import Office
from tests.contract.test_build_slots import set_capacity
from tests.contract.test_waiting import Listening

SECOND = timedelta(seconds=1)
Offices = Callable[[int], Office]


@pytest.fixture
def offices(workers: list[App], office: Office) -> Offices:
    """The office as the n-th caller meets it: the workers take turns, and wake each other."""
    return lambda number: office.at(workers[number % len(workers)])


async def queued(office: Office, name: str, *paths: str, seconds: float = 50) -> "asyncio.Task[Reserved]":
    """A waiting call that has its place in the queue."""
    listening = asyncio.create_task(reserve(office, name, *paths, wait_seconds=seconds))
    await standing(office, "reservation", name)
    return listening


async def standing(office: Office, kind: Any, name: str) -> None:
    """Return when the agent has a place in a queue."""
    async with asyncio.timeout(5):
        while True:
            async with office.app.store.read() as db:
                project = await db.projects.find(office.caller.team_id, office.slug)
                assert project is not None
                if name in {ticket.agent_name for ticket in await db.leases.tickets(project.id, kind)}:
                    return
            await asyncio.sleep(0.005)


async def soon(call: Awaitable[Any]) -> Any:
    async with asyncio.timeout(3):
        return await call


# --- reservations -----------------------------------------------------------------------------------------------------


async def test_a_waiting_call_is_granted_when_the_holder_lets_go(offices: Offices) -> None:
    await reserve(offices(0), "Ann", "src/**")
    call = await queued(offices(1), "Bob", "src/a.py", "free")
    await release(offices(0), "Ann")
    answer = await soon(call)
    assert (patterns(answer.granted), answer.conflicts, answer.place) == (["src/a.py", "free"], [], None)


async def test_what_is_free_is_granted_without_waiting(office: Office) -> None:
    assert patterns((await soon(reserve(office, "Ann", "src", wait_seconds=50))).granted) == ["src"]


async def test_who_came_first_gets_it_first(offices: Offices) -> None:
    await reserve(offices(0), "Ann", "src")
    calls = {name: await queued(offices(place), name, "src") for place, name in enumerate(("Bob", "Cid", "Dot"))}
    for holder, following in (("Ann", "Bob"), ("Bob", "Cid"), ("Cid", "Dot")):
        await release(offices(1), holder)
        assert patterns((await soon(calls.pop(following))).granted) == ["src"]
        assert not any(call.done() for call in calls.values())


async def test_a_wait_in_vain_tells_the_conflicts_and_the_place(office: Office) -> None:
    await reserve(office, "Ann", "src")
    first = await reserve(office, "Bob", "src/a.py", wait_seconds=0.01)
    second = await reserve(office, "Cid", "src", wait_seconds=0.01)
    assert (first.granted, first.place, second.place) == ([], 1, 2)
    assert [one.holder for one in second.conflicts] == ["Ann"]
    assert second.hint is not None
    assert "within 60 seconds" in second.hint
    at_once = await reserve(office, "Dot", "src")
    assert at_once.place is None
    assert at_once.hint is not None
    assert "wait_seconds" in at_once.hint
    held = (await reserve(office, "Ann", "src")).granted[0]
    assert [one.reservation_id for one in at_once.conflicts] == [held.id]
    assert (await reserve(office, "Dot", "docs")).hint is None


async def test_asking_again_keeps_the_place_and_what_is_freed_is_kept_for_the_head(office: Office) -> None:
    await reserve(office, "Ann", "src")
    await reserve(office, "Bob", "src/a.py", wait_seconds=0.01)
    await reserve(office, "Cid", "src", wait_seconds=0.01)
    await release(office, "Ann")
    for name in ("Cid", "Dot", "Ann"):
        conflict = (await reserve(office, name, "src")).conflicts[0]
        assert (conflict.holder, conflict.their_pattern, conflict.queued) == ("Bob", "src/a.py", True)
    assert (await reserve(office, "Dot", "src/b.py")).granted == []  # Cid waits for all of src
    assert (await reserve(office, "Dot", "lib")).granted
    assert (await reserve(office, "Dot", "src", advisory=True)).granted
    assert (await reserve(office, "Bob", "src/a.py")).granted


async def test_a_head_that_does_not_come_loses_it_after_five_seconds(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src")
    await reserve(office, "Bob", "src", wait_seconds=0.01)
    await release(office, "Ann")
    await pass_time(database, 4 * SECOND)
    assert (await reserve(office, "Cid", "src")).granted == []
    await pass_time(database, SECOND)
    assert (await reserve(office, "Cid", "src")).granted


async def test_a_waiting_call_gets_what_the_head_does_not_come_for(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_AGAIN_SECONDS", 0.02)
    await reserve(office, "Ann", "src")
    await reserve(office, "Bob", "src", wait_seconds=0.01)
    call = await queued(office, "Cid", "src")
    await release(office, "Ann")
    assert (await reserve(office, "Dot", "src")).granted == []
    assert not call.done()
    await pass_time(database, 5 * SECOND)
    assert (await soon(call)).granted


async def test_a_place_is_lost_after_a_minute_of_silence(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src")
    for name in ("Bob", "Cid"):
        await reserve(office, name, "src", wait_seconds=0.01)
    await pass_time(database, 59 * SECOND)
    assert (await reserve(office, "Cid", "src")).place == 2
    await pass_time(database, 2 * SECOND)
    assert (await reserve(office, "Cid", "src")).place == 1
    assert (await reserve(office, "Bob", "src")).place is None
    await release(office, "Ann")
    assert (await reserve(office, "Cid", "src")).granted


async def test_a_lease_that_expires_while_others_wait_goes_to_the_head(offices: Offices, database: Database) -> None:
    await reserve(offices(0), "Ann", "src", ttl_seconds=60)
    await pass_time(database, timedelta(seconds=59.5))
    calls = [await queued(offices(place), name, "src") for place, name in enumerate(("Bob", "Cid", "Dot"))]
    async with asyncio.timeout(4):  # sooner than anybody looks by itself
        assert patterns((await calls[0]).granted) == ["src"]
    assert not calls[1].done()
    assert not calls[2].done()
    expired = [event for event in await database.events() if event.kind == "reservation.expired"]
    assert [event.data["pattern"] for event in expired] == ["src"]
    for call in calls[1:]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_waiting_for_much_does_not_keep_others_from_what_is_free(office: Office) -> None:
    await reserve(office, "Ann", "a")
    await reserve(office, "Dot", "b")
    await reserve(office, "Bob", "a", "b", wait_seconds=0.01)
    await release(office, "Dot")
    assert (await reserve(office, "Cid", "b")).granted
    await release(office, "Cid")
    await release(office, "Ann")
    assert (await reserve(office, "Cid", "b")).conflicts[0].holder == "Bob"


async def test_a_holder_that_begins_to_share_lets_the_waiting_in(office: Office) -> None:
    await reserve(office, "Ann", "src")
    call = asyncio.create_task(reserve(office, "Bob", "src", exclusive=False, wait_seconds=50))
    await standing(office, "reservation", "Bob")
    await reserve(office, "Ann", "src", exclusive=False)
    assert (await soon(call)).granted


async def test_a_lost_wake_up_is_made_good_by_looking_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK_AGAIN_SECONDS", 0.02)
    deaf = office.at(replace(office.app, wakeups=Listening(is_deaf=True)))
    await reserve(deaf, "Ann", "src")
    call = await queued(deaf, "Bob", "src")
    await release(deaf, "Ann")
    assert (await soon(call)).granted


async def test_a_draining_server_lets_its_waits_go(office: Office) -> None:
    await reserve(office, "Ann", "src")
    draining = office.at(replace(office.app, is_draining=lambda: True))
    assert (await soon(reserve(draining, "Bob", "src", wait_seconds=50))).place == 1
    await acquire(office, "Ann")
    assert (await soon(acquire(draining, "Bob", wait_seconds=50))).place == 1


async def test_a_cancelled_wait_stops_listening_and_gives_its_place_back(office: Office) -> None:
    wakeups = Listening()
    crowded = office.at(replace(office.app, wakeups=wakeups, waiters=MemoryWaiters(1)))
    await reserve(crowded, "Ann", "src")
    call = await queued(crowded, "Bob", "src")
    with pytest.raises(TooManyWaiters):
        await reserve(crowded, "Cid", "src", wait_seconds=1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert wakeups.listeners == 0
    assert (await reserve(crowded, "Cid", "src", wait_seconds=0.01)).place == 2


async def test_a_full_queue_takes_nobody_more(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ("sqlite", "postgres"):
        monkeypatch.setattr(f"agent_mail_store.{engine}.leases.MAX_TICKETS", 1)
    await reserve(office, "Ann", "src")
    await reserve(office, "Bob", "src", wait_seconds=0.01)
    with pytest.raises(TooManyWaiters):
        await reserve(office, "Cid", "src", wait_seconds=0.01)
    assert (await reserve(office, "Bob", "src", wait_seconds=0.01)).place == 1
    assert (await reserve(office, "Cid", "src")).place is None


async def test_waiting_holds_no_connection(office: Office) -> None:
    """More calls wait than a store has connections, and reads and writes go on."""
    await reserve(office, "Ann", "src")
    await acquire(office, "Ann")
    await office.register("Eve")
    calls: list[asyncio.Task[Any]] = []
    calls += [asyncio.create_task(reserve(office, "Bob", f"src/{n}", wait_seconds=50)) for n in range(30)]
    calls += [asyncio.create_task(acquire(office, "Eve", wait_seconds=50)) for n in range(30)]
    async with asyncio.timeout(20):
        await standing(office, "reservation", "Bob")
        await standing(office, "slot", "Eve")
        for _ in range(5):
            await office.send("Ann", ["Cid"])
            await office.inbox("Cid")
        assert not any(call.done() for call in calls)
        await release(office, "Ann")
        await release_slot(office, "Ann")
        await asyncio.gather(*calls)


async def test_a_later_snapshot_holds_what_is_newer_and_counts_all(office: Office) -> None:
    async with office.app.store.read() as db:
        project = await db.projects.find(office.caller.team_id, office.slug)
    assert project is not None
    await reserve(office, "Ann", "src", "docs")
    async with office.app.store.read() as db:
        first = await db.reservations.snapshot(project.id)
    newest = max(one.id for one in first.patterns)
    await reserve(office, "Bob", "tests")
    await release(office, "Ann", "src")
    async with office.app.store.read() as db:
        later = await db.reservations.snapshot(project.id, newest)
        whole = await db.reservations.snapshot(project.id)
    assert [one.pattern for one in later.patterns] == ["tests"]
    assert sorted(one.pattern for one in whole.patterns) == ["docs", "src", "tests"], "src is kept for a queue"
    assert (first.count, later.count, whole.count) == (2, 3, 3)


async def test_whatever_a_decision_may_rest_on_changes_the_version(office: Office) -> None:
    """A snapshot taken before is not decided by."""

    async def version() -> int:
        async with office.app.store.read() as db:
            project = await db.projects.find(office.caller.team_id, office.slug)
            assert project is not None
            return (await db.reservations.snapshot(project.id)).version

    seen = [await version()]
    await reserve(office, "Ann", "src")
    seen.append(await version())
    await reserve(office, "Bob", "src", wait_seconds=0.01)
    seen.append(await version())
    assert len(set(seen)) == 3
    await reserve(office, "Bob", "src", wait_seconds=0.01)
    await reserve(office, "Ann", "src")
    await acquire(office, "Ann")
    assert await version() == seen[-1]


WAYS: dict[str, tuple[Any, Callable[[Office, str], Awaitable[Any]]]] = {
    "reservation": ("reservation", lambda office, name: reserve(office, name, "src", wait_seconds=50)),
    "slot": ("slot", lambda office, name: acquire(office, name, wait_seconds=50)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_who_retires_waits_no_longer_and_its_place_goes_to_the_next(offices: Offices, way: str) -> None:
    """The place is free, and kept for the head: that has retired, so nobody has to wait for it."""
    kind, wait = WAYS[way]
    await wait(offices(0), "Ann")
    calls = {}
    for number, name in enumerate(("Bob", "Cid", "Dot")):
        calls[name] = asyncio.ensure_future(wait(offices(number), name))
        await standing(offices(0), kind, name)
    await offices(1).retire("Bob")
    with pytest.raises(AgentRetired):
        await soon(calls["Bob"])
    assert not calls["Cid"].done()
    calls["Cid"].cancel()
    await asyncio.gather(calls["Cid"], return_exceptions=True)
    await offices(0).retire("Ann")
    await offices(0).retire("Cid")
    answer = await soon(calls["Dot"])
    assert answer.granted if way == "reservation" else answer.acquired


# --- build slots ------------------------------------------------------------------------------------------------------


async def test_a_slot_goes_to_who_came_first(offices: Offices) -> None:
    await acquire(offices(0), "Ann")
    calls = {}
    for place, name in enumerate(("Bob", "Cid", "Dot")):
        calls[name] = asyncio.create_task(acquire(offices(place), name, wait_seconds=50))
        await standing(offices(0), "slot", name)
    [slot] = (await slots(offices(0))).slots
    assert ([one.holder for one in slot.holders], slot.queue) == (["Ann"], ["Bob", "Cid", "Dot"])
    for holder, following in (("Ann", "Bob"), ("Bob", "Cid"), ("Cid", "Dot")):
        await release_slot(offices(1), holder)
        assert (await soon(calls.pop(following))).acquired
        assert not any(call.done() for call in calls.values())


async def test_a_slot_that_expires_goes_to_the_head(offices: Offices, database: Database) -> None:
    await acquire(offices(0), "Ann", ttl_seconds=60)
    await pass_time(database, timedelta(seconds=59.5))
    first = asyncio.create_task(acquire(offices(0), "Bob", wait_seconds=50))
    await standing(offices(0), "slot", "Bob")
    second = asyncio.create_task(acquire(offices(1), "Cid", wait_seconds=50))
    await standing(offices(0), "slot", "Cid")
    async with asyncio.timeout(4):
        assert (await first).acquired
    assert not second.done()
    assert [event.kind for event in await database.events()].count("slot.expired") == 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_places_in_a_slots_queue_are_kept_and_lost(office: Office, database: Database) -> None:
    await acquire(office, "Ann")
    assert (await acquire(office, "Bob", wait_seconds=0.01)).place == 1
    refused = await acquire(office, "Cid", wait_seconds=0.01)
    assert (refused.acquired, refused.place, [one.holder for one in refused.holders]) == (False, 2, ["Ann"])
    assert refused.hint is not None
    assert "within 60 seconds" in refused.hint
    at_once = await acquire(office, "Dot")
    assert at_once.hint is not None
    assert "wait_seconds" in at_once.hint
    await release_slot(office, "Ann")
    assert not (await acquire(office, "Cid")).acquired
    assert not (await acquire(office, "Ann")).acquired
    await pass_time(database, 5 * SECOND)
    assert (await acquire(office, "Cid")).acquired
    assert (await acquire(office, "Bob")).place == 1
    await pass_time(database, 61 * SECOND)
    assert (await acquire(office, "Bob")).place is None


async def test_a_higher_capacity_lets_the_waiting_in(offices: Offices) -> None:
    await acquire(offices(0), "Ann", capacity=1)
    calls = []
    for number, name in enumerate(("Bob", "Cid")):
        calls.append(asyncio.create_task(acquire(offices(number), name, capacity=1, wait_seconds=50)))
        await standing(offices(0), "slot", name)
    await set_capacity(offices(1), 3)
    assert all([(await soon(call)).acquired for call in calls])
    with pytest.raises(SlotCapacityMismatch):
        await acquire(offices(0), "Dot", capacity=1)


async def test_each_higher_capacity_lets_in_who_came_first(offices: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are woken at once, on whichever worker; how long one may take is not what this is about."""
    monkeypatch.setattr(acquiring, "YIELD_SECONDS", 30)
    monkeypatch.setattr(acquiring, "MOST_YIELD_SECONDS", 30)
    names = [f"Agent{number}" for number in range(5)]
    await acquire(offices(0), "Ann")
    calls = []
    for number, name in enumerate(names):
        await offices(0).register(name)
        calls.append(asyncio.create_task(acquire(offices(number), name, wait_seconds=50)))
        await standing(offices(0), "slot", name)
    for number, call in enumerate(calls):
        await set_capacity(offices(number), number + 2)
        assert (await soon(call)).acquired, names[number]
        assert not any(later.done() for later in calls[number + 1 :])


async def test_what_the_head_does_not_come_for_goes_to_the_next(offices: Offices, database: Database) -> None:
    await acquire(offices(0), "Ann")
    assert (await acquire(offices(0), "Bob", wait_seconds=0.01)).place == 1
    calls = {}
    for number, name in enumerate(("Cid", "Dot")):
        calls[name] = asyncio.create_task(acquire(offices(number), name, wait_seconds=50))
        await standing(offices(0), "slot", name)
    woken = leases.leases_topic((await offices(0).record("Ann")).project_id)
    for holder, following in (("Ann", "Cid"), ("Cid", "Dot")):
        await release_slot(offices(0), holder)
        await pass_time(database, 5 * SECOND)
        await offices(0).app.wakeups.publish([woken])  # as their clocks would
        assert (await soon(calls.pop(following))).acquired
        assert not any(call.done() for call in calls.values())
