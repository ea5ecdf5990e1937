"""start_session: project, agent, reservations and inbox in one call (SPEC 3.1)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_mail_core import reserving
from agent_mail_core.errors import AgentNameTaken, IdempotencyConflict, InvalidPath
from agent_mail_core.ports import App
from agent_mail_core.session_start import StartedSession
from tests.contract.databases import Database
from tests.contract.leasing import patterns, release, reserve
from tests.contract.office import Office, subjects
from tests.contract.test_races import outcomes, row_counts


async def start(office: Office, **more: Any) -> StartedSession:
    fields = {"human_key": "office", "program": "shell", "model": "m-1", **more}
    answer: StartedSession = await office.call("start_session", **fields)
    return answer


async def test_a_newcomer_has_all_it_needs(office: Office) -> None:
    begun = await start(
        office, human_key="/code/new/", agent_name="Eve", task_description="The cart", reserve_paths=["src", "src/a"]
    )
    assert (begun.project.human_key, begun.project.slug[:4]) == ("/code/new", "new-")
    assert (begun.agent.name, begun.agent.program, begun.agent.model) == ("Eve", "shell", "m-1")
    assert (begun.agent.task_description, begun.created, begun.replayed) == ("The cart", True, False)
    assert patterns(begun.reservations.granted) == ["src", "src/a"]
    assert (begun.inbox.messages, begun.inbox.unread_count) == ([], 0)


async def test_who_can_reserve_nothing_any_more_still_learns_its_name(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reserve(office, "Bob", "docs")
    monkeypatch.setattr(reserving, "MAX_RESERVATIONS", 1)
    begun = await start(office, reserve_paths=["src"])
    assert (begun.created, begun.reservations.granted, begun.reservations.conflicts) == (True, [], [])
    assert begun.reservations.hint is not None
    assert begun.reservations.hint.startswith("Nothing is reserved. This project has as many reservations")


async def test_who_comes_back_finds_its_mail_and_renews_its_paths(office: Office) -> None:
    for subject in ("one", "two", "three"):
        await office.send("Bob", ["Ann"], subject=subject)
    first = await start(office, agent_name="ann", reserve_paths=["src"], inbox_limit=2)
    assert (first.agent.name, first.created) == ("Ann", False)
    assert subjects(first.inbox.messages) == ["three", "two"]
    assert (first.inbox.unread_count, first.inbox.older_cursor is not None) == (3, True)
    again = await start(office, agent_name="Ann", reserve_paths=["src"])
    assert again.reservations.granted[0].renewed
    assert again.reservations.granted[0].id == first.reservations.granted[0].id
    assert (await office.wait("Ann", cursor=again.inbox.cursor, timeout_seconds=0)).messages == []


async def test_paths_that_others_hold_are_told_and_the_rest_is_done(office: Office) -> None:
    await start(office, agent_name="Ann", reserve_paths=["src"])
    late = await start(office, agent_name="Bob", reserve_paths=["src/a", "docs"])
    assert (late.reservations.granted, [one.holder for one in late.reservations.conflicts]) == ([], ["Ann"])
    assert late.agent.name == "Bob"


async def test_a_path_that_cannot_be_makes_nothing(office: Office, database: Database) -> None:
    before = await database.dump()
    for paths in (["../x"], ["src", "a" * 2000], ["/elsewhere"]):
        with pytest.raises(InvalidPath):
            await start(office, human_key="/code/new", reserve_paths=paths)
    assert await database.dump() == before


async def test_another_principals_name_makes_no_project(office: Office, database: Database) -> None:
    before = await database.dump()
    with pytest.raises(AgentNameTaken):
        await start(office.of("somebody"), agent_name="Ann")
    assert await database.dump() == before


async def test_a_retry_goes_on_with_the_same_agent(office: Office, database: Database) -> None:
    first = await start(office, reserve_paths=["src"], idempotency_key="k")
    await release(office, first.agent.name)
    again = await start(office, reserve_paths=["src"], idempotency_key="k")
    assert (again.replayed, again.agent, again.created) == (True, first.agent, True)
    assert patterns(again.reservations.granted) == ["src"]
    with pytest.raises(IdempotencyConflict):
        await start(office, reserve_paths=["docs"], idempotency_key="k")
    other = await start(office, reserve_paths=[], idempotency_key="other")
    assert other.agent.name != first.agent.name


async def test_the_same_key_at_once_makes_one_agent(office: Office, workers: list[App], database: Database) -> None:
    before = (await row_counts(database))["agents"]
    offices = [office.at(workers[n % len(workers)]) for n in range(10)]
    async with asyncio.timeout(30):
        answers, errors = await outcomes(
            [start(there, reserve_paths=["src"], idempotency_key="k") for there in offices]
        )
    assert errors == []
    assert len({answer.agent.name for answer in answers}) == 1
    assert len({answer.reservations.granted[0].id for answer in answers}) == 1
    assert (await row_counts(database))["agents"] == before + 1


async def test_agents_that_pick_the_same_key_are_not_each_others_retries(office: Office) -> None:
    for name in ("Eve", "Fay"):
        begun = await start(office, agent_name=name, idempotency_key="boot")
        assert (begun.agent.name, begun.created, begun.replayed) == (name, True, False)
    again = await start(office, agent_name="Eve", idempotency_key="boot")
    assert (again.agent.name, again.replayed) == ("Eve", True)
    elsewhere = await start(office, human_key="/code/new", agent_name="Eve", idempotency_key="boot")
    assert (elsewhere.created, elsewhere.replayed) == (True, False)


async def test_the_mail_comes_with_its_text_when_asked_for(office: Office) -> None:
    await office.send("Bob", ["Ann"], body="Read me.")
    assert [one.body_md for one in (await start(office, agent_name="Ann")).inbox.messages] == [None]
    assert [one.body_md for one in (await start(office, agent_name="Ann", include_bodies=True)).inbox.messages] == [
        "Read me."
    ]


async def test_who_was_given_a_name_is_told_to_pass_it_next_time(office: Office) -> None:
    newcomer = await start(office)
    assert newcomer.hint is not None
    assert f"agent_name={newcomer.agent.name!r}" in newcomer.hint
    again = await start(office, agent_name=newcomer.agent.name)
    assert (again.agent.name, again.created, again.hint) == (newcomer.agent.name, False, None)
