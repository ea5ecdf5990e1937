"""A job worker whose archive job takes its time, for tests that kill and pause it: `python -m tests.e2e.slow_worker`.

The job stores a mark at its end (work of the kind `summary`, which nobody does here), under its lease, and tells in the
log how far it is. SLOW_SECONDS, LEASE_SECONDS.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

import structlog

from agent_mail_core import job_runner, jobs
from agent_mail_core.jobs import Handlers, Job
from agent_mail_core.ports import App
from agent_mail_core.settings import load
from agent_mail_worker.jobs import HANDLERS
from agent_mail_worker.main import work

OURS = ("SLOW_SECONDS", "LEASE_SECONDS")


async def archive_slowly(app: App, job: Job) -> None:
    log = structlog.get_logger()
    log.warning("job begun", subject_id=job.subject_id, attempt=job.attempt)
    await asyncio.sleep(float(os.environ["SLOW_SECONDS"]))
    async with app.store.write() as db:
        await db.jobs.hold(job)
        await db.jobs.want("summary", job.fence)
        log.warning("job storing", subject_id=job.subject_id, attempt=job.attempt)


def main() -> int:
    """The exit status."""
    lease = timedelta(seconds=float(os.environ["LEASE_SECONDS"]))
    for module in (jobs, job_runner):
        vars(module)["LEASE"] = lease
    settings, warnings = load({name: value for name, value in os.environ.items() if name not in OURS})
    handlers: Handlers = {kind: handler for kind, handler in HANDLERS.items() if kind in ("outbox", "sweep")}
    return work(settings, warnings, {**handlers, "archive": archive_slowly})


if __name__ == "__main__":
    sys.exit(main())
