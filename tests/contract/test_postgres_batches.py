"""Sends that share a transaction on PostgreSQL: who is in a batch, who fails alone, and what two workers do to each other."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TypeVar

import asyncpg
import pytest
from pydantic import SecretStr

from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import AgentNotFound, DatabaseUnavailable, IdempotencyConflict, Overloaded, RecipientsRefused
from agent_mail_core.fields import PriorityRank
from agent_mail_core.mailboxes import InboxFilter
from agent_mail_core.messages import Delivered
from agent_mail_core.settings import Settings
from agent_mail_store.postgres import batches
from agent_mail_store.postgres.store import PostgresStore
from tests.contract.sends import TEAM, a_project, a_send

T = TypeVar("T")


@pytest.fixture
def settings(fresh_postgres: str) -> Settings:
    return Settings(database_url=SecretStr(fresh_postgres))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings, SystemClock(), single_server=False)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[PostgresStore]:
    async with opened(settings) as store:
        yield store


@pytest.fixture
async def watcher(fresh_postgres: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that looks, and locks, behind the store's back."""
    connection = await asyncpg.connect(fresh_postgres)
    yield connection
    await connection.close()


async def all_of(*calls: Awaitable[T]) -> list[T | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def transactions(watcher: "asyncpg.Connection[asyncpg.Record]") -> int:
    """How many transactions stored messages."""
    return int(await watcher.fetchval("SELECT count(DISTINCT xmin::text) FROM messages"))


async def until(watcher: "asyncpg.Connection[asyncpg.Record]", condition: str) -> None:
    """Wait until a query gives true."""
    async with asyncio.timeout(10):
        while not await watcher.fetchval(condition):
            await asyncio.sleep(0.01)


SOMEBODY_WAITS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"


async def test_sends_that_wait_together_share_a_transaction(store: PostgresStore, watcher: "asyncpg.Connection[asyncpg.Record]") -> None:
    await a_project(store, "office", "Ann", "Bob")
    answers = await asyncio.gather(*(store.deliver(a_send("office", "Ann", ["Bob"])) for _ in range(64)))
    assert len({answer.sent.message_id for answer in answers}) == 64
    assert await transactions(watcher) <= 8
