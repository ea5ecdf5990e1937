"""`python -m loadtests.price`: what rate limits and sessions cost, in processor time of the servers per request.

The cluster of `make bench` (two workers, PostgreSQL, Valkey), anew for each run, with limits off and on. Two sizes of
budgets are measured: a worker takes its tokens from Redis in batches of the limit / 40 / workers, and none of the
budgets here is ever used up. The median of the runs counts.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from statistics import median

from bench.main import AUTH, CLUSTER_WORKERS, Plan, backing, measure_engine
from bench.report import Figures
from bench.scenarios import SCENARIOS

SCENARIO_NAMES = ("health-mcp", "health-session", "inbox", "inbox-mcp", "inbox-session", "team-paced")
LARGE = {"RATE_LIMIT_READS": "6000/second", "RATE_LIMIT_WRITES": "6000/second", "RATE_LIMIT_TEAM": "9000/second"}
SMALL = LARGE | {"RATE_LIMIT_READS": "150/second"}
CASES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "off": ({"RATE_LIMIT_ENABLED": "false"}, SCENARIO_NAMES),
    "batches of 75": (LARGE, SCENARIO_NAMES),
    "batches of 1": (SMALL, ("team-paced",)),
}
"""Settings, and what is asked with them: one inbox alone would use up the small budgets of its agent."""


def main() -> int:
    """Measure and tell; 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m loadtests.price")
    parser.add_argument("--runs", type=int, default=3, help="of each case (3)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a window (4)")
    given = parser.parse_args()
    rows: defaultdict[tuple[str, str], list[Figures]] = defaultdict(list)
    for number in range(1, given.runs + 1):
        for case, (settings, names) in CASES.items():
            plan = Plan(
                engines=["cluster"],
                scenarios=[SCENARIOS[name] for name in names],
                seconds=given.seconds,
                warm_up=1,
                messages=1000,
                seed=number,
                settings={"MAX_IN_FLIGHT": "1024"} | AUTH | settings,
            )
            with backing("cluster", {}) as (urls, cpu):
                measure_engine(plan, "cluster", urls, cpu, lambda row, case=case: rows[case, row.scenario].append(row))  # type: ignore[misc]
            print(f"run {number}, {case}: done", file=sys.stderr, flush=True)
    print(table(rows))
    return 1 if any(row.errors for each in rows.values() for row in each) else 0


def table(rows: dict[tuple[str, str], list[Figures]]) -> str:
    """Medians over the runs, in microseconds a request, and how much more than without limits."""
    lines = [
        f"| {CLUSTER_WORKERS} workers | limits | server µs (each run) | more than off | Redis µs | req/s | errors |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for scenario in SCENARIO_NAMES:
        base = median(row.server_cpu for row in rows["off", scenario])
        for case in CASES:
            if found := rows.get((case, scenario)):
                cost = median(row.server_cpu for row in found)
                each = ", ".join(f"{row.server_cpu:.0f}" for row in found)
                redis = median(row.redis_cpu or 0.0 for row in found)
                rate, errors = median(row.rate for row in found), sum(row.errors for row in found)
                figures = f"{cost:.0f} ({each}) | {cost / base - 1:+.1%} | {redis:.0f} | {rate:,.0f} | {errors}"
                lines.append(f"| {scenario} | {case} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
