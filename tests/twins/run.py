"""Let the twins answer random calls for a while: `python -m tests.twins.run --seconds 1200`.

Each plan has a seed. Where the twins differ, the shortest plan that still shows it is printed, and the run goes on; the
exit status says whether any did. `--seed 7 --plans 1` repeats one plan.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from agent_mail_migrations.runner import migrate
from tests.servers import query, running_postgres, with_database
from tests.twins.databases import Pairs
from tests.twins.invariants import broken_invariant
from tests.twins.plans import plan
from tests.twins.steps import Step
from tests.twins.trial import open_twins

TEMPLATE = "twin_template"


async def outcome(pairs: Pairs, steps: Sequence[Step], first_speaks_mcp: bool) -> str | None:
    """The first difference between fresh twins that take these steps, or what is wrong with both; None: all is well."""
    with pairs.fresh() as urls:
        async with open_twins(urls, first_speaks_mcp) as twins:
            return (
                await twins.take(steps)
                or await broken_invariant(twins.first, steps)
                or await broken_invariant(twins.second, steps)
            )


async def shortest(pairs: Pairs, steps: Sequence[Step], first_speaks_mcp: bool) -> list[Step]:
    """The steps without those that make no difference to there being one: ever smaller pieces are left out."""
    kept = list(steps)
    size = len(kept) // 2
    while size:
        begin = 0
        while begin < len(kept):
            shorter = kept[:begin] + kept[begin + size :]
            if await outcome(pairs, shorter, first_speaks_mcp) is not None:
                kept = shorter
            else:
                begin += size
        size //= 2
    return kept


async def run(pairs: Pairs, seed: int, plans: int, length: int, seconds: float) -> int:
    """Try plans one after the other until time is up; how many showed a difference."""
    deadline = time.monotonic() + seconds
    found = tried = 0
    for number in range(seed, seed + plans):
        if time.monotonic() > deadline:
            break
        steps, speaks_mcp = plan(number, length), number % 2 == 0
        tried += 1
        if await outcome(pairs, steps, speaks_mcp) is None:
            continue
        found += 1
        kept = await shortest(pairs, steps, speaks_mcp)
        print(f"seed {number}, SQLite {'by MCP' if speaks_mcp else 'by REST'}:", *kept, sep="\n  ")
        print(f"  => {await outcome(pairs, kept, speaks_mcp)}", flush=True)
    print(f"{tried} plans of {length} steps, {found} with a difference")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plans", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        processors=[structlog.processors.format_exc_info, structlog.dev.ConsoleRenderer(colors=False)],
    )
    with running_postgres() as postgres_url, tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.db"
        asyncio.run(migrate(f"sqlite:///{template}"))
        query(postgres_url, f"CREATE DATABASE {TEMPLATE}")
        asyncio.run(migrate(with_database(postgres_url, TEMPLATE)))
        pairs = Pairs(Path(folder), template, postgres_url, TEMPLATE)
        return 1 if asyncio.run(run(pairs, options.seed, options.plans, options.length, options.seconds)) else 0


if __name__ == "__main__":
    sys.exit(main())
