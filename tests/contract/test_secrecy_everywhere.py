"""bcc is a secret on every row of the operations table: two worlds that differ in it alone answer alike.

`test_secrecy` says what the sender and the bcc recipient see. Here nobody of them asks.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from difflib import ndiff
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr

from agent_mail_archive.git_archive import GitArchive
from agent_mail_archive.late_archive import LateArchive
from agent_mail_core.completions import Completed, CompleteName, complete_name
from agent_mail_core.event_feed import EventFeed, FollowEvents
from agent_mail_core.events import FIRST_POSITION
from agent_mail_core.ports import App
from agent_mail_core.settings import Settings
from agent_mail_server.operations import OPERATIONS
from agent_mail_store.opening import open_store
from agent_mail_summaries.extractive import ExtractiveSummarizer
from tests.contract.archives import ArchivedOffice
from tests.contract.bcc_asks import LAST, READS, WRITES, Ask
from tests.contract.bcc_worlds import CAST, SECRETS, World, cloned_postgres, made, masked, settle
from tests.contract.databases import Database

LISTS_AGENTS = {
    *{"get_project", "list_agents", "whois", "list_activity", "list_contacts", "export_project", "archive_show"},
    *{"archive_log", "suggest_agent_names"},
}
"""Operations that name agents of the project, whatever mail they got."""


@pytest.fixture
def second_url(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """One more migrated, empty database of the same engine."""
    if database.url.startswith("sqlite"):
        path = tmp_path / "second.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server, template = (request.getfixturevalue(name) for name in ("postgres_url", "postgres_template"))
    with cloned_postgres(server, template, f"agent_mail_second_{secrets.token_hex(6)}") as url:
        yield url


@pytest.fixture
async def worlds(app: App, second_url: str, tmp_path: Path) -> AsyncIterator[list[World]]:
    """With the secret, and without."""
    async with AsyncExitStack() as stack:
        settings = Settings(database_url=SecretStr(second_url))
        other = await open_store(settings, app.clock, single_server=False)
        stack.push_async_callback(other.close)
        found = []
        for number, store in enumerate((app.store, other)):
            archive = LateArchive(partial(GitArchive, tmp_path / f"archive{number}", None))
            stack.push_async_callback(archive.close)
            own = replace(app, store=store, archive=archive, summarizer=ExtractiveSummarizer())
            found.append(await made(own, with_secrets=number == 0))
        yield found


async def differences(worlds: Sequence[World], asks: Sequence[Ask]) -> list[tuple[Ask, list[str]]]:
    """What two worlds answer differently, each of them asked in turn: the calls, and the lines."""
    found = []
    for ask in asks:
        answers = [(await world.answer(*ask)).splitlines() for world in worlds]
        if answers[0] != answers[1]:
            found.append((ask, [line for line in ndiff(answers[0], answers[1]) if not line.startswith(" ")]))
    return found


def test_every_operation_is_asked() -> None:
    """A new row of the table needs a line in `bcc_asks`."""
    asked = {ask.operation for ask in (*READS, *WRITES, *LAST)}
    assert asked == {operation.name for operation in OPERATIONS}


async def test_no_answer_tells_a_world_with_a_bcc_from_one_without(worlds: list[World], tmp_path: Path) -> None:
    for asks in (None, READS, WRITES, None, READS, LAST):
        if asks is None:
            for number, world in enumerate(worlds):
                await settle(world)
                for slug in CAST:
                    office = replace(world.office("Root"), slug=slug)
                    await ArchivedOffice(office, tmp_path / f"archive{number}").archive()
        else:
            assert await differences(worlds, asks) == []


async def test_the_worlds_do_differ(worlds: list[World]) -> None:
    """Else nothing above would mean anything: the two who know are told of it."""
    to_its_recipient = Ask("Zebulon", "check_inbox", {"project_slug": "shop", "agent_name": "Zebulon"})
    to_the_sender = Ask("Ann", "list_outbox", {"project_slug": "shop", "agent_name": "Ann"})
    assert len(await differences(worlds, [to_its_recipient, to_the_sender])) == 2


async def test_no_answer_about_mail_names_a_bcc(worlds: list[World]) -> None:
    for ask in READS:
        if ask.operation not in LISTS_AGENTS and not set(SECRETS) & set(map(str, ask.arguments.values())):
            answer = await worlds[0].answer(*ask)
            assert not any(name in answer for name in SECRETS if name not in str(ask.arguments)), ask


async def test_no_completion_tells_of_a_bcc(worlds: list[World]) -> None:
    found = []
    for world in worlds:
        eve = world.office("Eve")
        asked = [
            CompleteName(kind=kind, begin=begin, project_slug=slug)
            for kind in get_args(Completed)
            for begin in ("", "f", "x", "z")
            for slug in CAST
        ]
        found.append([await complete_name(eve.app, eve.caller, request) for request in asked])
    assert found[0] == found[1]
    assert any(completions.values for completions in found[0])


@pytest.mark.parametrize("slug", CAST)
async def test_no_byte_of_an_archive_tells_of_a_bcc(worlds: list[World], tmp_path: Path, slug: str) -> None:
    histories = []
    for number, world in enumerate(worlds):
        archive = ArchivedOffice(replace(world.office("Root"), slug=slug), tmp_path / f"archive{number}")
        await archive.archive()
        await archive.verified()
        history = masked(await archive.git("log", "-p", "--all", "--format=%B", "--full-index"))
        histories.append(sorted(history.splitlines()))  # files are in the order of their times, to the second
    assert histories[0] == histories[1]
    assert len(histories[0]) > 50


@pytest.mark.parametrize("name", [None, "Zebulon"])
async def test_no_frame_of_an_event_stream_tells_of_a_bcc(worlds: list[World], name: str | None) -> None:
    streams = []
    for world in worlds:
        eve = world.office("Eve")
        begin = f"{world.app.store.identity.epoch}-{FIRST_POSITION.transaction}-{FIRST_POSITION.event_id}"
        request = FollowEvents(project_slug="shop", agent_name=name, last_event_id=begin)
        feed = EventFeed(eve.app, eve.caller, request)
        assert (await feed.begin()).reset is None
        seen: list[str] = []
        async with eve.app.wakeups.subscribe(await feed.topic()) as news:
            while page := (await feed.next(news, 0.5)).events:
                seen += [masked(activity.model_dump_json()) for _, activity in page]
        streams.append(seen)
    assert streams[0] == streams[1]
    assert len(streams[0]) >= 1
