"""Job workers with disks of their own and no remote: they are told that they have to share one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent_mail_core.archive_copies import SHARE_IT, absent_copies
from agent_mail_core.settings import Settings
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.office import Office

CLUSTER = Settings(redis_url=SecretStr("redis://127.0.0.1:1/0"))


@asynccontextmanager
async def worker(office: Office, root: Path, settings: Settings = CLUSTER) -> AsyncIterator[ArchivedOffice]:
    """With its archives below `root`; without a remote, whatever its settings say."""
    async with archived(replace(office, app=replace(office.app, settings=settings)), root) as mail:
        yield mail


async def test_an_archive_that_another_disk_has_is_absent(office: Office, tmp_path: Path) -> None:
    await office.send("Ann", ["Bob"])
    async with worker(office, tmp_path / "one") as one, worker(office, tmp_path / "two") as two:
        assert await absent_copies(two.app) == [], "nothing is recorded yet"
        await one.archive()
        assert await absent_copies(one.app) == []
        assert await absent_copies(two.app) == [office.slug]
        await two.archive()
        assert await absent_copies(one.app) == [], "it is behind, and has what is recorded: the same files"


async def test_a_copy_that_is_behind_is_absent(office: Office, tmp_path: Path) -> None:
    async with worker(office, tmp_path / "one") as one, worker(office, tmp_path / "two") as two:
        for mail in (one, two):
            await office.send("Ann", ["Bob"])
            await mail.archive()
        assert await absent_copies(one.app) == [office.slug]


async def test_one_that_cannot_be_read_hides_no_other(office: Office, tmp_path: Path) -> None:
    async with worker(office, tmp_path / "one") as one, worker(office, tmp_path / "two") as two:
        first, second = one, ArchivedOffice(replace(one.office, slug="lake"), one.root)
        await second.office.ensure("lake")
        for mail in (first, second):
            await mail.archive()
        spoilt = two.root / (await first.path()).relative_to(one.root)
        spoilt.mkdir(parents=True)
        (spoilt / "HEAD").write_text("nonsense")
        assert await absent_copies(two.app) == ["lake"]


async def test_one_disk_is_enough(office: Office, tmp_path: Path) -> None:
    async with worker(office, tmp_path) as one, worker(office, tmp_path) as two:
        await office.send("Ann", ["Bob"])
        await one.archive()
        assert await absent_copies(two.app) == []


@pytest.mark.parametrize(
    "settings", [Settings(), CLUSTER.model_copy(update={"archive_remote": SecretStr("file:///x")})]
)
async def test_who_is_alone_or_has_a_remote_shares_nothing(office: Office, tmp_path: Path, settings: Settings) -> None:
    async with worker(office, tmp_path / "one") as one, worker(office, tmp_path / "two", settings) as two:
        await office.send("Ann", ["Bob"])
        await one.archive()
        assert await absent_copies(two.app) == []


async def test_who_makes_an_archive_anew_says_why_it_had_to(
    office: Office, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(office, tmp_path / "one") as one, worker(office, tmp_path / "two") as two:
        await office.send("Ann", ["Bob"])
        await one.archive()
        with caplog.at_level(logging.WARNING):
            await two.archive()
    assert [record.getMessage().endswith(SHARE_IT) for record in caplog.records] == [True]
