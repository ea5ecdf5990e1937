"""`make load`: Locust without its page for a short while, against a cluster of its own or a URL; keeps a report.

Without `--url` it starts PostgreSQL, Valkey, workers and a balancer, all on the loopback address; nothing outside this
machine is ever called unless its URL is given. Exit code 1 when any request or check failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from loadtests.cluster import TOKEN, running_cluster
from tests.e2e.serving import ROOT, clean_environment, started
from tests.servers import free_port

RESULTS = ROOT / "loadtests" / "results"
LOCUSTFILE = ROOT / "loadtests" / "locustfile.py"
GRACE = 60.0
"""Seconds past its time after which Locust is ended by force."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    url: str | None
    token: str
    users: int
    seconds: int
    workers: int
    name: str
    classes: tuple[str, ...]


def main() -> int:
    """Run the plan of the command line; 1 when anything failed."""
    plan = read_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cluster too, as Ctrl-C does
    if plan.url is not None:
        return run(plan, plan.url)
    with balanced_cluster(plan.workers) as url:
        return run(replace(plan, token=TOKEN), url)


def read_arguments() -> Plan:
    """The plan."""
    parser = argparse.ArgumentParser(description="A short load test.", prog="make load ARGS=…")
    parser.add_argument("--url", help="of the server to test; without it a cluster is started for the purpose")
    parser.add_argument("--token", default="", help="bearer token of that server")
    parser.add_argument("--users", type=int, default=60, help="agents (60)")
    parser.add_argument("--seconds", type=int, default=30, help="how long (30)")
    parser.add_argument("--workers", type=int, default=3, help="of the cluster that is started (3)")
    parser.add_argument("--name", default="load", help="of the files in loadtests/results (load)")
    parser.add_argument("classes", nargs="*", help="classes of users, such as RestAgent (all)")
    given = parser.parse_args()
    url = given.url.rstrip("/") if given.url else None
    return Plan(url, given.token, given.users, given.seconds, given.workers, given.name, tuple(given.classes))


@contextmanager
def balanced_cluster(workers: int) -> Iterator[str]:
    """A cluster behind one URL."""
    begun = time.monotonic()
    with running_cluster(workers) as cluster:
        asyncio.run(cluster.ready())
        port = free_port()
        ports = [str(worker.port) for worker in cluster.workers]
        with started([sys.executable, "-m", "loadtests.balancer", str(port), *ports], port, {}) as balancer:
            print(f"{workers} workers behind {balancer.url}, ready after {time.monotonic() - begun:.1f} s")
            yield balancer.url


def run(plan: Plan, url: str) -> int:
    """Locust as a process of its own, then its figures."""
    RESULTS.mkdir(exist_ok=True)
    report, figures, checks = (RESULTS / f"{plan.name}{suffix}" for suffix in (".html", ".json", "-checks.json"))
    for old in (report, figures, checks):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless", "--host", url]
    command += ["--users", str(plan.users), "--spawn-rate", str(max(1, plan.users / 5))]
    command += ["--run-time", f"{plan.seconds}s", "--stop-timeout", "10", "--only-summary", "--loglevel", "WARNING"]
    command += ["--html", str(report), "--json-file", str(figures.with_suffix("")), "--checks-file", str(checks)]
    environment = clean_environment(RESULTS, {"AGENT_MAIL_TOKEN": plan.token} if plan.token else {})
    print(f"{plan.users} agents at {url} for {plan.seconds} s", flush=True)
    try:
        ended = subprocess.run([*command, *plan.classes], env=environment, timeout=plan.seconds + GRACE, check=False)
    except subprocess.TimeoutExpired:
        print("Locust did not end in time", file=sys.stderr)
        return 1
    if not figures.exists():
        return ended.returncode or 1
    held: dict[str, int] = json.loads(checks.read_text(encoding="utf-8")) if checks.exists() else {}
    print(table(json.loads(figures.read_text(encoding="utf-8"))))
    print("\n" + "\n".join(f"held {count:7,} times: {what}" for what, count in held.items()))
    print(f"\nWritten to {report.relative_to(ROOT)} and {figures.relative_to(ROOT)}")
    if not held:
        print("Nothing was checked", file=sys.stderr)
    return 1 if ended.returncode or not held else 0


def table(rows: list[dict[str, Any]]) -> str:
    """Requests, failures and times in milliseconds by operation and transport."""
    lines = [f"{'what':42} {'count':>8} {'failed':>7} {'per s':>7} {'p50':>7} {'p95':>7} {'p99':>7}"]
    for row in sorted(rows, key=lambda row: str(row["name"])):
        times = sorted((float(ms), int(count)) for ms, count in row["response_times"].items())
        points = [percentile(times, percent) for percent in (50, 95, 99)]
        seconds = max(1.0, row["last_request_timestamp"] - row["start_time"])
        figures = f"{row['num_requests']:8,} {row['num_failures']:7,} {row['num_requests'] / seconds:7.1f}"
        lines.append(f"{row['name'][:42]:42} {figures} " + " ".join(f"{point:7.0f}" for point in points))
    return "\n".join(lines)


def percentile(times: list[tuple[float, int]], percent: int) -> float:
    """Nearest rank of times with their counts, in order."""
    left = -(-sum(count for _, count in times) * percent // 100)
    for value, count in times:
        left -= count
        if left <= 0:
            return value
    return float("nan")


if __name__ == "__main__":
    sys.exit(main())
