"""An office whose archive is kept, and its repository as git itself sees it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent_mail_archive.git_archive import GitArchive
from agent_mail_archive.late_archive import LateArchive
from agent_mail_archive.places import path_of
from agent_mail_core.archive import ArchivePlace, ArchiveState
from agent_mail_core.archive_verifying import Verdict, verify
from agent_mail_core.archiving import archive_project
from agent_mail_core.jobs import LEASE, Job
from agent_mail_core.ports import App
from tests.contract.office import Office


@dataclass(frozen=True)
class ArchivedOffice:
    """An office and the archive of its app."""

    office: Office
    root: Path

    @property
    def app(self) -> App:
        return self.office.app

    async def place(self) -> ArchivePlace:
        async with self.app.store.read() as db:
            project = await db.projects.find(self.office.caller.team_id, self.office.slug)
            assert project is not None
            place = await db.archives.place(project.id)
        assert place is not None
        return place

    async def job(self) -> Job:
        """The project's job, taken from whoever had it."""
        place = await self.place()
        async with self.app.store.write() as db:
            await db.jobs.drop(place.team_id, "archive", place.project_id)
            await db.jobs.want("archive", place.project_id, place.team_id)
        async with self.app.store.write() as db:
            job = await db.jobs.claim(["archive"], LEASE)
        assert job is not None
        return job

    async def archive(self) -> ArchiveState:
        """Do the project's job to its end; what is recorded then."""
        job = await self.job()
        while await archive_project(self.app, job) is not None:
            pass
        async with self.app.store.write() as db:
            await db.jobs.finish(job)
        state = await self.state()
        assert state is not None
        return state

    async def state(self) -> ArchiveState | None:
        place = await self.place()
        async with self.app.store.read() as db:
            return await db.archives.get(place.project_id)

    async def verified(self) -> Verdict:
        """Compared with the database; it must be the same, and git must find no fault."""
        verdict = await verify(self.app, await self.place())
        assert verdict.differences == []
        assert await self.git("fsck", "--strict", "--no-dangling") == ""
        return verdict

    async def path(self) -> Path:
        return path_of(self.root, await self.place())

    async def git(self, *arguments: str) -> str:
        """What git itself says of the repository."""
        path = await self.path()
        done = subprocess.run(  # noqa: ASYNC221 - the test has nothing else to do
            ["git", "-C", str(path), *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def files(self) -> set[str]:
        return set((await self.git("ls-tree", "-r", "--name-only", "main")).split())


@asynccontextmanager
async def archived(office: Office, root: Path, remote: str | None = None) -> AsyncIterator[ArchivedOffice]:
    """The same office, with an archive below `root`."""
    archive = LateArchive(lambda: GitArchive(root, remote))
    try:
        yield ArchivedOffice(replace(office, app=replace(office.app, archive=archive)), root)
    finally:
        await archive.close()
