"""What an administrator does with jobs that failed too often, on both engines."""

from __future__ import annotations

from dataclasses import replace

from agent_mail_core.dead_jobs import ChooseDeadJobs, ListDeadJobs, drop_job, list_dead_jobs, retry_job
from agent_mail_core.ids import TeamId
from agent_mail_core.jobs import LEASE
from agent_mail_core.ports import App, Role
from tests.contract.databases import Database
from tests.contract.office import TEAM, caller, pages
from tests.contract.test_sweeps import Wakes

ADMIN = caller(role=Role.admin)


async def bury(app: App, *subject_ids: int, team_id: TeamId = TEAM) -> None:
    for subject_id in subject_ids:
        async with app.store.write() as db:
            await db.jobs.want("archive", subject_id, team_id)
            job = await db.jobs.claim(["archive"], LEASE)
            assert job is not None
            await db.jobs.bury(job, f"no {subject_id}")


async def dead(app: App, team_id: TeamId = TEAM) -> list[tuple[str, int, str | None]]:
    asked = replace(ADMIN, team_id=team_id)
    found = pages(lambda **page: list_dead_jobs(app, asked, ListDeadJobs(limit=2, **page)))
    return [(job.kind, job.subject_id, job.last_error) async for page in found for job in page.jobs]


async def test_dead_jobs_are_listed_page_by_page_to_their_team_alone(app: App, database: Database) -> None:
    other = await database.add_team("other")
    await bury(app, 5, 1, 3)
    await bury(app, 4, team_id=other)
    assert await dead(app) == [("archive", number, f"no {number}") for number in (1, 3, 5)]
    assert await dead(app, other) == [("archive", 4, "no 4")]


async def test_one_or_all_of_a_kind_are_tried_again(app: App, database: Database) -> None:
    other = await database.add_team("other")
    await bury(app, 1, 2, 3)
    await bury(app, 4, team_id=other)
    wakes = Wakes()
    app = replace(app, jobs=wakes)
    assert (await retry_job(app, ADMIN, ChooseDeadJobs(kind="archive", subject_id=2))).retried == 1
    assert (await retry_job(app, ADMIN, ChooseDeadJobs(kind="archive", subject_id=2))).retried == 0
    assert (await retry_job(app, ADMIN, ChooseDeadJobs(kind="archive", subject_id=4))).retried == 0
    assert (await retry_job(app, ADMIN, ChooseDeadJobs(kind="summary"))).retried == 0
    assert set(wakes.told) == {("archive", 2)}
    assert (await retry_job(app, ADMIN, ChooseDeadJobs(kind="archive"))).retried == 2
    assert set(wakes.told) == {("archive", 1), ("archive", 2), ("archive", 3)}
    assert await dead(app) == []
    assert await dead(app, other) == [("archive", 4, "no 4")]


async def test_one_or_all_of_a_kind_are_forgotten(app: App, database: Database) -> None:
    await bury(app, 1, 2, 3)
    assert (await drop_job(app, ADMIN, ChooseDeadJobs(kind="archive", subject_id=2))).dropped == 1
    assert await dead(app) == [("archive", 1, "no 1"), ("archive", 3, "no 3")]
    assert (await drop_job(app, ADMIN, ChooseDeadJobs(kind="archive"))).dropped == 2
    assert (await database.dump())["jobs"] == []
