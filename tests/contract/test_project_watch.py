"""One query tells in which projects something happened of which nobody may have told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_core.event_feed import events_topic
from agent_mail_core.lease_ends import close_expired
from agent_mail_core.leases import leases_of, leases_topic
from agent_mail_core.ports import inbox_topic
from agent_mail_core.project_watch import ProjectWatch
from tests.contract.databases import Database
from tests.contract.leasing import acquire, force_through, listed, pass_time, release, release_slot, reserve
from tests.contract.office import Office


async def topic(office: Office) -> str:
    return leases_topic((await office.record("Ann")).project_id)


async def let_go_by_force(office: Office) -> None:
    [one] = (await listed(office)).reservations
    await force_through(office, "Bob", one.id)


async def hand_over(office: Office) -> None:
    await office.call(
        "hand_off", project_slug=office.slug, from_agent="Ann", to_agent="Bob", task="Go on", paths=["src"]
    )


async def begin_to_share(office: Office) -> None:
    await reserve(office, "Ann", "src", exclusive=False)


WAYS: dict[str, Callable[[Office], Awaitable[Any]]] = {
    "released": lambda office: release(office, "Ann"),
    "slot released": lambda office: release_slot(office, "Ann"),
    "forced": let_go_by_force,
    "handed over": hand_over,
    "shared": begin_to_share,
    "retired": lambda office: office.retire("Ann"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_frees_a_lease_is_told(office: Office, way: str) -> None:
    await office.ensure("other")
    here = await topic(office)
    await reserve(office, "Ann", "src")
    await acquire(office, "Ann")
    watch = ProjectWatch(office.app.store)
    assert await watch.grown([here]) == [here], "nobody has looked before"
    assert await watch.grown([here]) == []
    await WAYS[way](office)
    assert await watch.grown([here]) == [here]
    assert await watch.grown([here]) == []


async def test_what_has_run_out_is_told_once_somebody_has_closed_it(office: Office, database: Database) -> None:
    here = await topic(office)
    await reserve(office, "Ann", "src", ttl_seconds=60)
    watch = ProjectWatch(office.app.store)
    await watch.grown([here])
    await pass_time(database, timedelta(seconds=61))
    project_id = leases_of(here)
    assert project_id is not None
    async with office.app.store.write() as db:
        await close_expired(db, office.caller.team_id, project_id, 10)
    assert await watch.grown([here]) == [here]


async def test_only_projects_are_asked_for_of_which_somebody_waits_for_news(office: Office) -> None:
    watch = ProjectWatch(office.app.store)
    here = await topic(office)
    other = await office.ensure("other")
    async with office.app.store.read() as db:
        project = await db.projects.find(office.caller.team_id, other.project.slug)
    assert project is not None
    there = leases_topic(project.id)
    events = events_topic((await office.record("Ann")).project_id)
    inbox = inbox_topic((await office.record("Ann")).id)
    assert set(await watch.grown([here, there, events, inbox])) == {here, there, events}
    await reserve(office, "Ann", "src")
    assert set(await watch.grown([here, there, events])) == {here, events}
    assert await watch.grown([]) == []
    assert await watch.grown([there]) == [there], "nobody waited meanwhile"


async def test_while_the_database_is_away_nothing_is_told_and_nothing_forgotten(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ProjectWatch(office.app.store)
    here = await topic(office)
    await watch.grown([here])
    await reserve(office, "Ann", "src")

    def away() -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(type(office.app.store), "read", lambda store: away())
        assert await watch.grown([here]) == []
    assert await watch.grown([here]) == [here]
