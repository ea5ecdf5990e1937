"""Job workers with disks of their own and one remote: whoever goes on, goes on from what the remote has."""

from __future__ import annotations

from pathlib import Path

from agent_mail_archive.repacking import MOST_PACKS
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.office import Office


async def commits(mail: ArchivedOffice, branch: str = "main") -> list[str]:
    return (await mail.git("rev-list", "--reverse", branch)).split()


async def test_what_was_fetched_is_put_together_with_what_comes_after(office: Office, tmp_path: Path) -> None:
    remote = str(tmp_path / "remote")
    async with archived(office, tmp_path / "one", remote) as one, archived(office, tmp_path / "two", remote) as two:
        for number in range(MOST_PACKS):
            await office.send("Ann", ["Bob"], subject=f"A subject as long as they are, no. {number}")
            await one.archive()
        for number in range(2 * MOST_PACKS):  # on packs as a remote makes them: of commits and folders told by others
            await office.send("Ann", ["Bob"], subject=f"Another subject, about as long, no. {number}")
            await two.archive()
        assert len(list((await two.path()).glob("objects/pack/*.pack"))) <= MOST_PACKS + 1
        assert len(await commits(two)) == 3 * MOST_PACKS
        await two.verified()


async def test_a_worker_that_died_before_it_pushed_is_followed_by_one_that_can(office: Office, tmp_path: Path) -> None:
    remote = str(tmp_path / "remote")
    async with archived(office, tmp_path / "one", remote) as one, archived(office, tmp_path / "two", remote) as two:
        await office.send("Ann", ["Bob"])
        pushed = await one.archive()
        async with archived(office, tmp_path / "one", None) as dying:
            for _ in range(2):
                await office.send("Ann", ["Bob"])
                await dying.archive()  # recorded, and the remote does not have it
        await office.send("Bob", ["Ann"])
        state = await two.archive()
        assert state.pushed_head == state.head
        assert (await commits(two))[0] == pushed.head
        await two.verified()
        await office.send("Ann", ["Bob"])
        again = await one.archive()  # what it has was given up
        assert again.pushed_head == again.head
        assert (await commits(one))[:-1] == await commits(two)
        await one.verified()
