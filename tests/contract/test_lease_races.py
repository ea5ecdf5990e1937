"""Leases that many want at once, on one worker and on two with stores of their own."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from agent_mail_core.agents import the_agent
from agent_mail_core.errors import AgentRetired
from agent_mail_core.globs import compile_pattern, overlaps
from agent_mail_core.lease_ends import close_expired, release_all
from agent_mail_core.ports import App
from agent_mail_core.reservation_errors import ReservationNotHeld
from agent_mail_core.reservation_moves import handover_of, move_reservations
from tests.contract.databases import Database
from tests.contract.leasing import acquire, listed, pass_time, patterns, release, release_slot, reserve, slots
from tests.contract.office import Office
from tests.contract.test_races import insisting, outcomes

Offices = Callable[[int], Office]


@pytest.fixture
async def offices(workers: list[App], office: Office) -> Offices:
    """The office with 50 agents more, as the n-th caller meets it: the workers take turns."""
    for number in range(50):
        await office.register(f"A{number}")
    return lambda number: office.at(workers[number % len(workers)])


@pytest.mark.parametrize("before", [[], ["lib"]], ids=["the-first-of-the-project", "later-ones"])
async def test_of_50_that_want_overlapping_paths_one_gets_them(offices: Offices, before: list[str]) -> None:
    """The first lease of a project makes the row that is its lock: that alone lets one pass and holds up the others."""
    for path in before:
        await reserve(offices(0), "Ann", path)
    ways = ("src/**", "src/a.py", "src/*.py", "src", "**/a.py", "s*/a.py", "*/[a-c].py")
    calls = [reserve(offices(n), f"A{n}", ways[n % len(ways)], f"own/{n}") for n in range(50)]
    async with asyncio.timeout(30):
        answers, errors = await outcomes(calls)
    assert errors == []
    winners = [answer for answer in answers if answer.granted]
    assert len(winners) == 1
    assert len(winners[0].granted) == 2
    assert all(answer.conflicts for answer in answers if not answer.granted)
    assert len((await listed(offices(0))).reservations) == 2 + len(before)


async def test_of_50_that_want_a_slot_of_3_places_3_get_one(offices: Offices, database: Database) -> None:
    async with asyncio.timeout(30):
        answers, errors = await outcomes([acquire(offices(n), f"A{n}", capacity=3) for n in range(50)])
    assert errors == []
    leases = [answer.lease for answer in answers if answer.lease is not None]
    assert len(leases) == sum(answer.acquired for answer in answers) == 3
    assert len({lease.fence for lease in leases}) == 3
    assert [len(slot.holders) for slot in (await slots(offices(0))).slots] == [3]
    assert [event.kind for event in await database.events()].count("slot.acquired") == 3


async def test_free_paths_at_once_are_all_granted_with_fences_of_their_own(offices: Offices) -> None:
    async with asyncio.timeout(30):
        answers, errors = await outcomes([reserve(offices(n), f"A{n}", f"own/{n}/**") for n in range(50)])
    assert errors == []
    fences = [one.fence for answer in answers for one in answer.granted]
    assert len(set(fences)) == 50


async def test_one_agent_that_asks_twice_at_once_has_one_reservation(offices: Offices) -> None:
    answers, errors = await outcomes([reserve(offices(n), "Ann", "src") for n in range(10)])
    assert errors == []
    assert len({answer.granted[0].id for answer in answers}) == 1
    assert sum(not answer.granted[0].renewed for answer in answers) == 1
    assert len((await listed(offices(0))).reservations) == 1


async def test_no_two_ever_hold_what_overlaps_and_fences_grow(offices: Offices) -> None:
    """Agents take and let go, by turns, of patterns that overlap; whoever holds looks that nobody else does."""
    ways = ["src/*", "src/a*", "src/*.py", "src/a.py", "lib", "lib/x", "**/x", "docs/?.md", "docs/a.md"]
    held: dict[str, str] = {}
    fences: dict[str, int] = {}

    async def work(number: int) -> None:
        name = f"A{number}"
        for turn in range(6):
            pattern = ways[(number + turn) % len(ways)]
            wait = 0 if turn % 3 == 2 else 50
            answer = await reserve(offices(number + turn), name, pattern, wait_seconds=wait)
            if not answer.granted:
                assert wait == 0
                continue
            for other in held.values():
                assert not overlaps(compile_pattern(other), compile_pattern(pattern)), (other, pattern)
            held[name] = pattern
            assert answer.granted[0].fence > fences.get(pattern, 0)
            fences[pattern] = answer.granted[0].fence
            await asyncio.sleep(0)
            del held[name]
            await insisting(partial(release, offices(number), name))

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(12)))
    assert len(fences) == len(ways)
    assert (await listed(offices(0))).reservations == []


async def test_waiting_agents_all_get_a_slot_in_turn(offices: Offices) -> None:
    holding = 0
    fences: list[int] = []

    async def work(number: int) -> None:
        nonlocal holding
        answer = await acquire(offices(number), f"A{number}", capacity=2, wait_seconds=50)
        assert answer.lease is not None
        holding += 1
        assert holding <= 2
        fences.append(answer.lease.fence)
        await asyncio.sleep(0)
        holding -= 1
        await insisting(partial(release_slot, offices(number + 1), f"A{number}"))

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(20)))
    assert len(set(fences)) == 20


async def test_who_retires_while_it_reserves_keeps_nothing(offices: Offices) -> None:
    async def retire(office: Office, name: str) -> None:
        async with office.app.store.write() as db:
            actor = await the_agent(db, office.caller, office.slug, name)
            await release_all(db, office.caller.team_id, actor.agent)
            await db.agents.retire(actor.agent.id)

    calls = []
    for number in range(20):
        calls.append(reserve(offices(number), f"A{number}", f"own/{number}"))
        calls.append(acquire(offices(number), f"A{number}", f"own {number}"))  # type: ignore[arg-type]
        calls.append(insisting(partial(retire, offices(number + 1), f"A{number}")))  # type: ignore[arg-type]
    random.Random(3).shuffle(calls)
    _, errors = await outcomes(calls)
    assert {type(error) for error in errors} <= {AgentRetired}
    assert (await listed(offices(0))).reservations == []
    assert (await slots(offices(0))).slots == []


# --- what other nouns call --------------------------------------------------------------------------------------------


async def move(office: Office, *paths: str) -> list[str]:
    """Hand Ann's reservations to Bob."""
    async with office.app.store.read() as db:
        ann = await the_agent(db, office.caller, office.slug, "Ann")
        bob = await the_agent(db, office.caller, office.slug, "Bob")
        seen = await db.reservations.snapshot(ann.project.id)
    handover = await handover_of(paths, ann.project, ann.agent, bob.agent, seen, office.app.long_turn)
    async with office.app.store.write() as db:
        moved = await move_reservations(db, office.caller.team_id, ann.project, ann.agent, bob.agent, handover)
    return [record.pattern for record in moved]


async def test_reservations_are_handed_on_with_their_expiry_and_a_new_fence(office: Office, database: Database) -> None:
    first, _ = (await reserve(office, "Ann", "src/*.py", "docs", ttl_seconds=600)).granted
    await reserve(office, "Ann", "app/[id]", literal=True)
    assert await move(office, "./src/*.py", "app/[id]") == ["app/[id]", "src/*.py"]
    shown = {one.pattern: one for one in (await listed(office)).reservations}
    assert {one.pattern: one.holder for one in shown.values()} == {"src/*.py": "Bob", "app/[id]": "Bob", "docs": "Ann"}
    assert (shown["src/*.py"].expires_at, shown["src/*.py"].fence > first.fence) == (first.expires_at, True)
    kinds = [event.kind for event in await database.events() if event.kind.startswith("reservation.")]
    assert kinds.count("reservation.transferred") == 2
    assert (await reserve(office, "Cid", "src/a.py")).conflicts[0].holder == "Bob"


async def test_handing_on_is_all_or_nothing(office: Office) -> None:
    await reserve(office, "Ann", "src")
    await reserve(office, "Bob", "lib")
    with pytest.raises(ReservationNotHeld) as refused:
        await move(office, "src", "lib", "docs")
    assert refused.value.data["paths"] == ["lib", "docs"]
    assert {one.pattern: one.holder for one in (await listed(office)).reservations} == {"src": "Ann", "lib": "Bob"}


async def test_what_both_had_becomes_one(office: Office) -> None:
    for name, ttl in (("Ann", 60), ("Bob", 600), ("Cid", 60)):
        await reserve(office, name, "src", exclusive=False, ttl_seconds=ttl)
    before = {one.holder: one for one in (await listed(office)).reservations}
    await move(office, "src")
    after = {one.holder: one for one in (await listed(office)).reservations}
    assert after.keys() == {"Bob", "Cid"}
    assert (after["Bob"].expires_at, after["Bob"].exclusive) == (before["Bob"].expires_at, False)


async def test_a_sweep_ends_what_is_over_in_small_steps(office: Office, database: Database) -> None:
    await reserve(office, "Ann", *(f"f{n}" for n in range(5)), ttl_seconds=60)
    await acquire(office, "Ann", ttl_seconds=60)
    await reserve(office, "Bob", "lasting")
    await pass_time(database, timedelta(seconds=61))

    async def sweep() -> int:
        async with office.app.store.write() as db:
            actor = await the_agent(db, office.caller, office.slug, "Ann")
            return await close_expired(db, office.caller.team_id, actor.project.id, 3)

    assert [await sweep(), await sweep(), await sweep()] == [4, 2, 0]
    kinds = [event.kind for event in await database.events()]
    assert (kinds.count("reservation.expired"), kinds.count("slot.expired")) == (5, 1)
    assert patterns((await listed(office)).reservations) == ["lasting"]
