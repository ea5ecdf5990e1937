"""The load process: `python -m bench.load` reads one job from standard input, drives the server, and says what it saw.

It is a process of its own, so that it shares no interpreter with what it measures. Lines of JSON on standard output
say when the timed window begins and ends (the parent then reads the server's processor time), and last what was
measured. Load is a closed loop: each connection asks again when it has its answer. An answer that is not what the
operation promises is an error: counted, kept as a sample, and left out of the rate.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any

import orjson
import uvloop

from bench.driver import Driver
from bench.scenarios import SCENARIOS, prepare


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Prepare when the job says so; else drive one scenario through warm-up and window."""
    driver = Driver(job)
    watch = asyncio.create_task(driver.watch())
    try:
        if job["scenario"] == "prepare":
            await prepare(driver, job["messages"])
            return {}
        scenario = SCENARIOS[job["scenario"]]
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(scenario.drive(driver, number)) for number in range(scenario.connections)
        ]
        await watched_sleep(tasks, job["warm_up"])
        gc.collect()
        gc.freeze()
        say({"window": "begin"})
        cpu, begun = time.process_time(), time.perf_counter()
        driver.is_measuring = True
        await watched_sleep(tasks, job["seconds"])
        driver.is_measuring = False
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - begun
        say({"window": "end"})
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {
            "seconds": seconds,
            "load_cpu": cpu,
            "latencies": {label: list(values) for label, values in driver.latencies.items()},
            "errors": dict(driver.errors),
            "samples": driver.samples,
        }
    finally:
        watch.cancel()


async def watched_sleep(tasks: list[asyncio.Task[None]], seconds: float) -> None:
    """Sleep while the connections work; a scenario that ends or raises has a fault, and says so."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
        raise RuntimeError("a scenario's loop came to an end")


def say(what: dict[str, Any]) -> None:
    """One line for the parent."""
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    say(uvloop.run(run(orjson.loads(sys.stdin.buffer.readline()))))
