"""Figures from what was seen: percentiles, cost per request, ratios to the bare answer, the table and the file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from bench.scenarios import Scenario


@dataclass(frozen=True)
class Figures:
    """One row: a scenario on an engine with a number of workers. Times in milliseconds, costs in microseconds."""

    engine: str
    workers: int
    scenario: str
    title: str
    connections: int
    is_paced: bool
    requests: int
    seconds: float
    rate: float
    p50: float
    p95: float
    p99: float
    server_cpu: float
    """Of the server's processes, per request."""
    database_cpu: float | None
    """Of PostgreSQL's processes, per request; SQLite's is in the server's."""
    redis_cpu: float | None
    """Of Valkey, per request."""
    load_share: float
    """Of one processor, what the load process took: near 1 the generator is the limit, not the server."""
    errors: int
    samples: list[str] = field(default_factory=list)
    by_operation: dict[str, dict[str, float]] = field(default_factory=dict)
    note: str = ""
    """What else was found, for below the table."""


def figures(
    engine: str, workers: int, scenario: Scenario, seen: dict[str, Any], server_cpu: float, others: dict[str, float]
) -> Figures:
    """The row of one measurement; `server_cpu` is seconds over the window, `others` those of postgres and redis."""
    latencies: dict[str, list[float]] = seen["latencies"]
    counted = [value for label, values in latencies.items() if scenario.counts in (None, label) for value in values]
    counted.sort()
    requests, seconds = len(counted), seen["seconds"]
    per_request = 1e6 / requests if requests else float("nan")
    return Figures(
        engine=engine,
        workers=workers,
        scenario=scenario.name,
        title=scenario.title,
        connections=scenario.connections,
        is_paced=scenario.is_paced,
        requests=requests,
        seconds=round(seconds, 3),
        rate=requests / seconds,
        p50=percentile(counted, 50),
        p95=percentile(counted, 95),
        p99=percentile(counted, 99),
        server_cpu=server_cpu * per_request,
        database_cpu=others["postgres"] * per_request if "postgres" in others else None,
        redis_cpu=others["redis"] * per_request if "redis" in others else None,
        load_share=seen["load_cpu"] / seconds,
        errors=sum(seen["errors"].values()),
        samples=seen["samples"],
        by_operation={label: summary(sorted(values), seconds) for label, values in sorted(latencies.items())},
    )


def percentile(ordered: list[float], percent: int) -> float:
    """Nearest rank, of seconds in order, in milliseconds; not a number when there is none."""
    if not ordered:
        return float("nan")
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] * 1000


def summary(ordered: list[float], seconds: float) -> dict[str, float]:
    """Rate and percentiles of one operation."""
    points = {f"p{percent}": percentile(ordered, percent) for percent in (50, 95, 99)}
    return {"rate": len(ordered) / seconds, **points}


def bare_figures(rows: list[Figures], workers: int = 1) -> Figures | None:
    """The bare answer that the others are compared with: the one of median rate."""
    bare = sorted((row for row in rows if row.scenario == "bare" and row.workers == workers), key=lambda row: row.rate)
    if not bare:
        return None
    middle = median(range(len(bare)))
    return bare[int(middle)]


COLUMNS = (
    "engine",
    "workers",
    "what",
    "req/s",
    "÷ bare",
    "p50 / p95 / p99 ms",
    "p99 ÷ bare",
    "CPU µs",
    "÷ bare",
    "Postgres µs",
    "Redis µs",
    "load",
    "errors",
)


def table(rows: list[Figures]) -> str:
    """A Markdown table; of the bare answers the median of each number of workers."""
    shown = [found for workers in (1, 2) if (found := bare_figures(rows, workers))]
    shown += [row for row in rows if row.scenario != "bare"]
    lines = [COLUMNS, *(cells(row, bare_figures(rows, row.workers)) for row in shown)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def cells(row: Figures, bare: Figures | None) -> tuple[str, ...]:
    """One line of the table."""
    return (
        row.engine,
        str(row.workers),
        row.title,
        f"{row.rate:,.0f}" + (" (paced)" if row.is_paced else ""),
        "–" if row.is_paced else ratio(row.rate, bare.rate if bare else None),
        "–" if isnan(row.p50) else f"{row.p50:.1f} / {row.p95:.1f} / {row.p99:.1f}",
        ratio(row.p99, bare.p99 if bare else None),
        "–" if isnan(row.server_cpu) else f"{row.server_cpu:,.0f}",
        ratio(row.server_cpu, bare.server_cpu if bare else None),
        "–" if row.database_cpu is None else f"{row.database_cpu:,.0f}",
        "–" if row.redis_cpu is None else f"{row.redis_cpu:,.0f}",
        "–" if isnan(row.load_share) else f"{row.load_share:.0%}",
        f"{row.errors:,}",
    )


def ratio(value: float, reference: float | None) -> str:
    """How many times the reference."""
    if not reference or isnan(value):
        return "–"
    quotient = value / reference
    return f"{quotient:.2f}" if quotient < 10 else f"{quotient:.0f}"


def spread(rows: list[Figures]) -> str:
    """How steady the machine was: the bare answer's rates over the run."""
    rates = [row.rate for row in rows if row.scenario == "bare" and row.workers == 1]
    if len(rates) < 2:
        return ""
    each = ", ".join(f"{rate:,.0f}" for rate in rates)
    return f"The bare answer over the run: {each} req/s; a difference below that spread says nothing."


def against_sdk(rows: list[Figures]) -> str:
    """How health over MCP compares with the SDK's own manager."""
    own = {(row.engine, row.workers): row for row in rows if row.scenario == "health-mcp"}
    sdk = {row.workers: row for row in rows if row.scenario == "sdk"}
    each = [
        f"{row.rate / sdk[workers].rate:.1f} times the requests at {row.server_cpu / sdk[workers].server_cpu:.2f} of"
        f" the CPU ({engine}, {workers} workers)"
        for (engine, workers), row in own.items()
        if workers in sdk
    ]
    return f"health over MCP 2026-07-28 beside the SDK's own manager: {'; '.join(each)}." if each else ""


def write(path: Path, machine: dict[str, Any], rows: list[Figures], notes: list[str]) -> None:
    """Everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"machine": machine, "notes": notes, "figures": [asdict(row) for row in rows]}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
