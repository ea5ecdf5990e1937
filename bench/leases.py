"""Reserving and checking paths where a thousand reservations are held, nine in ten with a literal beginning."""

from __future__ import annotations

from itertools import count

import orjson

from bench.connection import Connection, post
from bench.driver import Driver, must

PROJECT = "bench-leases"
HELD, AT_ONCE = 1000, 100
ASKERS = 10
TTL = 86_400


async def prepare_leases(connection: Connection) -> None:
    """The project, its agents, and what one of them holds."""
    await must(connection, post("/api/project/ensure", {"human_key": f"/bench/{PROJECT}", "slug": PROJECT}))
    for name in ("Holder", *(f"Asker{number}" for number in range(ASKERS))):
        agent = {"project_slug": PROJECT, "name": name, "program": "bench", "model": "none"}
        await must(connection, post("/api/agent/register", agent))
    for first in range(0, HELD, AT_ONCE):
        paths = [pattern(number) for number in range(first, first + AT_ONCE)]
        asked = {"project_slug": PROJECT, "agent_name": "Holder", "paths": paths, "ttl_seconds": TTL}
        granted = await must(connection, post("/api/file/reserve", asked))
        if len(granted["granted"]) != AT_ONCE:
            raise RuntimeError(f"{len(granted['granted'])} of {AT_ONCE} paths were reserved")


def pattern(number: int) -> str:
    """What is held under that number."""
    return f"**/generated_{number}_*.py" if number % 10 == 9 else f"src/module_{number}/**/*.py"


async def reserve(driver: Driver, number: int) -> None:
    """Reserve what nobody holds, in a folder of which somebody holds a part, and let go of it."""
    connection = driver.connection()
    asker = {"project_slug": PROJECT, "agent_name": f"Asker{number}"}
    for turn in count(number):
        asked = {**asker, "paths": [f"src/module_{turn * ASKERS % HELD + number}/**/*.md"]}
        await driver.ask(connection, "reserve_file", post("/api/file/reserve", asked), is_granted)
        await driver.ask(connection, "release_file", post("/api/file/release", asker))


def is_granted(status: int, body: bytes) -> bool:
    """A reservation that was really made."""
    return status == 200 and len(orjson.loads(body)["granted"]) == 1


async def check_paths(driver: Driver, number: int) -> None:
    """Of a hundred paths ninety are held."""
    connection = driver.connection()
    paths = [f"src/module_{turn * 10 + turn % 10}/api/views.py" for turn in range(100)]
    request = post("/api/file/check", {"project_slug": PROJECT, "agent_name": "Asker0", "paths": paths})
    while True:
        await driver.ask(connection, "check_paths", request, holds_ninety)


def holds_ninety(status: int, body: bytes) -> bool:
    """An answer that found what is held."""
    return status == 200 and body.count(b'"Holder"') == 90
