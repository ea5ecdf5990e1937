"""The ledger's rounds: what each fault did to the writers, the figures of each round, and the tables of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtests.correspondence import Attempt, Correspondence
from loadtests.trial import Happened, markdown, say
from loadtests.verdict import Verdict


@dataclass(frozen=True)
class Event(Happened):
    """A fault that happened, with what it did to the writers until the next one began."""

    attempts: int
    unclear: dict[str, int]
    longest_silence: float
    """The longest time without any acknowledgement."""
    recovery: float | None
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


def measure(fault: Happened, until: float, attempts: Sequence[Attempt], workers: int) -> Event:
    """What a fault did to the writers between its begin and `until`; attempts are timed as faults are."""
    within = [attempt for attempt in attempts if fault.begun <= attempt.ended <= until]
    acknowledged = sorted(attempt.ended for attempt in within if not attempt.outcome)
    times = [fault.begun, *acknowledged, until]
    first: dict[int, float] = {}
    for attempt in attempts:  # the next fault may begin before each worker has had its turn
        if not attempt.outcome and attempt.begun >= fault.ended:
            first[attempt.worker] = min(attempt.ended, first.get(attempt.worker, attempt.ended))
    return Event(
        **vars(fault),
        attempts=len(within),
        unclear=dict(Counter(attempt.outcome for attempt in within if attempt.outcome not in ("", "haste"))),
        longest_silence=max(b - a for a, b in pairwise(times)),
        recovery=max(first.values()) - fault.ended if len(first) == workers else None,
    )


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
