"""Background jobs as a server shows them: dead ones to administrators over REST, figures in /metrics."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from agent_mail_core.ids import TeamId
from agent_mail_core.ports import Role
from agent_mail_server.operations import BY_NAME
from tests.wire.server import Place, client_of, error_of, fleet, served

OPERATIONS = ("list_dead_jobs", "retry_job", "drop_job")


async def test_dead_jobs_are_listed_retried_and_dropped_over_rest(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        store = server.servers[0].app.store
        for subject_id in (1, 2, 3):
            async with store.write() as db:
                await db.jobs.want("summary", subject_id, TeamId(1))
                job = await db.jobs.claim(["summary"], timedelta(seconds=30))
                assert job is not None
                await db.jobs.bury(job, "no")
        first = (await client.get("/api/admin/job/dead", params={"limit": 2})).json()
        rest = (await client.get("/api/admin/job/dead", params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [job["subject_id"] for job in first["jobs"] + rest["jobs"]] == [1, 2, 3]
        assert {**rest["jobs"][0], "created_at": ""} == {
            "kind": "summary",
            "subject_id": 3,
            "attempts": 1,
            "last_error": "no",
            "created_at": "",
        }
        assert "next_cursor" not in rest
        body = {"kind": "summary", "subject_id": 2}
        assert (await client.post("/api/admin/job/retry", json=body)).json() == {"retried": 1}
        assert (await client.post("/api/admin/job/retry", json=body)).json() == {"retried": 0}
        assert (await client.post("/api/admin/job/drop", json={"kind": "summary"})).json() == {"dropped": 2}
        refused = await client.post("/api/admin/job/drop", json={"kind": "mail"})
        assert (refused.status_code, error_of(refused)["code"]) == (422, "invalid_arguments")


def test_they_are_for_administrators_and_no_tools() -> None:
    for name in OPERATIONS:
        assert (BY_NAME[name].role, BY_NAME[name].is_tool) == (Role.admin, False)


async def test_metrics_tell_of_jobs(fresh_sqlite: str) -> None:
    async with served(fresh_sqlite) as server, client_of(server) as client:
        await client.post("/api/project/ensure", json={"human_key": "lake"})
        wanted = ('agent_mail_job_runs_total{kind="outbox",outcome="done"}', 'agent_mail_jobs{kind="sweep",state=')
        text = ""
        while not all(line in text for line in wanted):  # pytest's own time limit ends it
            await asyncio.sleep(0.1)
            text = (await client.get("/metrics")).text
        assert 'agent_mail_job_seconds_bucket{kind="outbox",le="+Inf"}' in text
        assert 'agent_mail_job_oldest_due_seconds{kind="sweep"}' in text
