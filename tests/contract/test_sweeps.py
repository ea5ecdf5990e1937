"""Sweeps, on both engines: each finds what is due by the database's time, in bounded steps, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from agent_mail_core import sweeps
from agent_mail_core.event_feed import events_topic
from agent_mail_core.idempotency import KEPT_FOR
from agent_mail_core.ids import ProjectId, TeamId
from agent_mail_core.job_queue import JobKind, JobQueue
from agent_mail_core.jobs import KINDS, LEASE, Job
from agent_mail_core.leases import leases_topic
from agent_mail_core.ports import App, Role
from agent_mail_core.sweeps import ALWAYS, SOON, SWEEPS, UNKNOWN_AGAIN, sweep
from tests.contract.databases import Database
from tests.contract.foreign_mail import agent_id
from tests.contract.leasing import acquire, listed, pass_time, reserve
from tests.contract.office import TEAM, Office

OUTBOX_JOB = Job("outbox", 0, None, 1, 1)


@dataclass
class Wakes(JobQueue):
    """What the queue was told."""

    told: Counter[tuple[JobKind, int]] = field(default_factory=Counter)

    def wake(self, kind: JobKind, subject_id: int) -> None:
        self.told[kind, subject_id] += 1


async def archive_jobs(app: App, database: Database) -> list[int]:
    """The projects whose archives have something to do, once they have gathered; afterwards they have not."""
    await database.age("jobs", KINDS["archive"].gathers, "run_at")
    found: list[int] = []
    while True:
        async with app.store.write() as db:
            job = await db.jobs.claim(["archive"], LEASE)
            if job is None:
                return sorted(found)
            assert job.team_id == TEAM
            await db.jobs.finish(job)
            found.append(job.subject_id)


async def empty_outbox(database: Database) -> None:
    await database.execute("DELETE FROM outbox")


async def project_id(office: Office, key: str) -> ProjectId:
    """Of a project of that key, which is made."""
    await office.ensure(key)
    async with office.app.store.read() as db:
        record = await db.projects.find(TEAM, key)
    assert record is not None
    return record.id


async def test_projects_whose_events_wait_for_the_archive_are_found(office: Office, database: Database) -> None:
    first, second = await project_id(office, "office"), await project_id(office, "lake")
    wakes = Wakes()
    app = replace(office.app, jobs=wakes)
    await sweeps.look_into_outbox(app, OUTBOX_JOB)
    assert await archive_jobs(app, database) == [first, second]
    assert set(wakes.told) == {("archive", first), ("archive", second)}
    await sweeps.sweep_outbox(app)
    assert await archive_jobs(app, database) == [first, second], "their rows are still there"
    await empty_outbox(database)
    await sweeps.look_into_outbox(app, OUTBOX_JOB)
    await sweeps.sweep_outbox(app)
    assert await archive_jobs(app, database) == []


async def test_the_sweep_finds_what_lies_behind_another_projects_backlog(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "NEWEST_OUTBOX_ROWS", 3)
    monkeypatch.setattr(sweeps, "OUTBOX_WINDOW", 4)
    await empty_outbox(database)
    first = await project_id(office, "first")
    for _ in range(3):
        await office.send("Ann", ["Bob"])
    backlog = await project_id(office, "office")
    for _ in range(4):
        await office.send("Ann", ["Bob"])
    await sweeps.look_into_outbox(office.app, OUTBOX_JOB)
    assert await archive_jobs(office.app, database) == [backlog]
    await sweeps.sweep_outbox(office.app)
    assert set(await archive_jobs(office.app, database)) == {first, backlog}


async def test_a_write_tells_the_followers_once_for_many(app: App) -> None:
    wakes = Wakes()
    sweeps.events_were_added(replace(app, jobs=wakes))
    assert wakes.told == {("outbox", 0): 1}


async def test_leases_whose_time_is_over_are_closed_and_who_waits_is_woken(office: Office, database: Database) -> None:
    here = await project_id(office, "office")
    await reserve(office, "Ann", "a.py", "b.py", ttl_seconds=60)
    await reserve(office, "Bob", "c.py", ttl_seconds=3600)
    await acquire(office, "Cid", ttl_seconds=60)
    app = office.app
    await sweeps.sweep_leases(app)
    assert [event.kind for event in await database.events() if event.kind.endswith(".expired")] == []
    await pass_time(database, timedelta(seconds=61))
    async with app.wakeups.subscribe(leases_topic(here)) as leases, app.wakeups.subscribe(events_topic(here)) as events:
        assert not await sweeps.sweep_leases(app)
        assert await leases.wait(1)
        assert await events.wait(1)
        await sweeps.sweep_leases(app)
        assert not await leases.wait(0), "there was nothing left to tell"
    expired = Counter(event.kind for event in await database.events() if event.kind.endswith(".expired"))
    assert expired == {"reservation.expired": 2, "slot.expired": 1}
    assert [item.pattern for item in (await listed(office)).reservations] == ["c.py"]


async def test_many_leases_are_closed_in_steps(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "LEASES_AT_ONCE", 2)
    await reserve(office, "Ann", "a.py", "b.py", "c.py", ttl_seconds=60)
    await pass_time(database, timedelta(seconds=61))
    assert [await sweeps.sweep_leases(office.app) for _ in range(3)] == [True, False, False]


async def test_idempotency_keys_go_after_a_day_and_not_before(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "KEYS_AT_ONCE", 2)
    monkeypatch.setattr(sweeps, "KEY_STEPS", 2)
    for number in range(5):
        await office.send("Ann", ["Bob"], idempotency_key=f"old {number}")
    await database.age("idempotency_keys", KEPT_FOR - timedelta(minutes=1))
    first = await office.send("Ann", ["Bob"], idempotency_key="new")
    assert not await sweeps.sweep_idempotency_keys(office.app)
    assert len((await database.dump())["idempotency_keys"]) == 6
    await database.age("idempotency_keys", timedelta(minutes=2))
    assert await sweeps.sweep_idempotency_keys(office.app), "two steps of two keys"
    assert len((await database.dump())["idempotency_keys"]) == 2
    assert not await sweeps.sweep_idempotency_keys(office.app)
    assert len((await database.dump())["idempotency_keys"]) == 1
    again = await office.send("Ann", ["Bob"], idempotency_key="new")
    assert (again.message_id, again.replayed) == (first.message_id, True)


async def test_deleted_projects_are_purged(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"])
    await office.of("local", Role.admin).call("delete_project", project_slug=office.slug)
    while await sweeps.sweep_deleted_projects(office.app):
        pass
    tables = await database.dump()
    assert (tables["messages"], tables["deliveries"]) == ([], [])


# --- overdue acknowledgements -----------------------------------------------------------------------------------------


async def overdue(database: Database) -> list[tuple[int | None, int | None]]:
    """Message and recipient of each escalation."""
    return [(event.message_id, event.agent_id) for event in await database.events() if event.kind == "message.overdue"]


async def escalate(app: App) -> None:
    for _ in range(20):
        if not await sweeps.sweep_overdue(app):
            return
    raise AssertionError("it has no end")


async def test_who_owes_an_acknowledgement_for_an_hour_is_escalated_once(office: Office, database: Database) -> None:
    sent = await office.send("Ann", ["Bob", "Cid"], cc=["Dot"], ack_required=True)
    await office.acknowledge("Cid", sent.message_id)
    await office.send("Ann", ["Bob"])
    await escalate(office.app)
    assert await overdue(database) == []
    await database.age("messages", timedelta(minutes=61))
    fresh = await office.send("Ann", ["Bob"], ack_required=True)
    await escalate(office.app)
    expected = [(sent.message_id, await agent_id(office, "Bob")), (sent.message_id, await agent_id(office, "Dot"))]
    assert await overdue(database) == expected
    await escalate(office.app)
    assert await overdue(database) == expected
    await database.age("messages", timedelta(minutes=61))
    await escalate(office.app)
    assert await overdue(database) == [*expected, (fresh.message_id, await agent_id(office, "Bob"))]


async def test_the_overseer_gets_one_mail_about_all_that_is_owed_in_a_project(
    office: Office, database: Database
) -> None:
    first = await office.send("Ann", ["Bob"], bcc=["Cid"], ack_required=True)
    second = await office.send("Ann", ["Dot"], ack_required=True)
    await database.age("messages", timedelta(minutes=61))
    await escalate(office.app)
    await escalate(office.app)
    mail = (await office.of("boss", Role.overseer).inbox("Overseer", include_bodies=True)).messages
    assert [(message.sender_name, message.subject) for message in mail] == [("System", "2 acknowledgements overdue")]
    assert mail[0].body_md is not None
    assert mail[0].body_md.splitlines() == [
        f"- Bob has not acknowledged message {first.message_id}.",
        f"- Dot has not acknowledged message {second.message_id}.",
    ]


async def test_a_hidden_recipient_is_never_escalated(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"], bcc=["Cid"], ack_required=True)
    await database.age("messages", timedelta(hours=2))
    await escalate(office.app)
    assert [owing for _, owing in await overdue(database)] == [await agent_id(office, "Bob")]


async def test_the_hour_is_a_setting(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"], ack_required=True)
    await database.age("messages", timedelta(minutes=61))
    settings = office.app.settings.model_copy(update={"ack_overdue_seconds": 7200})
    await escalate(replace(office.app, settings=settings))
    assert await overdue(database) == []
    await escalate(office.app)
    assert len(await overdue(database)) == 1


async def test_of_two_sweeps_at_once_one_escalates(workers: list[App], office: Office, database: Database) -> None:
    for _ in range(3):
        await office.send("Ann", ["Bob"], ack_required=True)
    await database.age("messages", timedelta(hours=2))
    async with workers[-1].store.read() as db:
        stale = await db.sweeps.overdue(timedelta(hours=1), 1000)
    await escalate(workers[0])
    async with workers[-1].store.write() as db:
        assert not await db.sweeps.escalated(stale)
    await escalate(workers[-1])
    assert len(await overdue(database)) == 3


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SWEEPS)
async def test_each_comes_again_at_its_time(app: App, office: Office, database: Database, number: int) -> None:
    again_after = SOON
    for _ in range(20):
        again_after = await sweep(app, Job("sweep", number, None, 1, 1))
        if again_after != SOON:
            break
    assert again_after == SWEEPS[number].every
    assert ("sweep", number) in ALWAYS


async def test_a_sweep_of_a_newer_version_is_left_to_its_workers(app: App) -> None:
    assert await sweep(app, Job("sweep", 1_000_000, TeamId(1), 1, 1)) == UNKNOWN_AGAIN
