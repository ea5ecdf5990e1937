"""The verdict on a round: what writers were promised and readers saw, against all that is stored. Pure; no I/O.

    lost         acknowledged, and not in a recipient's inbox (or not in the sender's outbox)
    partial      never acknowledged, and in the inboxes of some of its recipients but not of all
    duplicated   more than once in an inbox or outbox, by key, or under several message ids
    reordered    a writer's message behind a later one of the same writer, in one inbox
    renumbered   stored under another message id than the acknowledgement named
    foreign      in an inbox without having been sent to it, or with other words than were sent
    miscounted   inboxes whose unread_count is not the number of messages in them
    inconsistent inboxes that show something else when they are read backward
    skipped      in an inbox, and never seen by the reader that followed its cursor
    repeated     seen again by such a reader
    disordered   seen by such a reader in another order than the inbox has
    unsettled    no clear answer within the writer's patience
    refused      answered with an error that is no reason to try again
    unreplayed   sent once more under its key after the round, and not answered as a replay of the same message

Whatever failed meanwhile, all of them ought to be 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Self


@dataclass(slots=True)
class Entry:
    """One numbered message, and what became of it."""

    writer: str
    counter: int
    key: str
    body: str
    recipients: tuple[str, ...]
    message_id: int | None = None
    """Of the acknowledgement; None while there is none."""
    attempts: int = 0
    replayed: bool = False
    """Whether the acknowledgement said that an earlier attempt had stored it."""
    refusal: str = ""
    acknowledged_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A message as a list showed it; the subject is its key."""

    message_id: int
    key: str
    body: str | None = None


@dataclass
class Box:
    """All of an inbox or outbox, oldest first."""

    messages: list[Seen]
    unread: int | None = None
    backward: list[int] | None = None
    """The message ids as pages from its end show them, oldest first."""


@dataclass
class Findings:
    """Counts, all of which ought to be 0, and some words about them."""

    samples: list[str] = field(default_factory=list)

    def add(self, what: str, count: int, example: str) -> None:
        """Count a finding."""
        if count:
            setattr(self, what, getattr(self, what) + count)
            if sum(sample.startswith(what) for sample in self.samples) < 3:
                self.samples.append(f"{what}: {example}")

    def counts(self) -> dict[str, int]:
        """By name, in the order of the class."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "samples"}

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.counts().values())

    def __add__(self, other: Self) -> Self:
        counts = {name: count + getattr(other, name) for name, count in self.counts().items()}
        return type(self)(samples=self.samples + other.samples, **counts)


@dataclass
class Verdict(Findings):
    """In the order of the explanation above."""

    lost: int = 0
    partial: int = 0
    duplicated: int = 0
    reordered: int = 0
    renumbered: int = 0
    foreign: int = 0
    miscounted: int = 0
    inconsistent: int = 0
    skipped: int = 0
    repeated: int = 0
    disordered: int = 0
    unsettled: int = 0
    refused: int = 0
    unreplayed: int = 0


def judge(
    entries: Iterable[Entry],
    inboxes: Mapping[str, Box],
    outboxes: Mapping[str, Box],
    followed: Mapping[str, Sequence[Seen]],
) -> Verdict:
    """Compare what was sent with every inbox and outbox, and with what their followers saw."""
    verdict = Verdict()
    by_key = {entry.key: entry for entry in entries}
    ids: defaultdict[str, set[int]] = defaultdict(set)
    for boxes in (inboxes, outboxes):
        for box in boxes.values():
            for seen in box.messages:
                ids[seen.key].add(seen.message_id)
    _judge_entries(verdict, by_key, ids, inboxes, outboxes)
    for name, box in inboxes.items():
        _judge_inbox(verdict, by_key, name, box)
        _judge_follower(verdict, name, box, followed.get(name, ()))
    for name, box in outboxes.items():
        _judge_order(verdict, by_key, f"the outbox of {name}", box)
    return verdict


def _judge_entries(
    verdict: Verdict,
    by_key: Mapping[str, Entry],
    ids: Mapping[str, set[int]],
    inboxes: Mapping[str, Box],
    outboxes: Mapping[str, Box],
) -> None:
    held = {name: {seen.key for seen in box.messages} for name, box in inboxes.items()}
    sent = {name: {seen.key for seen in box.messages} for name, box in outboxes.items()}
    for key, entry in by_key.items():
        missing = [name for name in entry.recipients if key not in held.get(name, ())]
        if entry.message_id is None:
            verdict.add("partial", 0 < len(missing) < len(entry.recipients), f"{key} not for {missing}")
            verdict.add("refused", bool(entry.refusal), f"{key}: {entry.refusal}")
            verdict.add("unsettled", not entry.refusal, f"{key} after {entry.attempts} attempts")
            continue
        verdict.add("lost", len(missing), f"{key} for {missing}")
        if entry.writer in sent:
            verdict.add("lost", key not in sent[entry.writer], f"{key} from the outbox of {entry.writer}")
        verdict.add("duplicated", max(0, len(ids.get(key, ())) - 1), f"{key} is {sorted(ids.get(key, ()))}")
        if ids.get(key):
            verdict.add("renumbered", entry.message_id not in ids[key], f"{key} is {ids[key]}, not {entry.message_id}")


def _judge_inbox(verdict: Verdict, by_key: Mapping[str, Entry], name: str, box: Box) -> None:
    for seen in box.messages:
        entry = by_key.get(seen.key)
        is_ours = entry is not None and name in entry.recipients and seen.body in (None, entry.body)
        verdict.add("foreign", not is_ours, f"{seen.key} ({seen.message_id}) in the inbox of {name}")
    if box.unread is not None:
        count = len(box.messages)
        verdict.add("miscounted", box.unread != count, f"{name} has {count} messages, {box.unread} unread")
    if box.backward is not None:
        forward = [seen.message_id for seen in box.messages]
        verdict.add("inconsistent", forward != box.backward, f"{name}: {len(forward)} and {len(box.backward)} messages")
    _judge_order(verdict, by_key, f"the inbox of {name}", box)


def _judge_order(verdict: Verdict, by_key: Mapping[str, Entry], place: str, box: Box) -> None:
    by_writer: defaultdict[str, list[int]] = defaultdict(list)
    for key, times in Counter(seen.key for seen in box.messages).items():
        verdict.add("duplicated", times - 1, f"{key} {times} times in {place}")
    for seen in box.messages:
        if (entry := by_key.get(seen.key)) is not None:
            by_writer[entry.writer].append(entry.counter)
    for writer, counters in by_writer.items():
        wrong = [(a, b) for a, b in pairwise(counters) if b < a]
        verdict.add("reordered", len(wrong), f"{writer}'s {wrong[:3]} in {place}")


def _judge_follower(verdict: Verdict, name: str, box: Box, followed: Sequence[Seen]) -> None:
    seen_ids = list(dict.fromkeys(seen.message_id for seen in followed))
    stored = list(dict.fromkeys(seen.message_id for seen in box.messages))
    known = set(stored)
    skipped = known.difference(seen_ids)
    verdict.add("skipped", len(skipped), f"{name} never saw {sorted(skipped)[:5]}")
    verdict.add("repeated", len(followed) - len(seen_ids), f"{name} saw messages again")
    unknown = [message_id for message_id in seen_ids if message_id not in known]
    verdict.add("lost", len(unknown), f"{name} saw {unknown[:5]}, which are gone")
    common = set(seen_ids) & known
    order = [message_id for message_id in seen_ids if message_id in common]
    wanted = [message_id for message_id in stored if message_id in common]
    wrong = sum(a != b for a, b in zip(order, wanted, strict=True))
    verdict.add("disordered", wrong, f"{name} saw {wrong} messages at another place")


def as_json(verdict: Verdict) -> dict[str, object]:
    """For the file of results."""
    return asdict(verdict)
