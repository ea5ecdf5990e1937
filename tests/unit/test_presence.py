"""Presence: noted at once, written in batches, and at most every 30 seconds for each agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

from agent_mail_core.clock import EPOCH, to_microseconds
from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import Clock, Store, Transaction
from agent_mail_core.presence import BATCH, PresenceLog

ANN, BOB = AgentId(1), AgentId(2)


class Watch(Clock):
    """Time that is told to pass."""

    def __init__(self) -> None:
        self.at = EPOCH + timedelta(days=20_000)

    def pass_seconds(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def now(self) -> datetime:
        return self.at

    def microseconds(self) -> int:
        return to_microseconds(self.at)


class Notebook:
    """As much of a store as presence needs: keeps the batches that were written."""

    def __init__(self) -> None:
        self.batches: list[dict[AgentId, datetime]] = []
        self.is_away = False
        self.agents = self

    async def touch(self, seen: Mapping[AgentId, datetime]) -> None:
        if self.is_away:
            raise DatabaseUnavailable
        self.batches.append(dict(seen))

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        yield cast("Transaction", self)

    def as_store(self) -> Store:
        return cast("Store", self)


async def test_what_was_seen_is_written_once_with_its_last_time() -> None:
    watch, book = Watch(), Notebook()
    log = PresenceLog(watch)
    log.saw(ANN)
    watch.pass_seconds(1)
    log.saw(ANN)
    log.saw(BOB)
    assert await log.flush(book.as_store()) == 2
    assert book.batches == [{ANN: watch.at, BOB: watch.at}]
    assert await log.flush(book.as_store()) == 0
    assert len(book.batches) == 1


async def test_an_agent_is_written_at_most_every_30_seconds_and_nothing_is_forgotten() -> None:
    watch, book = Watch(), Notebook()
    log = PresenceLog(watch)
    log.saw(ANN)
    await log.flush(book.as_store())
    for _ in range(5):
        watch.pass_seconds(5)
        log.saw(ANN)
        assert await log.flush(book.as_store()) == 0
    last = watch.at
    watch.pass_seconds(5)
    assert await log.flush(book.as_store()) == 1
    assert book.batches[-1] == {ANN: last}


async def test_everything_is_written_when_asked_for() -> None:
    watch, book = Watch(), Notebook()
    log = PresenceLog(watch)
    log.saw(ANN)
    await log.flush(book.as_store())
    watch.pass_seconds(1)
    log.saw(ANN)
    assert await log.flush(book.as_store(), everything=True) == 1


async def test_what_could_not_be_written_is_written_later() -> None:
    watch, book = Watch(), Notebook()
    log = PresenceLog(watch)
    log.saw(ANN)
    seen = watch.at
    book.is_away = True
    assert await log.flush(book.as_store()) == 0
    book.is_away = False
    watch.pass_seconds(1)
    assert await log.flush(book.as_store()) == 1
    assert book.batches == [{ANN: seen}]


async def test_many_agents_are_written_in_batches_in_the_order_of_their_ids() -> None:
    watch, book = Watch(), Notebook()
    log = PresenceLog(watch)
    count = BATCH * 2 + 1
    for number in reversed(range(count)):
        log.saw(AgentId(number))
    assert await log.flush(book.as_store()) == count
    assert [len(batch) for batch in book.batches] == [BATCH, BATCH, 1]
    assert [agent for batch in book.batches for agent in batch] == list(range(count))


async def test_what_is_seen_while_it_is_written_is_kept_for_the_next_time() -> None:
    watch, book = Watch(), Notebook()
    log = PresenceLog(watch)

    class Late(Notebook):
        async def touch(self, seen: Mapping[AgentId, datetime]) -> None:
            await super().touch(seen)
            watch.pass_seconds(1)
            log.saw(ANN)

    late = Late()
    log.saw(ANN)
    await log.flush(late.as_store())
    watch.pass_seconds(60)
    assert await log.flush(book.as_store()) == 1
    assert book.batches[0][ANN] > late.batches[0][ANN]
