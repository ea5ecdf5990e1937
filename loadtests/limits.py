"""`python -m loadtests.limits`: are 95 to 105 % of a rate limit granted in any window, over all workers, under demand?

For each budget it starts a cluster, asks three times what the limit allows, more of one worker than of another, and
counts what was granted. When a grant was counted is known only to lie between the request and its answer: for the upper
bound a window holds the grants that certainly fell into it, for the lower one those that possibly did.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from agent_mail_core.limits import Budget, parse_budget
from bench.connection import Connection, get, post
from loadtests.cluster import TOKEN, Cluster, running_cluster

RESULTS = Path(__file__).parent / "results"
BUDGETS = {"reads": "100/minute", "writes": "1000/minute", "team": "6000/minute"}
OUT_OF_REACH = "1000000/minute"
DEMAND = 3.0
"""Times the limit."""
STEPS = 1000
"""Windows that are looked at: their beginnings are spread evenly over the time that there is."""
TOO_LATE = 1 / 20
"""Part of a window that a request may be sent late; after that the window says nothing about the limit from below."""
AGENTS = 10
CONNECTIONS = 10
"""To each worker."""
PROJECT = {"project_slug": "limits"}


@dataclass(frozen=True)
class Asked:
    """A request and how it was answered; times in seconds."""

    due: float
    sent: float
    answered: float
    worker: int
    is_granted: bool


@dataclass(frozen=True)
class Granted:
    """What came of one budget. Shares of the limit."""

    budget: str
    rate: str
    workers: int
    requests: int
    grants: int
    by_worker: list[int]
    least: float
    """Granted at most in the worst window: those that possibly fell into it."""
    most: float
    """Granted at least in the worst window: those that certainly did."""
    windows: int
    """That the lower bound was looked for in."""

    @property
    def holds(self) -> bool:
        """Whether it is what SPEC §6 says."""
        return self.windows > STEPS // 2 and self.least >= 0.95 and self.most <= 1.05

    def line(self) -> str:
        """For people."""
        by_worker = " + ".join(str(count) for count in self.by_worker)
        return (
            f"{self.budget} {self.rate}, {self.workers} workers: {self.least:.1%} to {self.most:.1%} in any window"
            f" ({self.grants:,} of {self.requests:,} requests granted: {by_worker};"
            f" {self.windows:,} of {STEPS:,} windows under demand)"
        )


def main() -> int:
    """Measure the budgets of the command line; 1 when one is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m loadtests.limits")
    parser.add_argument("--workers", type=int, default=3, help="server processes (3)")
    parser.add_argument("--windows", type=float, default=2.1, help="how long to ask, in windows of the limit (2.1)")
    parser.add_argument("--output", type=Path, default=RESULTS / "limits.json", help="the file of results")
    parser.add_argument("budgets", nargs="*", help="such as reads=100/minute; " + ", ".join(BUDGETS))
    given = parser.parse_args()
    chosen = dict(word.split("=", 1) for word in given.budgets) or BUDGETS
    if unknown := [name for name in chosen if name not in BUDGETS]:
        parser.error(f"no budget {unknown[0]!r}; there are {', '.join(BUDGETS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cluster too, as Ctrl-C does
    found = []
    for name, rate in chosen.items():
        found.append(measure(name, rate, given.workers, given.windows))
        print(found[-1].line(), flush=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")
    return 0 if all(each.holds for each in found) else 1


def measure(name: str, rate: str, workers: int, windows: float) -> Granted:
    """Ask for so many windows on a new cluster, and count."""
    rates = {each: rate if each == name else OUT_OF_REACH for each in BUDGETS}
    settings = {f"RATE_LIMIT_{each.upper()}": value for each, value in rates.items()}
    budget = parse_budget(name, rate)
    with running_cluster(workers, settings=settings) as cluster:
        asked = uvloop.run(_ask(cluster, budget, windows))
    return count(budget, rate, workers, asked)


async def _ask(cluster: Cluster, budget: Budget, windows: float) -> list[Asked]:
    await cluster.ready()
    asked: list[Asked] = []
    # Connections are opened before the first window: what is late in it is missing in all that follow.
    pools = [[Connection(worker.port, TOKEN) for _ in range(CONNECTIONS)] for worker in cluster.workers]
    await asyncio.gather(*(_must(connection, get("/ready")) for pool in pools for connection in pool))
    await _furnish(pools[0][0])
    shares = [1.0] * len(pools)
    shares[0], shares[-1] = 1.5, 0.5
    begun = time.monotonic()
    end = begun + windows * budget.window_seconds
    async with asyncio.TaskGroup() as group:
        for worker, (pool, share) in enumerate(zip(pools, shares, strict=True)):
            rate = DEMAND * budget.limit / budget.window_seconds * share / len(shares)
            turns = itertools.count(begun, 1 / rate)
            for connection in pool:
                group.create_task(_demand(connection, worker, budget.name, turns, end, asked))
    for connection in itertools.chain(*pools):
        connection.abort()
    await asyncio.sleep(0)  # the loop lets them go
    return asked


async def _demand(
    connection: Connection, worker: int, name: str, turns: Iterator[float], end: float, asked: list[Asked]
) -> None:
    """Take the worker's next turn again and again, whatever it answers."""
    for number, due in enumerate(turns):
        if due > end:
            return
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        if name == "writes":
            request = post("/api/agent/update", {**PROJECT, "agent_name": "Agent0", "task_description": str(number)})
        else:
            agent = f"Agent{number % AGENTS if name == 'team' else 0}"
            request = get("/api/inbox", **PROJECT, agent_name=agent)
        status, body = await connection.exchange(request)
        if status not in (200, 429):
            raise RuntimeError(f"worker {worker + 1} answered {status}: {body[:300]!r}")
        asked.append(Asked(due, sent, time.monotonic(), worker, status == 200))


async def _furnish(connection: Connection) -> None:
    """A project and agents. Registering names no acting agent: it counts elsewhere than their calls."""
    await _must(connection, post("/api/project/ensure", {"human_key": "limits", "slug": "limits"}))
    for number in range(AGENTS):
        agent = {**PROJECT, "name": f"Agent{number}", "program": "loadtests", "model": "none"}
        await _must(connection, post("/api/agent/register", agent))


async def _must(connection: Connection, request: bytes) -> None:
    status, body = await connection.exchange(request)
    if status != 200:
        raise RuntimeError(f"answered {status}: {body[:300]!r}")


def count(budget: Budget, rate: str, workers: int, asked: Sequence[Asked]) -> Granted:
    """The worst windows of all."""
    window, limit = float(budget.window_seconds), budget.limit
    granted = [each for each in asked if each.is_granted]
    begins, ends = sorted(each.sent for each in granted), sorted(each.answered for each in granted)
    late = sorted(each.sent for each in asked if each.sent - each.due > window * TOO_LATE)
    first, last = min(each.due for each in asked), max(each.sent for each in asked)
    least, most, judged = float("inf"), 0, 0
    for step in range(STEPS):
        start = first + (last - window - first) * step / STEPS
        end = start + window
        most = max(most, sum(start <= each.sent and each.answered < end for each in granted))
        if bisect_left(late, start) == bisect_left(late, end):
            judged += 1
            least = min(least, bisect_left(begins, end) - bisect_left(ends, start))
    by_worker = [sum(each.worker == number for each in granted) for number in range(workers)]
    return Granted(budget.name, rate, workers, len(asked), len(granted), by_worker, least / limit, most / limit, judged)


if __name__ == "__main__":
    sys.exit(main())
