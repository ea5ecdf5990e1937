"""Whether the service lives and is ready, judged by a real database: it answers, is closed, or a part is away."""

from __future__ import annotations

from dataclasses import replace

from agent_mail_core.errors import Unavailable
from agent_mail_core.fields import NoArguments
from agent_mail_core.health import DependencyState, Readiness, health, metrics, ready
from agent_mail_core.ports import App, Dependency
from tests.contract.office import caller

NOTHING = NoArguments()


async def answers() -> None:
    """A part that is there."""


async def is_away() -> None:
    """One that is not."""
    raise Unavailable("Nobody answers.")


async def test_it_lives_and_needs_no_database_for_that(app: App) -> None:
    await app.store.close()
    found = await health(app, caller(), NOTHING)
    assert (found.status, found.version) == ("healthy", app.version)
    assert found.uptime_seconds >= 0


async def test_it_is_ready_when_the_database_answers(app: App) -> None:
    found = await ready(app, caller(), NOTHING)
    assert found == Readiness(status="ready", dependencies=[DependencyState(name="database", status="up")])


async def test_it_is_not_ready_without_its_database(app: App) -> None:
    await app.store.close()
    found = await ready(app, caller(), NOTHING)
    assert found.status == "not_ready"
    assert [(part.name, part.status) for part in found.dependencies] == [("database", "down")]
    assert found.dependencies[0].detail


async def test_who_leaves_is_not_ready_though_all_is_well(app: App) -> None:
    found = await ready(replace(app, is_leaving=lambda: True), caller(), NOTHING)
    assert found == Readiness(status="not_ready", dependencies=[DependencyState(name="database", status="up")])


async def test_another_part_that_is_away_degrades(app: App) -> None:
    parted = replace(app, dependencies=(Dependency("redis", is_away), Dependency("archive", answers)))
    found = await ready(parted, caller(), NOTHING)
    assert found.status == "degraded"
    assert [(part.name, part.status, part.detail) for part in found.dependencies] == [
        ("database", "up", None),
        ("redis", "down", "Nobody answers."),
        ("archive", "up", None),
    ]


async def test_metrics_are_those_of_the_server(app: App) -> None:
    assert await metrics(app, caller(), NOTHING) == app.metrics.snapshot()
