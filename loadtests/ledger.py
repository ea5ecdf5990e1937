"""`python -m loadtests.ledger`: does a cluster keep what it acknowledges, once and in order, while its parts fail?

Each round is a project of its own: writers number their messages, readers follow cursors, and every fault of the list
happens once, in an order drawn anew. Then everything is read back and judged; in the end all rounds are read back once
more, after a crash of PostgreSQL. Exit code 1 when anything was lost, doubled, out of order, or else not as promised.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loadtests import trial
from loadtests.cluster import Cluster, running_cluster
from loadtests.correspondence import Correspondence
from loadtests.faults import FAULTS
from loadtests.rounds import Round, fault_table, measure, report, table
from loadtests.trial import Happened, Trial, Work, say
from loadtests.verdict import Verdict, judge

PATIENCE = 10.0
"""Seconds for an answer to what is read back; a writer has less."""
REPLAYS = 200
"""Entries that are sent once more after a round, of those whose first answer was clear; of the others all are."""


@dataclass(frozen=True)
class Plan(Trial):
    """What to do. The seconds are those of a round, at least: it lasts until every fault has happened."""

    faults: tuple[str, ...] = tuple(FAULTS)
    rounds: int = 10
    writers: int = 8
    readers: int = 6
    rate: float = 20
    """Messages a second of one writer, at most."""
    command: tuple[str, ...] | None = None
    """Instead of `agent-mail serve`: for tests of the ledger itself."""


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
    trial.write(path, {"plan": asdict(plan), "rounds": [asdict(r) for r in rounds], "final": asdict(final)})
    return 0 if total.is_clean else 1


def read_arguments() -> tuple[Plan, Path]:
    """The plan, and the file of results."""
    standard = Plan()
    parser = trial.parser("ledger", "A durability check.", standard, FAULTS, "ledger.json")
    parser.add_argument("--rounds", type=int, default=standard.rounds)
    parser.add_argument("--writers", type=int, default=standard.writers)
    parser.add_argument("--readers", type=int, default=standard.readers)
    parser.add_argument("--rate", type=float, default=standard.rate, help="messages a second of one writer, at most")
    given, path = trial.read(parser, FAULTS)
    return Plan(**given), path


# --- running ----------------------------------------------------------------------------------------------------------


def run(plan: Plan) -> tuple[list[Round], Verdict]:
    """All rounds, and the verdict of the last read-back over all of them."""
    with running_cluster(plan.workers, plan.command) as cluster:
        return asyncio.run(_run(plan, cluster))


async def _run(plan: Plan, cluster: Cluster) -> tuple[list[Round], Verdict]:
    async with trial.post_office(plan, cluster, PATIENCE) as post:
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
            happened = await _hurt(plan, cluster, begun, number)
            writers_stop.set()
        seconds = time.monotonic() - begun
        readers_stop.set()
    attempts = [replace(each, begun=each.begun - begun, ended=each.ended - begun) for each in correspondence.attempts]
    ends = [*(fault.begun for fault in happened[1:]), seconds]
    events = [measure(fault, until, attempts, plan.workers) for fault, until in zip(happened, ends, strict=False)]
    verdict = await read_back(correspondence)
    again = [e for e in correspondence.entries if e.message_id is not None and e.attempts > 1]
    clear = [e for e in correspondence.entries if e.message_id is not None and e.attempts == 1]
    again += random.Random(plan.seed).sample(clear, min(REPLAYS, len(clear)))
    verdict.add("unreplayed", await correspondence.replay(again), f"of {len(again)} keys")
    if again:
        verdict = verdict + await read_back(correspondence)
    return report(number, seconds, correspondence, events, verdict)


async def _hurt(plan: Plan, cluster: Cluster, begun: float, number: int) -> list[Happened]:
    """Every fault once, spread over the round; return at its end."""
    chance = random.Random(f"{plan.seed} {number}")
    order = chance.sample(plan.faults, len(plan.faults))
    work = Work(plan.seconds, "s", lambda: time.monotonic() - begun)
    happened = await trial.hurt(cluster, work, FAULTS, order, chance)
    rest = begun + plan.seconds - time.monotonic()
    await asyncio.sleep(max(2.0 if order else 0.0, rest))
    return happened


async def read_back(correspondence: Correspondence) -> Verdict:
    """Read everything and judge it."""
    inboxes = {name: await correspondence.inbox(name) for name in correspondence.readers}
    outboxes = {name: await correspondence.outbox(name) for name in correspondence.writers}
    return judge(correspondence.entries, inboxes, outboxes, correspondence.followed)


if __name__ == "__main__":
    sys.exit(main())
