"""One query tells which inboxes have grown, so that waiting calls need not look each by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import inbox_of
from agent_mail_core.waiting import InboxWatch
from tests.contract.office import Office


class Heard(MemoryWakeups):
    """Remembers what was published."""

    def __init__(self) -> None:
        super().__init__()
        self.topics_told: list[str] = []

    async def publish(self, topics: Iterable[str]) -> None:
        self.topics_told += topics


async def topics(office: Office, *names: str) -> list[str]:
    """The wake-up topics of agents' inboxes, learned by a message to each."""
    heard = Heard()
    ann = office.at(replace(office.app, wakeups=heard))
    found = []
    for name in names:
        heard.topics_told.clear()
        await ann.send("Dot", [name])
        found += [topic for topic in heard.topics_told if inbox_of(topic) is not None]
    return found


async def test_positions_of_many_mailboxes_come_at_once(office: Office) -> None:
    await office.send("Ann", ["Bob", "Cid"])
    await office.send("Ann", ["Bob"])
    named = await topics(office, "Ann", "Bob", "Cid")
    ids = [agent_id for agent_id in map(inbox_of, named) if agent_id is not None]
    others = [AgentId(number) for number in range(10_000, 11_500)]
    async with office.app.store.read() as db:
        found = await db.mailboxes.positions([*ids, *others])
        assert await db.mailboxes.positions([]) == {}
    assert [found.get(agent_id, 0) for agent_id in ids] == [1, 3, 2]
    assert not set(others) & set(found)


async def test_an_inbox_that_grew_and_one_not_asked_for_before_are_told(office: Office) -> None:
    watch = InboxWatch(office.app.store)
    ann, bob, cid = await topics(office, "Ann", "Bob", "Cid")
    assert set(await watch.grown([ann, bob])) == {ann, bob}
    assert await watch.grown([ann, bob]) == []
    await office.send("Ann", ["Bob", "Cid"])
    assert set(await watch.grown([ann, bob, cid])) == {bob, cid}
    await office.mark_read("Bob", 1)
    assert await watch.grown([ann, bob, cid]) == []
    assert await watch.grown(["stream:1", "subscriptions:2"]) == []
    assert await watch.grown([bob]) == [bob], "nobody listened meanwhile"


async def test_while_the_database_is_away_nothing_is_told_and_nothing_forgotten(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = InboxWatch(office.app.store)
    (bob,) = await topics(office, "Bob")
    await watch.grown([bob])
    await office.send("Ann", ["Bob"])

    def away() -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(type(office.app.store), "read", lambda store: away())
        assert await watch.grown([bob]) == []
    assert await watch.grown([bob]) == [bob]
