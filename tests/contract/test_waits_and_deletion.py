"""A project that is deleted while calls wait in it: they end at once, and say why (SPEC 3.1, delete_project)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from agent_mail_core import leases, waiting
from agent_mail_core.errors import AgentNotFound, ProjectNotFound
from agent_mail_core.project_deletion import sweep_deleted
from agent_mail_core.watching import WatchInbox, inbox_positions, watch_inbox
from tests.contract.leasing import acquire, reserve
from tests.contract.office import Office
from tests.contract.test_waiting import Listening

Wait = Callable[[Office], Awaitable[Any]]
WAITS: dict[str, Wait] = {
    "inbox": lambda office: office.wait("Bob", timeout_seconds=50),
    "reservation": lambda office: reserve(office, "Bob", "src", wait_seconds=50),
    "slot": lambda office: acquire(office, "Bob", wait_seconds=50),
}


@pytest.fixture(params=WAITS)
def wait(request: pytest.FixtureRequest) -> Wait:
    """A call of Bob's that waits."""
    return WAITS[request.param]


async def begun(office: Office, wait: Wait) -> "tuple[Office, asyncio.Task[Any]]":
    """Ann holds what Bob has begun to wait for."""
    await reserve(office, "Ann", "src")
    await acquire(office, "Ann")
    listening = Listening()
    office = office.at(replace(office.app, wakeups=listening))
    call = asyncio.ensure_future(wait(office))
    await listening.begun.wait()
    return office, call


async def wake(office: Office) -> None:
    """Whoever listens looks again, as it does from time to time."""
    assert isinstance(office.app.wakeups, Listening)
    await office.app.wakeups.publish(office.app.wakeups.topics)


async def test_a_wait_ends_when_its_project_is_deleted(office: Office, wait: Wait) -> None:
    office, call = await begun(office, wait)
    await office.call("delete_project", project_slug="office")
    with pytest.raises(ProjectNotFound):
        await asyncio.wait_for(call, 3)


async def test_a_wait_does_not_go_on_in_another_project_of_the_name(
    office: Office, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (leases, waiting):
        monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 60.0)
    deaf = Listening(is_deaf=True)
    elsewhere, call = await begun(office, wait)
    quiet = elsewhere.at(replace(elsewhere.app, wakeups=deaf))
    await quiet.call("delete_project", project_slug="office")
    await quiet.ensure("office")
    for name in ("Ann", "Bob"):
        await quiet.register(name)
    await wake(elsewhere)
    with pytest.raises(ProjectNotFound, match="was deleted during this call"):
        await asyncio.wait_for(call, 3)


async def test_a_wait_as_an_agent_that_the_new_project_lacks_says_so(office: Office) -> None:
    office, call = await begun(office, WAITS["inbox"])
    deaf = office.at(replace(office.app, wakeups=Listening(is_deaf=True)))
    await deaf.call("delete_project", project_slug="office")
    await deaf.ensure("office")
    await wake(office)
    with pytest.raises(AgentNotFound):
        await asyncio.wait_for(call, 3)


async def test_an_inbox_that_is_gone_has_no_position(office: Office) -> None:
    """What watches it would take another position for mail."""
    watched = await watch_inbox(office.app, office.caller, WatchInbox(project_slug="office", agent_name="Bob"))
    assert await inbox_positions(office.app, [watched.agent_id]) == {watched.agent_id: watched.position}
    await office.call("delete_project", project_slug="office")
    await sweep_deleted(office.app, 100)
    assert await inbox_positions(office.app, [watched.agent_id]) == {}
