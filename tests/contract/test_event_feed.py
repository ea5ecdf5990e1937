"""Feeds of events: a reader that comes back goes on where it was, on any worker, or learns that it missed some."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core.errors import AgentNotFound, ProjectNotFound, TooManyStreams
from agent_mail_core.event_feed import EventFeed, FeedPage, FollowEvents, StreamPlaces, follow_events
from agent_mail_core.ports import App, Wakeup
from agent_mail_core.project_deletion import DeleteProject, delete_project
from tests.contract.databases import Database
from tests.contract.foreign_mail import agent_id, deliver_across
from tests.contract.office import Office, caller

PATIENCE = 5.0


class Reader:
    def __init__(self, feed: EventFeed, news: Wakeup, last_id: str, reset: str | None) -> None:
        self._feed, self._news = feed, news
        self.last_id, self.reset = last_id, reset

    async def next(self, patience: float = PATIENCE) -> FeedPage:
        page = await self._feed.next(self._news, patience)
        self.last_id = page.events[-1][0] if page.events else page.last_id
        return page

    async def kinds(self, patience: float = PATIENCE) -> list[str]:
        return [activity.kind for _, activity in (await self.next(patience)).events]


@asynccontextmanager
async def following(office: Office, **more: Any) -> AsyncIterator[Reader]:
    request = FollowEvents(**{"project_slug": office.slug, **more})
    followed = await follow_events(office.app, office.caller, request)
    async with office.app.wakeups.subscribe(followed.topic) as news:
        yield Reader(followed.feed, news, followed.last_event_id, followed.reset)


async def test_a_feed_begins_with_what_comes_after_it(office: Office) -> None:
    async with following(office) as reader:
        assert await reader.kinds(patience=0) == []
        await office.send("Ann", ["Bob"])
        await office.update("Ann", model="m-2")
        assert [*await reader.kinds(), *await reader.kinds(patience=0)] == ["message.sent", "agent.updated"]


async def test_who_comes_back_to_another_worker_misses_nothing(office: Office, workers: list[App]) -> None:
    async with following(office) as reader:
        await office.update("Ann", model="m-1")
        [(first, _)] = (await reader.next()).events
    for number in range(250):
        await office.update("Ann", task_description=str(number))
    elsewhere = office.at(workers[-1])
    seen: list[str] = []
    async with following(elsewhere, last_event_id=first) as reader:
        assert reader.reset is None
        while len(seen) < 250:
            page = await reader.next()
            assert len(page.events) in range(1, 101)
            seen += [event_id for event_id, _ in page.events]
        assert await reader.kinds(patience=0) == []
    assert len(set(seen)) == 250
    async with following(elsewhere, last_event_id=seen[99]) as reader:
        assert (await reader.next()).events[0][0] == seen[100]


async def test_an_agents_feed_is_woken_by_its_mail(office: Office) -> None:
    async with following(office, agent_name="Bob") as reader:
        began = asyncio.get_running_loop().time()
        waiting = asyncio.create_task(reader.kinds())
        await asyncio.sleep(0)
        await office.send("Ann", ["Cid"])
        await office.send("Ann", ["Bob"])
        assert await waiting == ["message.sent"]
        assert asyncio.get_running_loop().time() - began < 1.5  # far less than a look by itself would take


async def test_a_bcc_is_seen_by_its_recipients_own_eyes_alone(office: Office) -> None:
    others = office.of("somebody")
    async with (
        following(office, agent_name="Dot") as own,
        following(others, agent_name="Dot") as foreign,
        following(others) as project,
    ):
        sent = await office.send("Ann", ["Bob"], bcc=["Dot"])
        await office.acknowledge("Dot", sent.message_id)
        [(_, seen)] = (await own.next()).events
        assert (seen.kind, seen.message_id) == ("message.sent", sent.message_id)
        [(_, public)] = (await project.next()).events
        assert "Dot" not in public.model_dump_json()
        assert await foreign.kinds(patience=0.2) == []


async def test_mail_from_another_project_reaches_the_agents_feed(office: Office, database: Database) -> None:
    there = replace(office, slug="there")
    await there.ensure("there")
    await there.register("Eve", contact_policy="open")
    async with following(there, agent_name="Eve") as reader:
        sent = await office.send("Ann", ["Bob"])
        await deliver_across(database, sent.message_id, await agent_id(there, "Eve"))
        assert await reader.kinds() == ["message.sent"]


async def test_an_id_of_another_epoch_begins_anew(office: Office, database: Database, family: Any) -> None:
    async with following(office) as reader:
        old = reader.last_id
    await database.set_fact("epoch", "restored")
    restored = office.at(replace(office.app, store=await family.open()))
    async with following(restored, last_event_id=old) as reader:
        assert reader.reset == "epoch"
        await restored.update("Ann", model="m-2")
        assert await reader.kinds() == ["agent.updated"]


@pytest.mark.parametrize("given", ["x", "-", "1-2", "é-1-2", "a-1-99999999999999999999", "\u2028", "' OR 1=1 --"])
async def test_an_id_that_is_none_begins_anew(office: Office, given: str) -> None:
    async with following(office, last_event_id=given) as reader:
        assert reader.reset in ("unknown_id", "epoch")
        assert await reader.kinds(patience=0) == []


@pytest.mark.parametrize("ahead", ["1000000000-0", "1000000000-7", f"{2**63 - 1}-{2**63 - 1}"])
async def test_an_id_ahead_of_all_there_is_begins_anew(office: Office, ahead: str) -> None:
    """Going on behind it would tell nothing for ever, or on SQLite everything again and again."""
    async with following(office, last_event_id=f"{office.app.store.identity.epoch}-{ahead}") as reader:
        assert reader.reset == "unknown_id"
        await office.send("Ann", ["Bob"])
        assert await reader.kinds() == ["message.sent"]
        assert await reader.kinds(patience=0) == []


async def test_an_id_before_events_that_were_removed_is_too_old(office: Office, database: Database) -> None:
    async with following(office) as reader:
        old = reader.last_id
    await office.update("Ann", model="m-2")
    await office.update("Ann", model="m-3")
    await database.execute("DELETE FROM outbox")
    async with office.app.store.write() as db:
        project = await db.projects.find(office.caller.team_id, office.slug)
        assert project is not None
        assert await db.events.forget(project.id, timedelta(hours=-1), 100) > 2
    async with following(office, last_event_id=old) as reader:
        assert reader.reset == "too_old"
        fresh = reader.last_id
    async with following(office, last_event_id=fresh) as reader:
        assert reader.reset is None


async def test_it_ends_with_the_project(office: Office) -> None:
    async with following(office) as reader:
        waiting = asyncio.create_task(reader.kinds(patience=30))
        await asyncio.sleep(0)
        await delete_project(office.app, office.caller, DeleteProject(project_slug=office.slug))
        assert await waiting == ["project.deleted"]
        with pytest.raises(ProjectNotFound):
            await reader.next()


@pytest.mark.parametrize("agent_name", [None, "Ann"])
async def test_it_does_not_go_on_in_another_project_of_the_name(office: Office, agent_name: str | None) -> None:
    async with following(office, agent_name=agent_name) as reader:
        await delete_project(office.app, office.caller, DeleteProject(project_slug=office.slug))
        await office.ensure(office.slug)
        await office.register("Ann")
        with pytest.raises(ProjectNotFound):
            await reader.next()


async def test_it_ends_when_the_server_drains(office: Office) -> None:
    draining = office.at(replace(office.app, is_draining=lambda: True))
    async with following(draining) as reader:
        assert await reader.kinds(patience=60) == []


async def test_foreign_projects_are_unknown(office: Office, database: Database) -> None:
    stranger = office.of("stranger", team_id=await database.add_team("other"))
    for asked in ({}, {"agent_name": "Ann"}, {"project_slug": "nowhere"}):
        with pytest.raises(ProjectNotFound):
            await follow_events(stranger.app, stranger.caller, FollowEvents(**{"project_slug": office.slug, **asked}))
    with pytest.raises(AgentNotFound):
        await follow_events(office.app, office.caller, FollowEvents(project_slug="office", agent_name="Nobody"))


def test_places_are_bounded_for_each_principal_and_given_back() -> None:
    places = StreamPlaces(2)
    with places.place(caller("a")), places.place(caller("b")):
        with places.place(caller("a")), pytest.raises(TooManyStreams), places.place(caller("a")):
            pass
        with places.place(caller("a")):
            pass
