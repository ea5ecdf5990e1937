"""`make bench`: measure a server of its own, on a fresh database, with a separate load process.

For each engine it starts `agent-mail serve`, fills the database, and drives one scenario after another; the engine
`cluster` is two workers on PostgreSQL and Valkey, `sdk` the MCP SDK's own manager. Before, between and after the
engines it measures a bare Starlette answer served in the same way, to which every figure is compared.
The rows are printed as they come, the whole table at the end, and everything goes to `bench/results/`.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import apsw
import orjson

from bench.background import BACKGROUND
from bench.processes import Processes, at_rest
from bench.report import COLUMNS, Figures, against_sdk, bare_figures, cells, figures, spread, table, write
from bench.scenarios import SCENARIOS, Scenario
from bench.setting import Setting, say
from tests.e2e.serving import ROOT, Serving, agent_mail, clean_environment, cpu_seconds, serving, started
from tests.servers import free_port, query, running_postgres, running_valkey, valkey_pid, with_database

RESULTS = ROOT / "bench" / "results"
PACKAGES = ("granian", "starlette", "mcp", "pydantic", "apsw", "asyncpg", "orjson", "uvloop")
ENGINES = ("sqlite", "postgres", "cluster", "sdk")
CLUSTER_WORKERS = 2
SDK_ONLY = ("sdk", "sdk-handshake")
ROWS = [*SCENARIOS, *BACKGROUND]
TOKEN = "a-token-of-the-benchmark"
AUTH = {"AUTH_MODE": "bearer", "HTTP_BEARER_TOKEN": TOKEN}
"""Without authentication callers of this machine are not limited, and limits are part of what is measured."""

LIMITS = {f"RATE_LIMIT_{what}": "1000000/minute" for what in ("READS", "WRITES", "TEAM")}
"""Out of reach, and no higher: in Redis a window holds an entry for each call, and a batch is a part of the limit."""

Cpu = Callable[[], dict[str, float]]
"""Seconds that postgres and redis have used so far; SQLite is part of the server."""

NOTES = [
    "CPU µs is user and system time of all server processes, per request; Postgres µs that of all its processes.",
    "load is the load process's share of one processor: near 100 % it is the limit, and the server could do more.",
    "Load process and servers share the machine: trust the ratios and the CPU time more than the rates.",
    "Each row is compared with the bare answer of as many workers.",
    "PostgreSQL runs with fsync and synchronous_commit on, SQLite with synchronous=FULL.",
    "Servers log from warnings on; with LOG_LEVEL=info the access line costs a request about 10 µs more.",
]


@dataclass(frozen=True)
class Plan:
    """What to measure and for how long."""

    engines: list[str]
    scenarios: list[Scenario]
    seconds: float
    warm_up: float
    messages: int
    seed: int
    settings: dict[str, str]
    background: Sequence[str] = ()


def main() -> int:
    """Run the plan of the command line; 1 when any request failed."""
    plan, name = read_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers too, as Ctrl-C does
    machine = describe_machine()
    say(f"{machine['cores']} cores, {machine['processor']}, Python {machine['python']}, commit {machine['commit']}")
    rows: list[Figures] = []

    def add(row: Figures) -> None:
        rows.append(row)
        say("| " + " | ".join(cells(row, bare_figures(rows, row.workers))) + " |")
        for sample in row.samples:
            say(f"    failed: {sample}")

    say("| " + " | ".join(COLUMNS) + " |")
    for workers in (1, 2):
        add(measure_bare(plan, workers))
    resting: list[Processes] = []
    for engine in plan.engines:
        if engine == "sdk":
            for workers, scenario in product((1, CLUSTER_WORKERS), SDK_ONLY):
                add(measure_other(plan, "SDK", "bench.sdk", workers, SCENARIOS[scenario]))
        else:
            with backing(engine, machine) as (settings, cpu):
                resting.append(measure_engine(plan, engine, settings, cpu, add))
        add(measure_bare(plan, 1))
    for background in plan.background:
        for row in measure_background(plan, background, machine):
            add(row)
    add(measure_bare(plan, 2))
    limits = "on, with budgets out of reach" if plan.settings.keys() >= LIMITS.keys() else "off"
    told = f"Callers have a token, and rate limits are {limits}."
    notes = [
        *NOTES,
        told,
        *(each.sentence() for each in resting),
        *(row.note for row in rows),
        against_sdk(rows),
        spread(rows),
    ]
    path = RESULTS / f"{name}.json"
    write(path, machine, rows, [note for note in notes if note])
    mail = f"Inbox and search over {plan.messages:,} messages; windows of {plan.seconds:g} s; seed {plan.seed}."
    print(f"\n{machine['cores']} cores, Python {machine['python']}, commit {machine['commit']}. {mail}\n")
    print(table(rows))
    print("\n" + "\n".join(f"- {note}" for note in notes if note))
    print(f"\nWritten to {path.relative_to(ROOT)}")
    failed = sum(row.errors for row in rows)
    if failed:
        print(f"{failed:,} requests failed", file=sys.stderr)
    return 1 if failed else 0


def read_arguments() -> tuple[Plan, str]:
    """The plan, and the name of the file of results."""
    parser = argparse.ArgumentParser(description="Measure Agent Mail.", prog="make bench ARGS=…")
    parser.add_argument("--quick", action="store_true", help="windows of 1 s and 1,000 messages: to see that it works")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this one")
    parser.add_argument("--only", metavar="NAME,…", help=f"only these rows: {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, help="length of a window (5)")
    parser.add_argument("--seed", type=int, default=1, help="of the mail and the order of requests (1)")
    parser.add_argument("--name", help="of the file in bench/results/")
    parser.add_argument("--no-limits", action="store_true", help="without rate limits, to see what they cost")
    given = parser.parse_args()
    others = ("bare", *SDK_ONLY)
    names = given.only.split(",") if given.only else [name for name in ROWS if name not in others]
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    engines, scenarios = given.engine or list(ENGINES), [name for name in names if name in SCENARIOS]
    plan = Plan(
        engines=engines if [name for name in scenarios if name != "bare"] else [],
        scenarios=[SCENARIOS[name] for name in scenarios if name not in others],
        background=[name for name in names if name in BACKGROUND and BACKGROUND[name].engine in engines],
        seconds=given.seconds or (1 if given.quick else 5),
        warm_up=0.3 if given.quick else 1,
        messages=1_000 if given.quick else 10_000,
        seed=given.seed,
        settings={"MAX_IN_FLIGHT": "1024"} | AUTH | ({"RATE_LIMIT_ENABLED": "false"} if given.no_limits else LIMITS),
    )
    parts = ["quick" if given.quick else "full", *(given.engine or []), *(names if given.only else [])]
    return plan, given.name or "-".join(parts)


# --- servers ----------------------------------------------------------------------------------------------------------


def measure_bare(plan: Plan, workers: int) -> Figures:
    """The constant answer."""
    return measure_other(plan, "–", "bench.baseline", workers, SCENARIOS["bare"])


def measure_other(plan: Plan, engine: str, module: str, workers: int, scenario: Scenario) -> Figures:
    """A server that is not Agent Mail."""
    port = free_port()
    with started([sys.executable, "-m", module, str(port), str(workers)], port, {}, "/health") as server:
        return measure(plan, engine, workers, scenario, server, dict)


def measure_engine(
    plan: Plan, engine: str, settings: dict[str, str], cpu: Cpu, add: Callable[[Figures], None]
) -> Processes:
    """All scenarios on one engine; what its processes took when nothing was asked of them."""
    begun = time.monotonic()
    workers = int(settings.get("WORKERS", "1"))
    with serving(settings["DATABASE_URL"], **plan.settings, **settings) as server:
        resting = at_rest(engine, time.monotonic() - begun, server.process.pid)
        say(resting.sentence())
        if any(scenario.needs_mail for scenario in plan.scenarios):
            begun = time.monotonic()
            job = {"scenario": "prepare", "messages": plan.messages, "port": server.port, "seed": plan.seed}
            job["token"] = TOKEN
            load(job, 600, lambda: None)
            say(f"{engine}: {plan.messages:,} messages sent in {time.monotonic() - begun:.1f} s")
        for scenario in plan.scenarios:
            add(measure(plan, engine, workers, scenario, server, cpu))
    return resting


def measure_background(plan: Plan, name: str, machine: dict[str, Any]) -> Iterable[Figures]:
    """Rows of what happens behind requests, on a fresh database."""
    background = BACKGROUND[name]
    with backing(background.engine, machine) as (settings, cpu):
        values = plan.settings | settings
        setting = Setting(background.engine, values, cpu, TOKEN, plan.messages, plan.seconds, plan.seed)
        yield from background.measure(setting)


@contextmanager
def backing(engine: str, machine: dict[str, Any]) -> Iterator[tuple[dict[str, str], Cpu]]:
    """The settings that name a fresh database and the rest, and how to ask what their own processes have used."""
    if engine == "sqlite":
        RESULTS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="database-", dir=RESULTS) as folder:
            yield {"DATABASE_URL": f"sqlite:///{folder}/mail.db"}, dict
        return
    with ExitStack() as stack:
        url = stack.enter_context(running_postgres(durable=True))
        machine["postgres"] = query(url, "SHOW server_version")[0][0]
        query(url, "CREATE DATABASE bench")
        home = parse_qs(urlsplit(url).query)["host"][0]
        pids = {"postgres": int((Path(home) / "data" / "postmaster.pid").read_text().splitlines()[0])}
        settings = {"DATABASE_URL": with_database(url, "bench")}
        migrate(settings["DATABASE_URL"])
        if engine == "cluster":
            settings |= {"REDIS_URL": stack.enter_context(running_valkey()), "WORKERS": str(CLUSTER_WORKERS)}
            pids["redis"] = valkey_pid(settings["REDIS_URL"]) or 0
        yield settings, lambda: {name: cpu_seconds(pid) for name, pid in pids.items()}


def migrate(url: str) -> None:
    """Bring a database to the schema, as the step of its own that it is with PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        environment = clean_environment(Path(folder), {"DATABASE_URL": url})
        subprocess.run(agent_mail("migrate"), cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


# --- one measurement --------------------------------------------------------------------------------------------------


def measure(
    plan: Plan,
    engine: str,
    workers: int,
    scenario: Scenario,
    server: Serving,
    cpu: Cpu,
) -> Figures:
    """One row."""
    job = {
        "scenario": scenario.name,
        "port": server.port,
        "seconds": plan.seconds,
        "warm_up": plan.warm_up,
        "seed": plan.seed,
        "token": TOKEN,
    }
    used: list[tuple[float, dict[str, float]]] = []

    def look() -> None:
        used.append((cpu_seconds(server.process.pid), cpu()))

    seen = load(job, plan.warm_up + plan.seconds + 60, look)
    (server_before, others_before), (server_after, others_after) = used
    spent = {name: others_after[name] - before for name, before in others_before.items()}
    return figures(engine, workers, scenario, seen, server_after - server_before, spent)


def load(job: dict[str, Any], patience: float, look: Callable[[], None]) -> dict[str, Any]:
    """What the load process saw; `look` is called as the window begins and ends."""
    command = [sys.executable, "-m", "bench.load"]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        limit = Timer(patience, process.kill)
        limit.start()
        try:
            process.stdin.write(orjson.dumps(job) + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                said: dict[str, Any] = orjson.loads(line)
                if "window" not in said:
                    return said
                look()
        finally:
            limit.cancel()
            process.kill()
    raise RuntimeError(f"the load process ended with {process.returncode} and no result")


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": models[0] if models else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "commit": (commit or "none") + (" with changes" if changes else ""),
        "packages": {name: version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    sys.exit(main())
