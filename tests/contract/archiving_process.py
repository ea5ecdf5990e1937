"""A process that archives project 1 in small commits, until it has ended or is killed: `DATABASE_URL ARCHIVE_ROOT`."""

from __future__ import annotations

import asyncio
import sys

from pydantic import SecretStr

from agent_mail_archive.opening import open_archive
from agent_mail_cli.local_app import local_app
from agent_mail_core import archiving
from agent_mail_core.clock import SystemClock
from agent_mail_core.ids import ProjectId
from agent_mail_core.jobs import LEASE
from agent_mail_core.settings import Settings
from agent_mail_store.opening import open_store


async def main(url: str, root: str) -> None:
    settings = Settings(database_url=SecretStr(url), archive_root=root)
    clock = SystemClock()
    store = await open_store(settings, clock, single_server=False)
    async with open_archive(settings) as archive:
        app = local_app(settings, store, clock, archive)
        async with store.write() as db:
            await db.jobs.want("archive", ProjectId(1))
            job = await db.jobs.claim(["archive"], LEASE)
        assert job is not None
        print("archiving", flush=True)
        await archiving.archive_project(app, job)
    await store.close()
    print("done", flush=True)


if __name__ == "__main__":
    setattr(archiving, "MOST_EVENTS", 1)  # noqa: B010 - the module imports it
    asyncio.run(main(sys.argv[1], sys.argv[2]))
