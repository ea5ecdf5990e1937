"""What jobs cost and how they end, for Prometheus and the log; and how many there are, as the database said last."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from agent_mail_core.errors import AgentMailError, Unavailable
from agent_mail_core.jobs import Job, KindFigures, Outcome, Performed, work_at_hand
from agent_mail_core.ports import Store

BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
"""Upper bounds of the duration histogram in seconds; what takes longer is in the last bucket, +Inf."""

LOOK_SECONDS = 5.0


class JobMetrics:
    """The figures of one process that does jobs."""

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str, Outcome]] = Counter()
        self._seconds: dict[str, float] = {}
        self._buckets: dict[str, list[int]] = {}
        self._figures: Sequence[KindFigures] = ()

    def report(self, job: Job, performed: Performed, seconds: float) -> None:
        """Count an attempt, and log one that came to nothing."""
        self._outcomes[job.kind, performed.outcome] += 1
        self._seconds[job.kind] = self._seconds.get(job.kind, 0.0) + seconds
        self._buckets.setdefault(job.kind, [0] * (len(BOUNDS) + 1))[bisect_left(BOUNDS, seconds)] += 1
        if performed.outcome not in ("failed", "dead", "lost"):
            return
        log = structlog.get_logger().bind(
            kind=job.kind, subject_id=job.subject_id, attempt=job.attempt, outcome=performed.outcome
        )
        if isinstance(performed.error, Unavailable):  # its own line tells all
            log.warning("job not done", reason=performed.error.message)
        elif performed.outcome == "lost":
            log.warning("job lost to another worker, or to time")
        else:
            log.error("job not done", exc_info=performed.error)

    async def watch(self, store: Store) -> None:
        """Until cancelled: ask the database how much there is to do."""
        while True:
            with suppress(AgentMailError):  # it is away: the last answer stays
                self._figures = await work_at_hand(store)
            await asyncio.sleep(LOOK_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """The families, for Prometheus' registry."""
        depth = GaugeMetricFamily("agent_mail_jobs", "Background jobs", labels=["kind", "state"])
        oldest = GaugeMetricFamily(
            "agent_mail_job_oldest_due_seconds", "How long the oldest due job has waited", labels=["kind"]
        )
        for figures in self._figures:
            for state, count in (
                ("waiting", figures.waiting),
                ("running", figures.running),
                ("dead", figures.dead),
            ):
                depth.add_metric([figures.kind, state], count)
            oldest.add_metric([figures.kind], figures.oldest_due_seconds)
        yield depth
        yield oldest
        runs = CounterMetricFamily("agent_mail_job_runs", "Attempts at jobs", labels=["kind", "outcome"])
        for (kind, outcome), count in self._outcomes.items():
            runs.add_metric([kind, outcome], count)
        yield runs
        took = HistogramMetricFamily("agent_mail_job_seconds", "Time an attempt took", labels=["kind"], unit="seconds")
        for kind, buckets in self._buckets.items():
            totals = zip([*map(str, BOUNDS), "+Inf"], map(float, accumulate(buckets)), strict=True)
            took.add_metric([kind], list(totals), self._seconds[kind])
        yield took
