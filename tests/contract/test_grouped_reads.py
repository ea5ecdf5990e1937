"""Reads that are asked together answer as they do one by one; what befalls one group befalls no other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import product

import pytest
from pydantic import SecretStr

from agent_mail_core.agents import AgentChanges
from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.ids import AgentId
from agent_mail_core.mailboxes import InboxFilter, InboxSlice
from agent_mail_core.ports import Store
from agent_mail_core.settings import Settings
from agent_mail_store.opening import open_store
from agent_mail_store.postgres.connections import Connections
from agent_mail_store.postgres.grouped_reads import MOST_TOGETHER, GroupedReads
from agent_mail_store.postgres.statements import Statements
from tests.contract.sends import TEAM, a_project, a_send

SIZE = 3
NAMES = ("Ann", "Bob", "Cid", "Dot")
ALL = InboxFilter()


@pytest.fixture
async def connections(fresh_postgres: str) -> AsyncIterator[Connections]:
    settings = Settings(database_url=SecretStr(fresh_postgres), database_pool_size=SIZE, database_lock_timeout=5)
    connections = Connections(settings)
    await connections.open()
    yield connections
    await connections.close()


class Doubling:
    """Asks the server to double numbers; remembers how many it was asked at once."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    async def __call__(self, db: Statements, numbers: Sequence[int]) -> list[int]:
        self.groups.append(len(numbers))
        if 13 in numbers:
            await db.rows("SELECT pg_terminate_backend(pg_backend_pid())")
        rows = await db.rows(
            "SELECT 2 * n AS twice FROM unnest($1::int[]) WITH ORDINALITY q (n, o) ORDER BY o", numbers
        )
        return [row["twice"] for row in rows]


async def test_pages_and_agents_asked_together_are_those_asked_alone(store: Store) -> None:
    """Of other projects too, of nobody, and of an empty mailbox."""
    project, agents = await a_project(store, "shop", *NAMES)
    await a_project(store, "yard", *NAMES)
    async with store.write() as db:
        for agent in agents.values():
            await db.agents.update(agent.id, AgentChanges(contact_policy="open"))
    for number in range(12):
        sender, recipients = NAMES[number % 3], [NAMES[(number + 1) % 3], NAMES[(number + 2) % 3]]
        await store.deliver(a_send("shop", sender, recipients, subject=f"No. {number}"))
        await store.deliver(a_send("yard", sender, [f"{recipients[0]}@shop"], subject=f"Yard {number}"))
    ids = [*(agent.id for agent in agents.values()), AgentId(999_999)]

    async def page(agent_id: AgentId, below: int | None, limit: int) -> InboxSlice:
        async with store.read() as db:
            return await db.mailboxes.newest(agent_id, below, ALL, False, limit)

    async def later(agent_id: AgentId, above: int, limit: int) -> InboxSlice:
        async with store.read() as db:
            return await db.mailboxes.after(agent_id, above, ALL, False, limit)

    async def found(ref: str, name: str) -> object:
        async with store.read() as db:
            return await db.agents.find(TEAM, ref, name)

    pages = list(product(ids, (None, 1, 4), (1, 3, 100)))
    laters = list(product(ids, (0, 3, 50), (1, 3, 100)))
    names = list(product(("shop", "yard", project.human_key, "nowhere"), (*NAMES, "ann", "Nobody")))
    alone = [
        *[await page(*each) for each in pages],
        *[await later(*each) for each in laters],
        *[await found(*each) for each in names],
    ]
    together = await asyncio.gather(
        *(page(*each) for each in pages), *(later(*each) for each in laters), *(found(*each) for each in names)
    )
    assert together == alone
    assert any("@yard" in item.sender_name for item in alone[2].items)  # type: ignore[attr-defined]


@pytest.mark.postgres
async def test_what_waits_is_asked_together_and_nobody_gets_anothers_answer(connections: Connections) -> None:
    ask = Doubling()
    reads = GroupedReads(connections, ask)
    numbers = range(100, 140)
    assert await asyncio.gather(*(reads.get(number) for number in numbers)) == [2 * number for number in numbers]
    assert sorted(ask.groups) == [40 - 2 * MOST_TOGETHER, MOST_TOGETHER, MOST_TOGETHER]
    assert await reads.get(1) == 2
    assert ask.groups[-1] == 1


@pytest.mark.postgres
async def test_a_lost_connection_fails_its_group_alone(connections: Connections) -> None:
    reads = GroupedReads(connections, Doubling())
    numbers = range(100 - MOST_TOGETHER, 100)
    found = await asyncio.gather(*(reads.get(n) for n in [13, *numbers, 7]), return_exceptions=True)
    assert [isinstance(one, DatabaseUnavailable) for one in found[:MOST_TOGETHER]] == [True] * MOST_TOGETHER
    assert found[MOST_TOGETHER:] == [198, 14]
    assert await reads.get(3) == 6


@pytest.mark.postgres
async def test_who_left_is_not_asked_for_and_keeps_nobody_waiting(connections: Connections) -> None:
    ask = Doubling()
    reads = GroupedReads(connections, ask)
    leaving = [asyncio.create_task(reads.get(13)) for _ in range(20)]
    staying = [asyncio.create_task(reads.get(n)) for n in range(3)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    assert await asyncio.gather(*staying) == [0, 2, 4]
    assert sum(ask.groups) == 3


@pytest.mark.postgres
async def test_blocks_that_hold_all_connections_do_not_wait_for_one_more(fresh_postgres: str) -> None:
    settings = Settings(database_url=SecretStr(fresh_postgres), database_pool_size=2, database_lock_timeout=5)
    store = await open_store(settings, SystemClock(), single_server=False)
    await a_project(store, "shop", "Ann")
    hold = asyncio.Barrier(2)

    async def look() -> None:
        async with store.read() as db:
            await db.projects.find(TEAM, "shop")
            await hold.wait()
            assert (await db.agents.find(TEAM, "shop", "Ann"))[1] is not None

    try:
        async with asyncio.timeout(settings.database_lock_timeout):
            await asyncio.gather(look(), look())
    finally:
        await store.close()
