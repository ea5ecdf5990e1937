"""`python -m loadtests.archive_run`: is each event archived exactly once while those who archive fail?

Writers send into several projects while job workers are killed and paused, Redis forgets and goes away, and the disk
of the archives fills up. Then the archives have some time to catch up, and are compared with the database and with
what was sent. Exit code 1 when anything is missing, doubled or damaged, or a send failed.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from agent_mail_core.jobs import LEASE
from loadtests import trial
from loadtests.archive_faults import archive_faults, undone
from loadtests.archive_mail import PATIENCE, Mail
from loadtests.archive_outcome import Outcome, Project, report
from loadtests.archive_reading import behind, dead_jobs, read_archive, repositories, stored_events, verified
from loadtests.archive_verdict import Archived, judge_archive
from loadtests.cluster import Cluster, running_cluster
from loadtests.correspondence import Post
from loadtests.disks import Disk, NoSmallDisk, plain_disk, small_disk
from loadtests.trial import Happened, Trial, Work, say

DEFAULT_FAULTS = (
    *("kill-job-worker", "flush-redis", "fill-disk", "kill-job-worker", "pause-job-worker", "restart-redis"),
    *("fill-disk", "stop-job-worker", "kill-job-worker", "pause-redis"),
)


@dataclass(frozen=True)
class ArchivePlan(Trial):
    """What to do."""

    faults: tuple[str, ...] = DEFAULT_FAULTS
    """In this order, one after the other."""
    messages: int = 20_000
    """At least: it goes on until every fault has happened."""
    projects: int = 10
    writers: int = 2
    """In each project."""
    readers: int = 2
    job_workers: int = 2
    has_own_disks: bool = False
    """Each job worker has a disk of its own, and a remote is the archives' home; else they share one disk."""
    disk_megabytes: int = 1024
    patience: float = 120
    """Seconds that the archives have to catch up, after the last fault and the last message."""
    lease: float = LEASE.total_seconds()
    """Of the job workers: a paused one loses it."""
    job_command: tuple[str, ...] | None = None
    """Instead of `agent-mail worker`: for tests."""


def main() -> int:
    """Run the plan of the command line."""
    plan, path = read_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cluster too, as Ctrl-C does
    try:
        outcome = run(plan)
    except NoSmallDisk as error:
        print(f"No file system can be mounted here ({error}): leave out the fault fill-disk", file=sys.stderr)
        return 2
    print(report(outcome))
    trial.write(path, {"plan": asdict(plan), **asdict(outcome)})
    return 0 if outcome.verdict.is_clean else 1


def read_arguments() -> tuple[ArchivePlan, Path]:
    """The plan, and the file of results."""
    standard, known = ArchivePlan(), archive_faults()
    parser = trial.parser("archive_run", __doc__, standard, known, "archive.json")
    parser.add_argument("--messages", type=int, default=standard.messages, help="to send, at least (20,000)")
    parser.add_argument("--projects", type=int, default=standard.projects)
    parser.add_argument("--job-workers", type=int, default=standard.job_workers)
    parser.add_argument("--own-disks", action="store_true", dest="has_own_disks", help="and a remote, not one disk")
    parser.add_argument("--disk-megabytes", type=int, default=standard.disk_megabytes, help="of memory, for each disk")
    parser.add_argument("--patience", type=float, default=standard.patience, help="seconds to catch up (120)")
    given, path = trial.read(parser, known)
    return ArchivePlan(**given), path


# --- running ----------------------------------------------------------------------------------------------------------


def run(plan: ArchivePlan) -> Outcome:
    """Make the cluster, hurt it, judge."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-mail-archives-")))
        count = plan.job_workers if plan.has_own_disks else 1
        disks = [stack.enter_context(_disk(plan, folder / f"disk-{number}")) for number in range(1, count + 1)]
        home = plain_disk(folder / "remote") if plan.has_own_disks else disks[0]
        settings = {"ARCHIVE_REMOTE": f"file://{home.folder}"} if plan.has_own_disks else {}
        job_disks = disks if plan.has_own_disks else disks * plan.job_workers
        with running_cluster(plan.workers, None, settings, job_disks, plan.job_command) as cluster:
            return asyncio.run(_run(plan, cluster, home))


@contextmanager
def _disk(plan: ArchivePlan, folder: Path) -> Iterator[Disk]:
    folder.mkdir()
    if "fill-disk" in plan.faults:
        with small_disk(folder, plan.disk_megabytes) as disk:
            yield disk
    else:
        yield plain_disk(folder)


async def _run(plan: ArchivePlan, cluster: Cluster, home: Disk) -> Outcome:
    async with trial.post_office(plan, cluster, PATIENCE) as post:
        mails = _mails(plan, post)
        for mail in mails:
            await mail.join()
        disks = f"{len(cluster.disks)} disks and a remote" if plan.has_own_disks else "one disk"
        say(f"{plan.workers} servers, {plan.job_workers} job workers, {disks}: {', '.join(plan.faults) or 'no fault'}")
        begun = time.monotonic()
        happened = await _correspond(plan, cluster, mails)
        sent = time.monotonic()
        say(f"{sum(mail.acknowledged for mail in mails):,} messages sent in {sent - begun:.1f} s")
        late = await _catch_up(plan, cluster, [mail.project for mail in mails])
        outcome = Outcome(
            sending_seconds=sent - begun,
            catch_up_seconds=time.monotonic() - sent,
            attempts=sum(len(mail.attempts) for mail in mails),
            unclear=dict(sum((mail.unclear() for mail in mails), Counter())),
            undone=dict(undone(cluster)),
            happened=happened,
            projects=await _judged(cluster, home, mails),
        )
    outcome.judge(late, dead_jobs(cluster))
    if plan.has_own_disks:
        await _judge_copies(outcome, cluster)
    return outcome


def _mails(plan: ArchivePlan, post: Post) -> list[Mail]:
    rate = plan.messages / plan.seconds / plan.projects / plan.writers
    return [
        Mail(
            f"archive-{number}",
            post,
            [f"Writer{n}" for n in range(1, plan.writers + 1)],
            [f"Reader{n}" for n in range(1, plan.readers + 1)],
            rate,
        )
        for number in range(1, plan.projects + 1)
    ]


async def _correspond(plan: ArchivePlan, cluster: Cluster, mails: list[Mail]) -> list[Happened]:
    """Write and read until there are enough messages and every fault has happened."""
    work = Work(plan.messages, "messages", lambda: sum(mail.acknowledged for mail in mails))
    chance = random.Random(f"faults {plan.seed}")
    writers_stop, readers_stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as readers:
        for mail in mails:
            for name in mail.readers:
                readers.create_task(mail.read(name, readers_stop))
        async with asyncio.TaskGroup() as writers:
            for mail in mails:
                for name in mail.writers:
                    writers.create_task(mail.write(name, writers_stop))
            happened = await trial.hurt(cluster, work, archive_faults(plan.lease), plan.faults, chance)
            await work.reach(plan.messages)
            writers_stop.set()
        readers_stop.set()
    return happened


async def _catch_up(plan: ArchivePlan, cluster: Cluster, slugs: list[str]) -> list[str]:
    """Wait until everything is archived; the projects that are not when patience is over."""
    deadline = time.monotonic() + plan.patience
    while True:
        late = await asyncio.to_thread(behind, cluster, slugs, plan.has_own_disks)
        if not late or time.monotonic() > deadline:
            return late
        await asyncio.sleep(0.2)


# --- judging ----------------------------------------------------------------------------------------------------------


async def _judged(cluster: Cluster, home: Disk, mails: list[Mail]) -> list[Project]:
    differences = await verified(cluster, home)
    projects = []
    for mail in mails:
        found = repositories(home, mail.project)
        archived = await read_archive(home, found[0]) if found else Archived(faults="there is no repository")
        stored = stored_events(cluster, mail.project)
        differing = differences.get(mail.project, ["it has no archive"])
        verdict = judge_archive(mail.project, archived, stored, mail.entries, differing)
        projects.append(Project(mail.project, mail.acknowledged, len(stored), len(archived.counts), verdict))
    return projects


async def _judge_copies(outcome: Outcome, cluster: Cluster) -> None:
    """The job workers' own copies may be behind the remote, and never damaged."""
    for disk in cluster.disks:
        for repository in repositories(disk):
            faults = (await read_archive(disk, repository)).faults
            outcome.verdict.add("broken", bool(faults), f"{repository}: {faults[:500]}")


if __name__ == "__main__":
    sys.exit(main())
