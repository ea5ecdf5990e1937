"""Background work that takes turns with requests, where one process does both."""

from __future__ import annotations

import asyncio
from math import ceil

from agent_mail_core.ports import App

REST = 4.0
"""How long the work rests after a step, times as long as the step took, while there are requests."""

LONGEST_REST = 2.0
"""Seconds."""

LOOK_SECONDS = 0.05
"""How often it looks whether anybody asks for anything; when nobody did since the last look, it goes on."""


async def give_way(app: App, took: float) -> None:
    """Rest after a step of so many seconds. Job workers, which answer nobody, do not rest."""
    if app.settings.redis_url is not None:
        return
    rest, answered = min(took * REST, LONGEST_REST), app.metrics.snapshot().requests
    for _ in range(ceil(rest / LOOK_SECONDS)):
        await asyncio.sleep(min(rest, LOOK_SECONDS))
        before, answered = answered, app.metrics.snapshot().requests
        if answered == before:
            return
