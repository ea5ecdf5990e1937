"""A short run against the archive: what is sent is archived once while those who archive fail."""

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest

from loadtests.archive_outcome import fault_table
from loadtests.archive_run import ArchivePlan, run
from loadtests.disks import NoSmallDisk, small_disk
from loadtests.trial import LEAST_SHARE, Happened
from tests.e2e.serving import agent_mail

LEASE = 2.0
SHORT_LEASE = f"""
from datetime import timedelta
from agent_mail_core import job_runner, jobs
jobs.LEASE = job_runner.LEASE = timedelta(seconds={LEASE})
"""
FAULTS = ("kill-job-worker", "flush-redis", "fill-disk", "pause-job-worker", "restart-redis", "kill-job-worker")
SHORT = ArchivePlan(
    messages=300,
    projects=3,
    seconds=6,
    workers=2,
    disk_megabytes=32,
    patience=60,
    lease=LEASE,
    job_command=(sys.executable, "-c", SHORT_LEASE + agent_mail()[2], "worker"),
)


def possible(*faults: str) -> tuple[str, ...]:
    """Without what this machine forbids: a container may not let anybody mount a file system, not even a small one."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder), 1):
                return faults
        except NoSmallDisk:
            return tuple(fault for fault in faults if fault != "fill-disk")


@pytest.mark.postgres
@pytest.mark.valkey
@pytest.mark.timeout(200)
@pytest.mark.parametrize("has_own_disks", [False, True], ids=["one disk", "own disks"])
def test_each_event_is_archived_once_whatever_fails(has_own_disks: bool) -> None:
    faults = possible(*(FAULTS[:3] if has_own_disks else FAULTS))
    plan = ArchivePlan(**{**vars(SHORT), "faults": faults, "has_own_disks": has_own_disks})
    outcome = run(plan)
    assert outcome.verdict.is_clean, outcome.verdict
    assert [each.fault for each in outcome.happened] == list(faults)
    assert_spread(outcome.happened, plan.messages)
    assert sum(project.acknowledged for project in outcome.projects) >= plan.messages
    assert all(project.commits > 1 and project.events > project.acknowledged for project in outcome.projects)


def assert_spread(happened: list[Happened], messages: int) -> None:
    """The faults cover the sending, however long that and they took: each began at its share of the messages."""
    share = messages / (len(happened) + 0.5)
    assert all(each.done >= share * (index + 0.2) for index, each in enumerate(happened)), happened
    assert all(later.done - each.done >= share * LEAST_SHARE for each, later in pairwise(happened)), happened
    assert all(f"| {each.done:,.0f} " in fault_table(happened) for each in happened)
