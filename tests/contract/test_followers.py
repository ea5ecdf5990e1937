"""Following events: nothing is skipped, nothing comes twice, whatever order transactions commit in (DESIGN 7)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from agent_mail_core.events import (
    FIRST_POSITION,
    EventEntry,
    EventFilter,
    EventPosition,
    NewEvent,
)
from agent_mail_core.ids import AgentId, MessageId, ProjectId, TeamId
from agent_mail_core.ports import App, Store
from tests.contract.databases import Database
from tests.contract.office import TEAM, Office
from tests.contract.sends import a_project

EVERYTHING = EventFilter()


async def add(store: Store, project_id: ProjectId, *numbers: int) -> None:
    async with store.write() as db:
        await db.events.add(*(numbered(project_id, number) for number in numbers))


def numbered(project_id: ProjectId, number: int, team_id: TeamId = TEAM) -> NewEvent:
    return NewEvent("agent.updated", team_id, project_id, data={"n": number})


def numbers(entries: list[EventEntry]) -> list[int]:
    return [entry.data["n"] for entry in entries if "n" in entry.data]


class Follower:
    """Reads on until there is no more."""

    def __init__(self, store: Store, position: EventPosition, wanted: EventFilter = EVERYTHING, limit: int = 3) -> None:
        self._store, self._wanted, self._limit = store, wanted, limit
        self.position = position
        self.entries: list[EventEntry] = []
        self.is_behind = False

    async def look(self) -> list[int]:
        has_more = True
        while has_more:
            async with self._store.read() as db:
                found = await db.events.after(self.position, self._wanted, self._limit)
            assert found.position >= self.position
            self.entries += found.entries
            self.position, has_more, self.is_behind = found.position, found.has_more, found.is_behind
        return numbers(self.entries)


async def read_on(
    store: Store, position: EventPosition, wanted: EventFilter = EVERYTHING, limit: int = 100
) -> Follower:
    follower = Follower(store, position, wanted, limit)
    await follower.look()
    return follower


@asynccontextmanager
async def open_transaction(store: Store, project_id: ProjectId, number: int) -> AsyncIterator[None]:
    """A transaction that has written an event; it commits when the block ends, in a task of its own."""
    has_written, may_commit = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with store.write() as db:
            await db.events.add(numbered(project_id, number))
            has_written.set()
            await may_commit.wait()

    holding = asyncio.create_task(hold())
    await has_written.wait()
    try:
        yield
    finally:
        may_commit.set()
        await holding


async def test_events_come_in_order_page_by_page_each_once(store: Store) -> None:
    project, _ = await a_project(store, "here")
    start = (await read_on(store, FIRST_POSITION)).position
    await add(store, project.id, 1, 2)
    await add(store, project.id, 3, 4, 5, 6, 7)
    for limit in (1, 2, 3, 7, 100):
        assert numbers((await read_on(store, start, limit=limit)).entries) == [1, 2, 3, 4, 5, 6, 7]
    follower = Follower(store, start)
    assert await follower.look() == [1, 2, 3, 4, 5, 6, 7]
    await add(store, project.id, 8)
    assert await follower.look() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers((await read_on(store, follower.entries[2].position)).entries) == [4, 5, 6, 7, 8]


async def test_an_event_that_commits_late_is_never_skipped(workers: list[App]) -> None:
    """A transaction is held open while others commit behind it; SQLite's writer lets nobody else in, so it is last."""
    first, last = workers[0].store, workers[-1].store
    project, _ = await a_project(first, "here")
    start = (await read_on(first, FIRST_POSITION)).position
    follower = Follower(last, start)
    async with open_transaction(first, project.id, 1):
        others = [asyncio.create_task(add(last, project.id, number)) for number in (2, 3)]
        await asyncio.wait(others, timeout=0.5)
        assert await follower.look() == []
        held_back = follower.is_behind
        assert held_back == all(other.done() for other in others)
    await asyncio.gather(*others)
    assert sorted(await follower.look()) == [1, 2, 3]
    assert not follower.is_behind


async def test_followers_read_the_same_while_many_write(workers: list[App]) -> None:
    project, _ = await a_project(workers[0].store, "here")
    start = (await read_on(workers[0].store, FIRST_POSITION)).position
    followers = [Follower(workers[n % len(workers)].store, start, limit=n + 1) for n in range(4)]
    is_over = asyncio.Event()

    async def follow(follower: Follower) -> None:
        while not is_over.is_set():
            await follower.look()
            await asyncio.sleep(0)

    async def write(worker: int) -> None:
        for number in range(20):
            await add(workers[worker % len(workers)].store, project.id, worker * 100 + number)

    following = [asyncio.create_task(follow(follower)) for follower in followers]
    await asyncio.gather(*(write(worker) for worker in range(5)))
    is_over.set()
    await asyncio.gather(*following)
    expected = sorted(worker * 100 + number for worker in range(5) for number in range(20))
    for follower in followers:
        assert sorted(await follower.look()) == expected
        assert follower.entries == followers[0].entries
        for worker in range(5):
            assert [n for n in numbers(follower.entries) if n // 100 == worker] == [
                worker * 100 + number for number in range(20)
            ]


async def test_a_filter_leaves_others_out_and_goes_on_past_them(store: Store, database: Database) -> None:
    here, _ = await a_project(store, "here")
    there, _ = await a_project(store, "there")
    other_team = await database.add_team("other")
    start = (await read_on(store, FIRST_POSITION)).position
    async with store.write() as db:
        foreign, _ = await db.projects.ensure(other_team, "foreign", ["foreign"], False, None)
        await db.events.add(
            *(numbered(here.id, n) for n in (1, 2)),
            *(numbered(there.id, n) for n in range(10, 20)),
            numbered(foreign.id, 99, other_team),
        )
    by_project = await read_on(store, start, EventFilter(TEAM, here.id))
    assert numbers(by_project.entries) == [1, 2]
    assert by_project.position == (await read_on(store, start)).position
    assert numbers((await read_on(store, start, EventFilter(TEAM))).entries) == [1, 2, *range(10, 20)]
    assert numbers((await read_on(store, start, EventFilter(other_team))).entries) == [99]
    assert numbers((await read_on(store, start)).entries) == [1, 2, *range(10, 20), 99]


async def test_an_agents_events_are_what_it_did_and_what_is_told_of_its_mail(office: Office, store: Store) -> None:
    async with store.read() as db:
        ids = {
            name: agent.id
            for name in ("Ann", "Bob", "Cid", "Dot")
            if (agent := (await db.agents.find(TEAM, "office", name))[1])
        }
        start = await db.events.last_position()
    sent = await office.send("Ann", ["Bob"], bcc=["Dot"])
    await office.mark_read("Bob", sent.message_id)
    await office.update("Cid", model="m-2")

    async def kinds(agent: str, with_hidden: bool) -> list[str]:
        found = await read_on(store, start, EventFilter(TEAM, None, ids[agent], with_hidden), limit=1)
        return [entry.kind for entry in found.entries]

    mail = ["message.sent", "message.read"]
    assert await kinds("Ann", False) == mail
    assert await kinds("Bob", False) == mail
    assert await kinds("Cid", True) == ["agent.updated"]
    assert await kinds("Dot", True) == mail
    assert await kinds("Dot", False) == []


async def test_a_follower_may_begin_at_the_end(store: Store) -> None:
    project, _ = await a_project(store, "here")
    await add(store, project.id, 1)
    async with store.read() as db:
        follower = Follower(store, await db.events.last_position())
    await add(store, project.id, 2)
    assert (await follower.look())[-1:] == [2]
    assert 1 not in numbers(follower.entries)


async def test_forgetting_removes_the_oldest_and_says_up_to_where(
    office: Office, store: Store, database: Database
) -> None:
    """What background work has not seen yet, and what is young, stays: and with it all that came after."""
    async with store.read() as db:
        assert await db.events.forgotten() == FIRST_POSITION
        project = await db.projects.find(office.caller.team_id, office.slug)
    assert project is not None
    other, _ = await a_project(store, "other")
    await add(store, other.id, 1, 2)
    all_of_them = timedelta(hours=-1)

    async def forget(project_id: ProjectId, older_than: timedelta, limit: int = 100) -> int:
        async with store.write() as db:
            return await db.events.forget(project_id, older_than, limit)

    assert await forget(project.id, all_of_them) == 0  # the archive has seen none of them
    await database.execute("DELETE FROM outbox")
    assert await forget(project.id, timedelta(days=1)) == 0
    before = await read_on(store, FIRST_POSITION)
    assert await forget(project.id, all_of_them, limit=2) == 2
    async with store.read() as db:
        assert await db.events.forgotten() == before.entries[1].position
    after = await read_on(store, FIRST_POSITION)
    assert after.entries == before.entries[2:]
    await office.update("Ann", model="m-2")
    theirs = [entry for entry in after.entries if entry.project_id == other.id]
    assert await forget(project.id, all_of_them) == len(after.entries) - len(theirs)
    assert [entry.kind for entry in (await read_on(store, FIRST_POSITION)).entries][len(theirs) :] == ["agent.updated"]
    async with store.read() as db:
        forgotten = await db.events.forgotten()
    await forget(other.id, all_of_them)
    async with store.read() as db:
        assert await db.events.forgotten() == max(forgotten, *(entry.position for entry in theirs))


async def test_an_entry_has_its_names(office: Office, store: Store) -> None:
    async with store.read() as db:
        start = await db.events.last_position()
    sent = await office.send("Ann", ["Bob"], thread_id="T-1")
    [entry] = (await read_on(store, start)).entries
    assert (entry.kind, entry.project_slug, entry.agent_name, entry.message_id, entry.team_id) == (
        "message.sent",
        "office",
        "Ann",
        sent.message_id,
        TEAM,
    )
    assert entry.data["to"] == ["Bob"]
    assert entry.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "wanted", [EventFilter(TeamId(77)), EventFilter(TEAM, ProjectId(77)), EventFilter(TEAM, None, AgentId(77))]
)
async def test_nothing_of_nobody(store: Store, wanted: EventFilter) -> None:
    project, _ = await a_project(store, "here")
    await add(store, project.id, 1)
    assert (await read_on(store, FIRST_POSITION, wanted)).entries == []


async def test_a_page_of_activity_ends_where_the_next_begins(office: Office, store: Store) -> None:
    async with store.read() as db:
        project = await db.projects.find(TEAM, "office")
        assert project is not None
    async with store.write() as db:
        await db.events.add(
            *(NewEvent("message.read", TEAM, project.id, message_id=MessageId(n), data={"n": n}) for n in range(7))
        )
    wanted, before, seen = EventFilter(TEAM, project.id), None, []
    while True:
        async with store.read() as db:
            page = await db.events.page(wanted, before, 3)
        seen += numbers(page)
        if len(page) < 3:
            break
        before = page[-1].position
    assert seen == [6, 5, 4, 3, 2, 1, 0]
