"""The verdict on archives: what senders were promised and the database holds, against git. Pure; no I/O.

    lost         acknowledged, and not in the archive under its id and subject
    unarchived   events of the database that the archive's lists do not have
    repeated     events that are twice in the lists, or that commits added twice
    invented     events in the archive that the database does not have
    rewritten    events that a commit removed or changed
    unaccounted  events in the lists that no commit added, or the reverse
    miscounted   commits whose count does not go on from the one before
    broken       repositories in which `git fsck --strict` finds a fault
    differing    differences that `agent-mail archive verify` finds
    late         projects that were not archived, or not pushed, when patience was over
    dead         jobs that were given up
    failed       answers to sends other than the acknowledgement, or 429 or 503, which say to come again
    refused      messages that were never acknowledged

Whatever failed meanwhile, all of them ought to be 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadtests.verdict import Entry, Findings


@dataclass
class Archived:
    """One project's repository, as git shows it."""

    events: list[int] = field(default_factory=list)
    """Ids in the lists of the last commit."""
    added: list[int] = field(default_factory=list)
    """Ids that commits added to the lists, oldest first."""
    removed: list[int] = field(default_factory=list)
    """Ids that commits took from them."""
    counts: list[tuple[int, int]] = field(default_factory=list)
    """Of each commit, oldest first: its events, and all up to there."""
    subjects: dict[int, str] = field(default_factory=dict)
    """Of the messages, by id."""
    faults: str = ""
    """What `git fsck` said."""


@dataclass
class ArchiveVerdict(Findings):
    """In the order of the explanation above."""

    lost: int = 0
    unarchived: int = 0
    repeated: int = 0
    invented: int = 0
    rewritten: int = 0
    unaccounted: int = 0
    miscounted: int = 0
    broken: int = 0
    differing: int = 0
    late: int = 0
    dead: int = 0
    failed: int = 0
    refused: int = 0


def judge_archive(
    project: str, archived: Archived, stored: Sequence[int], entries: Iterable[Entry], differences: Sequence[str]
) -> ArchiveVerdict:
    """Compare one project's repository with the ids of the events that the database has, and with what was sent."""
    verdict = ArchiveVerdict()
    listed, known = set(archived.events), set(stored)
    verdict.add("unarchived", len(known - listed), f"{project}: {sorted(known - listed)[:5]}")
    verdict.add("invented", len(listed - known), f"{project}: {sorted(listed - known)[:5]}")
    for ids in (archived.events, archived.added):
        twice = [event_id for event_id, times in Counter(ids).items() if times > 1]
        verdict.add("repeated", len(twice), f"{project}: {twice[:5]}")
    verdict.add("rewritten", len(archived.removed), f"{project}: {archived.removed[:5]}")
    apart = listed.symmetric_difference(archived.added)
    verdict.add("unaccounted", len(apart), f"{project}: {sorted(apart)[:5]}")
    _judge_counts(verdict, project, archived)
    verdict.add("broken", bool(archived.faults), f"{project}: {archived.faults[:500]}")
    verdict.add("differing", len(differences), f"{project}: {list(differences[:3])}")
    for entry in entries:
        if entry.message_id is None:
            verdict.add("refused", 1, f"{entry.key}: {entry.refusal or 'no clear answer'}")
        elif (found := archived.subjects.get(entry.message_id)) != entry.key:
            verdict.add("lost", 1, f"{entry.key}, message {entry.message_id}: the archive has {found!r}")
    return verdict


def _judge_counts(verdict: ArchiveVerdict, project: str, archived: Archived) -> None:
    total = 0
    for count, so_far in archived.counts:
        total += count
        verdict.add("miscounted", so_far != total, f"{project}: a commit says {so_far}, and it is {total}")
    verdict.add("miscounted", total != len(archived.added), f"{project}: {total} counted, {len(archived.added)} added")
