"""`agent-mail job` on a database of either engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from pydantic import SecretStr

from agent_mail_core.clock import SystemClock
from agent_mail_core.ids import TeamId
from agent_mail_core.jobs import LEASE
from agent_mail_core.settings import Settings
from agent_mail_store.opening import open_store
from tests.e2e.serving import ENTRY_TIMEOUT, agent_mail, clean_environment
from tests.servers import in_new_loop


async def bury(url: str, *subject_ids: int) -> None:
    store = await open_store(Settings(database_url=SecretStr(url)), SystemClock(), single_server=False)
    try:
        for subject_id in subject_ids:
            async with store.write() as db:
                await db.jobs.want("archive", subject_id, TeamId(1))
                job = await db.jobs.claim(["archive"], LEASE)
                assert job is not None
                await db.jobs.bury(job, "disk full")
    finally:
        await store.close()


def test_dead_jobs_are_listed_retried_and_dropped(database_url: str, tmp_path: Path) -> None:
    in_new_loop(bury(database_url, 1, 2, 3))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            agent_mail("job", *arguments),
            cwd=tmp_path,
            env=clean_environment(tmp_path, {"DATABASE_URL": database_url}),
            capture_output=True,
            text=True,
            timeout=ENTRY_TIMEOUT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert [line.split()[:2] for line in run("dead").splitlines()] == [
        ["archive", "1"],
        ["archive", "2"],
        ["archive", "3"],
    ]
    assert run("retry", "archive", "2") == "retried: 1\n"
    assert run("retry", "summary") == "retried: 0\n"
    assert json.loads(run("drop", "archive", "3", "--json")) == {"dropped": 1}
    (left,) = json.loads(run("dead", "--json"))
    assert (left["kind"], left["subject_id"], left["attempts"], left["last_error"]) == ("archive", 1, 1, "disk full")
    assert run("drop", "archive") == "dropped: 1\n"
    assert run("dead") == ""
