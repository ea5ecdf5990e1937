"""Long computations on the event loop, in slices: between two slices others get a turn."""

import asyncio
from collections.abc import Iterable
from time import perf_counter

SLICE_SECONDS = 0.001


async def in_slices(steps: Iterable[object], turn: asyncio.Lock) -> None:
    """Take all the steps. Computations that last longer than a slice take turns, slice by slice.

    So one that is almost done does not wait for the end of one that somebody made as long as can be.
    Threads would not do: each of them may keep the event loop from running for several milliseconds at a time.
    """
    has_turn = False
    began = perf_counter()
    try:
        for _ in steps:
            if perf_counter() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                if has_turn:
                    has_turn = False
                    turn.release()
                await turn.acquire()
                has_turn = True
                began = perf_counter()
    finally:
        if has_turn:
            turn.release()
