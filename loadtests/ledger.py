"""`python -m loadtests.ledger`: does a cluster keep what it acknowledges, once and in order, while its parts fail?

Each round is a project of its own: writers number their messages, readers follow cursors, and every fault of the list
happens once, in an order drawn anew. Then everything is read back and judged; in the end all rounds are read back once
more, after a crash of PostgreSQL. Exit code 1 when anything was lost, doubled, out of order, or else not as promised.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent_mail_client.client import MailClient
from loadtests.cluster import TOKEN, Cluster, running_cluster
from loadtests.correspondence import Attempt, Correspondence, Post
from loadtests.faults import FAULTS
from loadtests.verdict import Verdict, judge

RESULTS = Path(__file__).parent / "results"
REPLAYS = 200
"""Entries that are sent once more after a round, of those whose first answer was clear; of the others all are."""


@dataclass(frozen=True)
class Plan:
    """What to do."""

    rounds: int = 10
    seconds: float = 60
    """Of a round, at least: it lasts until every fault has happened."""
    writers: int = 8
    readers: int = 6
    workers: int = 3
    rate: float = 20
    """Messages a second of one writer, at most."""
    faults: tuple[str, ...] = tuple(FAULTS)
    seed: int = 1
    command: tuple[str, ...] | None = None
    """Instead of `agent-mail serve`: for tests of the ledger itself."""


@dataclass
class Event:
    """A fault that happened, with what it did to the writers until the next one began. Times in seconds."""

    fault: str
    part: str
    begun: float
    ended: float
    attempts: int = 0
    unclear: dict[str, int] = field(default_factory=dict)
    longest_silence: float = 0.0
    """The longest time without any acknowledgement."""
    recovery: float | None = None
    """From the end of the fault until every worker had acknowledged something; None when one never did again."""


@dataclass
class Round:
    """What came of one round."""

    number: int
    seconds: float
    messages: int
    acknowledged: int
    deliveries: int
    retried: int
    replayed: int
    attempts: int
    delay_p50: float
    delay_p99: float
    """Milliseconds from acknowledgement to a reader that has it."""
    events: list[Event]
    verdict: Verdict


def main() -> int:
    """Run the plan of the command line."""
    plan, path = read_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cluster too, as Ctrl-C does
    rounds, final = run(plan)
    print(table(rounds))
    print("\n" + fault_table(rounds))
    total = final
    for each in rounds:
        total = total + each.verdict
    for sample in total.samples[:20]:
        print(f"- {sample}")
    counts = ", ".join(f"{name} {count}" for name, count in total.counts().items())
    print(f"\nAll rounds, read back again after a crash of PostgreSQL: {'clean' if final.is_clean else 'NOT clean'}")
    print(f"{'Nothing lost' if total.is_clean else 'FAILED'}: {counts}")
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"plan": asdict(plan), "rounds": [asdict(r) for r in rounds], "final": asdict(final)}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"Written to {path}")
    return 0 if total.is_clean else 1


def read_arguments() -> tuple[Plan, Path]:
    """The plan, and the file of results."""
    standard = Plan()
    parser = argparse.ArgumentParser(description="A durability check.", prog="python -m loadtests.ledger")
    parser.add_argument("--rounds", type=int, default=standard.rounds)
    parser.add_argument("--seconds", type=float, default=standard.seconds, help="of a round, at least")
    parser.add_argument("--writers", type=int, default=standard.writers)
    parser.add_argument("--readers", type=int, default=standard.readers)
    parser.add_argument("--workers", type=int, default=standard.workers)
    parser.add_argument("--rate", type=float, default=standard.rate, help="messages a second of one writer, at most")
    parser.add_argument("--faults", default=",".join(FAULTS), help="comma-separated; empty for none (all)")
    parser.add_argument("--seed", type=int, default=standard.seed, help="of the order of faults and so on")
    parser.add_argument("--output", type=Path, default=RESULTS / "ledger.json", help="the file of results")
    given = vars(parser.parse_args())
    path: Path = given.pop("output")
    given["faults"] = tuple(name for name in given["faults"].split(",") if name)
    if unknown := [name for name in given["faults"] if name not in FAULTS]:
        parser.error(f"no fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
    return Plan(**given), path


# --- running ----------------------------------------------------------------------------------------------------------


def run(plan: Plan) -> tuple[list[Round], Verdict]:
    """All rounds, and the verdict of the last read-back over all of them."""
    with running_cluster(plan.workers, plan.command) as cluster:
        return asyncio.run(_run(plan, cluster))


async def _run(plan: Plan, cluster: Cluster) -> tuple[list[Round], Verdict]:
    await cluster.ready()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(MailClient(worker.url, token=TOKEN, timeout=10))
            for worker in cluster.workers
        ]
        for client in clients:
            await client.operations()
        post = Post(clients, random.Random(plan.seed))
        say(f"{plan.workers} workers, {plan.writers} writers, {plan.readers} readers: {', '.join(plan.faults) or '–'}")
        rounds, past = [], []
        for number in range(1, plan.rounds + 1):
            correspondence = Correspondence(
                f"ledger-{number}",
                post,
                [f"Writer{n}" for n in range(1, plan.writers + 1)],
                [f"Reader{n}" for n in range(1, plan.readers + 1)],
                plan.rate,
            )
            rounds.append(await _round(plan, cluster, correspondence, number))
            past.append(correspondence)
        final = Verdict()
        if "crash-postgres" in plan.faults:
            await FAULTS["crash-postgres"](cluster, random.Random(plan.seed))
        for correspondence in past:
            final = final + await read_back(correspondence)
        return rounds, final


async def _round(plan: Plan, cluster: Cluster, correspondence: Correspondence, number: int) -> Round:
    await correspondence.join()
    begun = time.monotonic()
    writers_stop, readers_stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as readers:
        for name in correspondence.readers:
            readers.create_task(correspondence.follow(name, readers_stop))
        async with asyncio.TaskGroup() as writers:
            for name in correspondence.writers:
                writers.create_task(correspondence.write(name, writers_stop))
            events = await _hurt(plan, cluster, begun, number)
            writers_stop.set()
        seconds = time.monotonic() - begun
        readers_stop.set()
    ends = [*(event.begun for event in events[1:]), begun + seconds]
    for event, until in zip(events, ends, strict=False):
        measure(event, until, correspondence.attempts, plan.workers)
    verdict = await read_back(correspondence)
    again = [e for e in correspondence.entries if e.message_id is not None and e.attempts > 1]
    clear = [e for e in correspondence.entries if e.message_id is not None and e.attempts == 1]
    again += random.Random(plan.seed).sample(clear, min(REPLAYS, len(clear)))
    verdict.add("unreplayed", await correspondence.replay(again), f"of {len(again)} keys")
    if again:
        verdict = verdict + await read_back(correspondence)
    return report(number, seconds, correspondence, events, verdict)


async def _hurt(plan: Plan, cluster: Cluster, begun: float, number: int) -> list[Event]:
    """Every fault once, spread over the round."""
    chance = random.Random(f"{plan.seed} {number}")
    order = chance.sample(plan.faults, len(plan.faults))
    events = []
    for index, name in enumerate(order):
        due = begun + plan.seconds * (index + chance.uniform(0.2, 0.8)) / (len(order) + 0.5)
        await asyncio.sleep(max(0.5, due - time.monotonic()))
        fault_begun = time.monotonic()
        part = await FAULTS[name](cluster, chance)
        events.append(Event(name, part, fault_begun, time.monotonic()))
        say(f"  {time.monotonic() - begun:5.1f} s  {name}: {part}, {time.monotonic() - fault_begun:.1f} s")
    rest = begun + plan.seconds - time.monotonic()
    await asyncio.sleep(max(2.0 if order else 0.0, rest))
    return events


async def read_back(correspondence: Correspondence) -> Verdict:
    """Read everything and judge it."""
    inboxes = {name: await correspondence.inbox(name) for name in correspondence.readers}
    outboxes = {name: await correspondence.outbox(name) for name in correspondence.writers}
    return judge(correspondence.entries, inboxes, outboxes, correspondence.followed)


def measure(event: Event, until: float, attempts: Sequence[Attempt], workers: int) -> None:
    """Fill in what a fault did to the writers between its begin and `until`."""
    within = [attempt for attempt in attempts if event.begun <= attempt.ended <= until]
    event.attempts = len(within)
    event.unclear = dict(Counter(attempt.outcome for attempt in within if attempt.outcome not in ("", "haste")))
    acknowledged = sorted(attempt.ended for attempt in within if not attempt.outcome)
    times = [event.begun, *acknowledged, until]
    event.longest_silence = max(b - a for a, b in pairwise(times))
    first: dict[int, float] = {}
    for attempt in attempts:  # the next fault may begin before each worker has had its turn
        if not attempt.outcome and attempt.begun >= event.ended:
            first[attempt.worker] = min(attempt.ended, first.get(attempt.worker, attempt.ended))
    event.recovery = max(first.values()) - event.ended if len(first) == workers else None


# --- telling ----------------------------------------------------------------------------------------------------------


def report(number: int, seconds: float, correspondence: Correspondence, events: list[Event], verdict: Verdict) -> Round:
    """The figures of a round, and a line about it."""
    entries = correspondence.entries
    delays = sorted(correspondence.delays) or [float("nan")]
    done = Round(
        number=number,
        seconds=round(seconds, 1),
        messages=len(entries),
        acknowledged=sum(entry.message_id is not None for entry in entries),
        deliveries=sum(len(entry.recipients) for entry in entries),
        retried=sum(entry.attempts > 1 for entry in entries),
        replayed=sum(entry.replayed for entry in entries),
        attempts=len(correspondence.attempts),
        delay_p50=delays[len(delays) // 2] * 1000,
        delay_p99=delays[len(delays) * 99 // 100] * 1000,
        events=events,
        verdict=verdict,
    )
    found = ", ".join(f"{name} {count}" for name, count in verdict.counts().items() if count) or "clean"
    say(f"round {number}: {done.acknowledged:,} of {done.messages:,} messages acknowledged, {found}")
    return done


def table(rounds: Sequence[Round]) -> str:
    """A line a round."""
    names = ("lost", "duplicated", "reordered", "skipped", "repeated")
    head = ("round", "s", "messages", "deliveries", "retried", "replays", "seen after ms p50 / p99", *names, "other")
    lines: list[tuple[object, ...]] = [head]
    for r in rounds:
        counts = r.verdict.counts()
        other = sum(count for name, count in counts.items() if name not in names)
        seen = f"{r.delay_p50:.0f} / {r.delay_p99:.0f}"
        figures = (f"{r.messages:,}", f"{r.deliveries:,}", r.retried, r.replayed, seen)
        lines.append((r.number, f"{r.seconds:.0f}", *figures, *(counts[name] for name in names), other))
    return markdown(lines)


def fault_table(rounds: Sequence[Round]) -> str:
    """A line a fault, over all rounds."""
    head = ("fault", "times", "unclear answers", "longest silence s", "all workers answer after s", "which answers")
    lines: list[tuple[object, ...]] = [head]
    events = [event for r in rounds for event in r.events]
    for name in dict.fromkeys(event.fault for event in events):
        these = [event for event in events if event.fault == name]
        kinds: Counter[str] = sum((Counter(event.unclear) for event in these), Counter())
        recoveries = [event.recovery for event in these]
        known = [recovery for recovery in recoveries if recovery is not None]
        after = f"{max(known):.2f}" if len(known) == len(recoveries) else f"never, {len(recoveries) - len(known)} times"
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4)) or "–"
        silence = max(event.longest_silence for event in these)
        lines.append((name, len(these), f"{kinds.total():,}", f"{silence:.2f}", after, told))
    return markdown(lines) if len(lines) > 1 else ""


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


if __name__ == "__main__":
    sys.exit(main())
