"""A worker that is killed, again and again, leaves an archive that the next one goes on with."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.contract.archives import ArchivedOffice, archived
from tests.contract.databases import Database
from tests.contract.office import Office

ROUNDS = 20
EARLY_ROUNDS = 5
"""In which the worker may not even have made the repository."""


async def killed_after(
    seconds: float, database: Database, root: Path, has_begun: Callable[[], Awaitable[bool]]
) -> None:
    """Let a process archive until something `has_begun`, and for so long after that."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.archiving_process",
        database.url,
        str(root),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"archiving\n"
            while not await has_begun():  # noqa: ASYNC110 - only the database can tell
                await asyncio.sleep(0)
        await asyncio.sleep(seconds)
    finally:
        assert process.returncode is None  # it was not done
        process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # or it is closed later, with a warning


async def test_a_worker_may_be_killed_at_any_point(office: Office, database: Database, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    for number in range(900):
        await office.send("Ann", ["Bob"], subject=f"No. {number}", thread_id=f"TH-{number % 7}", bcc=["Cid"])
    chance = random.Random(5)
    done = 0
    for number in range(ROUNDS):
        async with archived(office, root) as mail:

            async def goes_on(mail: ArchivedOffice = mail, number: int = number, done: int = done) -> bool:
                state = await mail.state()
                return number < EARLY_ROUNDS or (state.archived_events if state is not None else 0) > done

            await killed_after(chance.uniform(0, 0.03), database, root, goes_on)
            state = await mail.state()
            done = state.archived_events if state is not None else 0
            if (await mail.path()).exists():
                assert await mail.git("fsck", "--strict", "--no-dangling") == ""
        await database.execute("DELETE FROM jobs")  # its lease would last a while
    async with archived(office, root) as mail:
        await mail.archive()
        verdict = await mail.verified()
    assert ROUNDS - EARLY_ROUNDS <= done < verdict.events
    assert (verdict.events, verdict.messages) == (905, 900)
