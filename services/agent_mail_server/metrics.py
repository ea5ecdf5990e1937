"""What this server counts: HTTP answers, operations by outcome, how long they take, and who waits.

Counting happens on the event loop alone, in plain integers: an operation costs about a microsecond, where a labelled
Prometheus histogram with its locks costs several. The Prometheus text is made from them when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from time import perf_counter
from types import TracebackType

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from agent_mail_core.errors import AgentMailError
from agent_mail_core.health import MetricsSnapshot, OperationCount
from agent_mail_core.ports import Metrics
from agent_mail_server.operations import OPERATIONS, Operation

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the latency histogram in seconds; what takes longer is in the last bucket, +Inf."""

SENDS = ("send_message", "reply_message")
OK = "ok"


class _Figures:
    """One operation's."""

    __slots__ = ("at_work", "buckets", "outcomes", "seconds")

    def __init__(self) -> None:
        self.at_work = 0
        self.outcomes: Counter[str] = Counter()
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    @property
    def calls(self) -> int:
        return sum(self.outcomes.values())

    @property
    def errors(self) -> int:
        return self.calls - self.outcomes[OK]


class _Call:
    """One call while it runs."""

    __slots__ = ("_began", "_figures")

    def __init__(self, figures: _Figures) -> None:
        self._figures = figures

    def __enter__(self) -> None:
        self._figures.at_work += 1
        self._began = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        figures = self._figures
        took = perf_counter() - self._began
        figures.at_work -= 1
        figures.seconds += took
        figures.buckets[bisect_left(BOUNDS, took)] += 1
        figures.outcomes[OK if kind is None else _outcome(error)] += 1


def _outcome(error: BaseException | None) -> str:
    """The kind of one of our errors, so that the label has few values."""
    if isinstance(error, AgentMailError):
        return error.kind
    return "internal" if isinstance(error, Exception) else "cancelled"


class ServerMetrics(Metrics):
    """The counters of one server, from zero at its start."""

    def __init__(self, operations: Iterable[Operation] = OPERATIONS) -> None:
        self.in_flight = 0
        """HTTP requests being answered, waiting calls and streams among them."""
        self.streams = 0
        """Those among them that are streams and hold no place of MAX_IN_FLIGHT."""
        self._operations = {operation.name: _Figures() for operation in operations}
        self._waiting = [self._operations[operation.name] for operation in operations if operation.is_waiting]
        self._statuses: Counter[int] = Counter()

    def operation(self, name: str) -> _Call:
        """A context manager around one performance of an operation."""
        figures = self._operations.get(name)
        if figures is None:
            figures = self._operations[name] = _Figures()
        return _Call(figures)

    def answered(self, status: int) -> None:
        """An HTTP request got its answer."""
        self._statuses[status] += 1

    @property
    def waiting(self) -> int:
        """Calls that wait for mail."""
        return sum(figures.at_work for figures in self._waiting)

    @property
    def at_work(self) -> int:
        """Requests that hold a place of MAX_IN_FLIGHT: those in flight but for waits and streams."""
        return self.in_flight - self.streams - self.waiting

    def snapshot(self) -> MetricsSnapshot:
        """The figures as the metrics operation answers them. Errors are the server's fault: 5xx."""
        return MetricsSnapshot(
            requests=sum(self._statuses.values()),
            errors=sum(count for status, count in self._statuses.items() if status >= 500),
            messages_sent=self._messages_sent,
            waiting_calls=self.waiting,
            tools=[
                OperationCount(operation=name, calls=figures.calls, errors=figures.errors)
                for name, figures in self._operations.items()
                if figures.outcomes
            ],
        )

    @property
    def _messages_sent(self) -> int:
        """Sends that were answered with success, replays of one among them."""
        return sum(self._operations[name].outcomes[OK] for name in SENDS if name in self._operations)

    def prometheus(self) -> bytes:
        """The same in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The families, for Prometheus' registry."""
        requests = CounterMetricFamily("agent_mail_http_requests", "HTTP requests answered", labels=["status"])
        for status, count in sorted(self._statuses.items()):
            requests.add_metric([str(status)], count)
        yield requests
        operations = CounterMetricFamily(
            "agent_mail_operations", "Operations performed, over both transports", labels=["operation", "outcome"]
        )
        latency = HistogramMetricFamily(
            "agent_mail_operation_seconds", "Time an operation took", labels=["operation"], unit="seconds"
        )
        for name, figures in self._operations.items():
            if not figures.outcomes:
                continue
            for outcome, count in sorted(figures.outcomes.items()):
                operations.add_metric([name, outcome], count)
            totals = zip([*(str(bound) for bound in BOUNDS), "+Inf"], accumulate(figures.buckets), strict=True)
            latency.add_metric([name], [(bound, float(total)) for bound, total in totals], figures.seconds)
        yield operations
        yield latency
        yield CounterMetricFamily("agent_mail_messages_sent", "Sends answered with success", value=self._messages_sent)
        yield GaugeMetricFamily("agent_mail_waiting_calls", "Calls that wait for mail", value=self.waiting)
        yield GaugeMetricFamily("agent_mail_requests_in_flight", "HTTP requests being answered", value=self.in_flight)
