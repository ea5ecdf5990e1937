"""A trial: parts of a cluster fail, one after the other, while it works; then what came of the work is judged.

What `ledger` and `archive_run` share: the common part of their plans and arguments, the way to the cluster, when each
fault happens, and how results are told. The work and the verdict on it are each one's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_mail_client.client import MailClient
from loadtests.cluster import TOKEN, Cluster
from loadtests.correspondence import Post
from loadtests.faults import Fault

RESULTS = Path(__file__).parent / "results"
LOOK_SECONDS = 0.05
LEAST_SECONDS = 0.5
"""From the end of a fault to the next one."""
LEAST_SHARE = 0.2
"""Of the work that is between two faults on average: so much is done after one, however long it lasted."""
STALL_SECONDS = 120.0
"""Longer than a writer tries to send one message."""


class Stalled(Exception):
    """The work does not go on; says where it stands."""


@dataclass(frozen=True)
class Trial:
    """What every plan says."""

    seconds: float = 60
    """That the work takes as planned."""
    workers: int = 3
    """Servers."""
    faults: tuple[str, ...] = ()
    seed: int = 1


@dataclass(frozen=True)
class Happened:
    """A fault. Times in seconds since the work began."""

    fault: str
    part: str
    """That it hit, or what came of it."""
    begun: float
    ended: float
    done: float
    """So much of the work, when it began."""


@dataclass(frozen=True)
class Work:
    """What goes on while parts fail."""

    whole: float
    """As planned; there may be more."""
    unit: str
    done: Callable[[], float]

    async def reach(self, amount: float) -> None:
        """Return once so much is done. Raises Stalled when nothing more of it comes to be done."""
        best, deadline = self.done(), time.monotonic() + STALL_SECONDS
        while (done := self.done()) < amount:
            if done > best:
                best, deadline = done, time.monotonic() + STALL_SECONDS
            elif time.monotonic() > deadline:
                raise Stalled(f"{done:,.1f} of {self.whole:,.0f} {self.unit}, and no more in {STALL_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)


async def hurt(
    cluster: Cluster, work: Work, known: Mapping[str, Fault], order: Sequence[str], chance: random.Random
) -> list[Happened]:
    """Each fault of `order` in its turn, spread over all of the work at whatever speed that goes on."""
    begun, happened, share = time.monotonic(), [], work.whole / (len(order) + 0.5)
    least = 0.0
    for index, name in enumerate(order):
        due = share * (index + chance.uniform(0.2, 0.8))
        await asyncio.sleep(LEAST_SECONDS)
        await work.reach(max(due, least))
        done, fault_begun = work.done(), time.monotonic()
        part = await known[name](cluster, chance)
        ended = time.monotonic()
        happened.append(Happened(name, part, fault_begun - begun, ended - begun, done))
        say(f"  {done:7,.0f} {work.unit}  {name}: {part}, {ended - fault_begun:.1f} s")
        least = work.done() + share * LEAST_SHARE
    return happened


@asynccontextmanager
async def post_office(plan: Trial, cluster: Cluster, patience: float) -> AsyncIterator[Post]:
    """The way to a cluster once all of it is ready, with so many seconds for an answer."""
    await cluster.ready()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(MailClient(worker.url, token=TOKEN, timeout=patience))
            for worker in cluster.workers
        ]
        for client in clients:
            await client.operations()
        yield Post(clients, random.Random(plan.seed))


# --- the command line -------------------------------------------------------------------------------------------------


def parser(
    program: str, description: str, standard: Trial, known: Iterable[str], results: str
) -> argparse.ArgumentParser:
    """Takes what every plan says, and the file of results."""
    made = argparse.ArgumentParser(description=description, prog=f"python -m loadtests.{program}")
    made.add_argument("--seconds", type=float, default=standard.seconds, help=f"of sending ({standard.seconds:g})")
    made.add_argument("--workers", type=int, default=standard.workers, help=f"servers ({standard.workers})")
    faults = f"comma-separated, empty for none ({','.join(standard.faults)}); of {', '.join(known)}"
    made.add_argument("--faults", default=",".join(standard.faults), help=faults)
    made.add_argument("--seed", type=int, default=standard.seed, help="of who is hurt, and so on")
    made.add_argument("--output", type=Path, default=RESULTS / results, help="the file of results")
    return made


def read(parser: argparse.ArgumentParser, known: Iterable[str]) -> tuple[dict[str, Any], Path]:
    """The fields of the plan, and the file of results."""
    given = vars(parser.parse_args())
    path: Path = given.pop("output")
    given["faults"] = tuple(name for name in given["faults"].split(",") if name)
    if unknown := [name for name in given["faults"] if name not in known]:
        parser.error(f"no fault {unknown[0]!r}; there are {', '.join(known)}")
    return given, path


# --- telling ----------------------------------------------------------------------------------------------------------


def write(path: Path, whole: Mapping[str, Any]) -> None:
    """The file of results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"Written to {path}")


def markdown(lines: Sequence[Sequence[Any]]) -> str:
    """A table; the first line is its head."""
    texts = [[str(cell) for cell in line] for line in lines]
    widths = [max(len(line[n]) for line in texts) for n in range(len(texts[0]))]
    rows = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in texts]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)


def say(line: str) -> None:
    """Progress, beside the tables."""
    print(line, file=sys.stderr, flush=True)
