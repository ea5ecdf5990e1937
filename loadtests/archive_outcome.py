"""What came of the archive's run: by project, by fault and in all, and the tables that tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.archive_mail import failures
from loadtests.archive_verdict import ArchiveVerdict
from loadtests.trial import Happened, markdown

IN_TABLE = ("lost", "unarchived", "repeated", "broken", "differing")


@dataclass
class Project:
    """What came of one project."""

    slug: str
    acknowledged: int
    events: int
    commits: int
    verdict: ArchiveVerdict


@dataclass
class Outcome:
    """What came of all."""

    sending_seconds: float
    catch_up_seconds: float
    attempts: int
    unclear: dict[str, int]
    """Answers to sends that were no acknowledgement, by kind; those that say to come again are no failures."""
    undone: dict[str, int]
    """Attempts of jobs that came to nothing, by reason; each was made again."""
    happened: list[Happened]
    projects: list[Project]
    verdict: ArchiveVerdict = field(default_factory=ArchiveVerdict)
    """Of all projects, and what is of none."""

    def judge(self, late: Sequence[str], dead: Sequence[str]) -> None:
        """Add up, with the projects that had not caught up and the jobs that were given up."""
        for project in self.projects:
            self.verdict = self.verdict + project.verdict
        self.verdict.add("late", len(late), ", ".join(late))
        self.verdict.add("dead", len(dead), "; ".join(dead))
        failed = failures(self.unclear)
        self.verdict.add("failed", failed.total(), str(dict(failed)))


def report(outcome: Outcome) -> str:
    """The tables, and a sentence."""
    tables = [project_table(outcome.projects)]
    if outcome.happened:
        tables.append(fault_table(outcome.happened))
    messages = sum(project.acknowledged for project in outcome.projects)
    unclear = ", ".join(f"{count} {what}" for what, count in sorted(outcome.unclear.items())) or "none"
    told = [
        f"{messages:,} messages acknowledged in {outcome.sending_seconds:.1f} s with {outcome.attempts:,} attempts;"
        f" answers that were no acknowledgement: {unclear}",
        f"The archives had caught up {outcome.catch_up_seconds:.1f} s after the last one",
        "Attempts of jobs that came to nothing:",
        *(f"- {count} times: {reason}" for reason, count in outcome.undone.items()),
        *(f"- {sample}" for sample in outcome.verdict.samples[:20]),
        f"{'All archived once' if outcome.verdict.is_clean else 'FAILED'}: "
        + ", ".join(f"{name} {count}" for name, count in outcome.verdict.counts().items()),
    ]
    return "\n\n".join([*tables, "\n".join(told)])


def project_table(projects: Sequence[Project]) -> str:
    """A line a project."""
    lines: list[tuple[Any, ...]] = [("project", "messages", "events", "commits", *IN_TABLE, "other")]
    for project in projects:
        counts = project.verdict.counts()
        other = sum(count for name, count in counts.items() if name not in IN_TABLE)
        figures = (f"{project.acknowledged:,}", f"{project.events:,}", f"{project.commits:,}")
        lines.append((project.slug, *figures, *(counts[name] for name in IN_TABLE), other))
    return markdown(lines)


def fault_table(happened: Sequence[Happened]) -> str:
    """A line a fault, in their order."""
    lines: list[tuple[Any, ...]] = [("fault", "at message", "from s", "to s", "what")]
    lines += [
        (each.fault, f"{each.done:,.0f}", f"{each.begun:.1f}", f"{each.ended:.1f}", each.part) for each in happened
    ]
    return markdown(lines)
