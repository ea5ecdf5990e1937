"""Long computations on the event loop, in slices, one computation at a time: others get a turn between two slices."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from time import perf_counter

SLICE_SECONDS = 0.001


async def in_slices(steps: Iterable[object], turn: asyncio.Lock) -> None:
    """Take all the steps. A computation that lasts longer than a slice waits for its turn, and lets others run.

    Threads would not do: each of them may keep the event loop from running for several milliseconds at a time.
    """
    async with AsyncExitStack() as stack:
        has_turn = False
        began = perf_counter()
        for _ in steps:
            if perf_counter() - began > SLICE_SECONDS:
                if not has_turn:
                    await stack.enter_async_context(turn)
                    has_turn = True
                await asyncio.sleep(0)
                began = perf_counter()
