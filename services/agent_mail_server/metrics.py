"""What the servers of one port count: HTTP answers, operations by outcome, how long they take, and who waits.

Counting happens in plain integers: an operation costs about a microsecond, where a labelled Prometheus histogram with
its locks costs several. They lie in memory that the worker processes of one supervisor share, a row for each, so that
any of them can tell the sums, and what a worker counted outlives it. The Prometheus text is made when somebody asks.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from time import perf_counter
from types import TracebackType

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from agent_mail_core.errors import AgentMailError
from agent_mail_core.health import MetricsSnapshot, OperationCount
from agent_mail_core.ports import Metrics
from agent_mail_server.errors import STATUS_AND_EXIT
from agent_mail_server.operations import OPERATIONS, Operation
from agent_mail_worker.metrics import JobMetrics

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the latency histogram in seconds; what takes longer is in the last bucket, +Inf."""

SENDS = ("send_message", "reply_message")
OK = "ok"
OUTCOMES = {outcome: number for number, outcome in enumerate((OK, *STATUS_AND_EXIT, "cancelled"))}

# A row: gauges, answers by status, then each operation's figures.
IN_FLIGHT, STREAMS, WAITING, LOCAL_LIMITS, STATUSES = range(5)
LOWEST_STATUS, HIGHEST_STATUS = 100, 599
OPERATION_0 = STATUSES + HIGHEST_STATUS - LOWEST_STATUS + 1
MICROSECONDS, OUTCOME_0 = range(2)
BUCKET_0 = OUTCOME_0 + len(OUTCOMES)
OPERATION_SIZE = BUCKET_0 + len(BOUNDS) + 1
OTHERS = "other"
"""The name under which operations that are not in the table are counted."""


class SharedFigures:
    """Rows of integers in memory that processes forked from here share. A row has one writer at a time."""

    def __init__(self, rows: int = 1, operations: Iterable[Operation] = OPERATIONS) -> None:
        self.names = (*(operation.name for operation in operations), OTHERS)
        size = OPERATION_0 + len(self.names) * OPERATION_SIZE
        figures = memoryview(mmap.mmap(-1, rows * size * 8)).cast("q")
        self.rows = [figures[row * size : (row + 1) * size] for row in range(rows)]

    def total(self, place: int) -> int:
        """The sum over all rows."""
        return sum(row[place] for row in self.rows)

    def totals(self, start: int, count: int) -> list[int]:
        """The sums of neighbours."""
        return [self.total(place) for place in range(start, start + count)]

    def operation(self, name: str) -> int:
        """Where an operation's figures begin."""
        number = self.names.index(name if name in self.names else OTHERS)
        return OPERATION_0 + number * OPERATION_SIZE

    def forget_gauges(self, row: int) -> None:
        """The row's writer is gone: what it had in hand is no more. What it counted stays."""
        for place in (IN_FLIGHT, STREAMS, WAITING, LOCAL_LIMITS):
            self.rows[row][place] = 0


class _Figures:
    """One operation's in this worker's row."""

    __slots__ = ("row", "start")

    def __init__(self, row: memoryview[int], start: int) -> None:
        self.row = row
        self.start = start


class _Call:
    """One call while it runs."""

    __slots__ = ("_began", "_figures")

    def __init__(self, figures: _Figures) -> None:
        self._figures = figures

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        figures = self._figures
        took = perf_counter() - self._began
        row, start = figures.row, figures.start
        row[start + MICROSECONDS] += int(took * 1_000_000)
        row[start + BUCKET_0 + bisect_left(BOUNDS, took)] += 1
        row[start + OUTCOME_0 + (0 if kind is None else OUTCOMES[_outcome(error)])] += 1


def _outcome(error: BaseException | None) -> str:
    """The kind of one of our errors, so that the label has few values."""
    if isinstance(error, AgentMailError):
        return error.kind
    return "internal" if isinstance(error, Exception) else "cancelled"


class ServerMetrics(Metrics):
    """The counters of one worker, which tells those of all workers of its port."""

    def __init__(self, figures: SharedFigures | None = None, row: int = 0) -> None:
        self.jobs = JobMetrics()
        self._shared = figures or SharedFigures()
        self._row = self._shared.rows[row]
        self._operations = {name: _Figures(self._row, self._shared.operation(name)) for name in self._shared.names}

    @property
    def in_flight(self) -> int:
        """HTTP requests that this worker answers now, waiting calls and streams among them."""
        return self._row[IN_FLIGHT]

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        self._row[IN_FLIGHT] = value

    @property
    def streams(self) -> int:
        """Those among them that are streams and hold no place of MAX_IN_FLIGHT."""
        return self._row[STREAMS]

    @streams.setter
    def streams(self, value: int) -> None:
        self._row[STREAMS] = value

    def note_limits(self, are_local: bool) -> None:
        """Whether this worker counts its callers' calls alone, because Redis is away."""
        self._row[LOCAL_LIMITS] = are_local

    def operation(self, name: str) -> _Call:
        """A context manager around one performance of an operation."""
        return _Call(self._operations.get(name) or self._operations[OTHERS])

    def answered(self, status: int) -> None:
        """An HTTP request got its answer."""
        self._row[STATUSES + min(max(status, LOWEST_STATUS), HIGHEST_STATUS) - LOWEST_STATUS] += 1

    @property
    def waiting(self) -> int:
        """Calls that wait for mail, a lease or a summary, on this worker."""
        return self._row[WAITING]

    @waiting.setter
    def waiting(self, value: int) -> None:
        self._row[WAITING] = value

    @property
    def at_work(self) -> int:
        """Requests that hold a place of MAX_IN_FLIGHT: those in flight but for waits and streams."""
        return self._row[IN_FLIGHT] - self._row[STREAMS] - self.waiting

    def snapshot(self) -> MetricsSnapshot:
        """The figures as the metrics operation answers them. Errors are the server's fault: 5xx."""
        statuses = self._statuses()
        tools = []
        for name in self._shared.names:
            outcomes = self._outcomes(name)
            calls = sum(outcomes)
            if calls:
                tools.append(OperationCount(operation=name, calls=calls, errors=calls - outcomes[OUTCOMES[OK]]))
        return MetricsSnapshot(
            requests=sum(statuses.values()),
            errors=sum(count for status, count in statuses.items() if status >= 500),
            messages_sent=self._messages_sent(),
            waiting_calls=self._shared.total(WAITING),
            tools=tools,
        )

    def _statuses(self) -> dict[int, int]:
        counts = self._shared.totals(STATUSES, HIGHEST_STATUS - LOWEST_STATUS + 1)
        return {LOWEST_STATUS + number: count for number, count in enumerate(counts) if count}

    def _outcomes(self, name: str) -> list[int]:
        return self._shared.totals(self._shared.operation(name) + OUTCOME_0, len(OUTCOMES))

    def _messages_sent(self) -> int:
        """Sends that were answered with success, replays of one among them."""
        return sum(self._outcomes(name)[OUTCOMES[OK]] for name in SENDS if name in self._shared.names)

    def prometheus(self) -> bytes:
        """The same in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        registry.register(self.jobs)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The families, for Prometheus' registry."""
        shared = self._shared
        requests = CounterMetricFamily("agent_mail_http_requests", "HTTP requests answered", labels=["status"])
        for status, count in self._statuses().items():
            requests.add_metric([str(status)], count)
        yield requests
        operations = CounterMetricFamily(
            "agent_mail_operations", "Operations performed, over both transports", labels=["operation", "outcome"]
        )
        latency = HistogramMetricFamily(
            "agent_mail_operation_seconds", "Time an operation took", labels=["operation"], unit="seconds"
        )
        for name in shared.names:
            outcomes = self._outcomes(name)
            if not any(outcomes):
                continue
            for outcome, count in zip(OUTCOMES, outcomes, strict=True):
                if count:
                    operations.add_metric([name, outcome], count)
            start = shared.operation(name)
            buckets = accumulate(shared.totals(start + BUCKET_0, len(BOUNDS) + 1))
            totals = zip([*(str(bound) for bound in BOUNDS), "+Inf"], buckets, strict=True)
            seconds = shared.total(start + MICROSECONDS) / 1_000_000
            latency.add_metric([name], [(bound, float(total)) for bound, total in totals], seconds)
        yield operations
        yield latency
        yield CounterMetricFamily(
            "agent_mail_messages_sent", "Sends answered with success", value=self._messages_sent()
        )
        yield GaugeMetricFamily(
            "agent_mail_waiting_calls", "Calls that wait for something", value=shared.total(WAITING)
        )
        in_flight = shared.total(IN_FLIGHT)
        yield GaugeMetricFamily("agent_mail_requests_in_flight", "HTTP requests being answered", value=in_flight)
        yield GaugeMetricFamily(
            "agent_mail_local_limits", "Workers that limit alone: Redis is away", value=shared.total(LOCAL_LIMITS)
        )
