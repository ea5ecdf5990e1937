"""A balancer of connections for tests: each new one goes to the next worker that takes it.

`python -m loadtests.balancer PORT WORKER_PORT…`, on the loopback address only. It knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from contextlib import suppress

import uvloop

CHUNK = 1 << 16


async def main(port: int, workers: list[int]) -> None:
    """Serve until the process ends."""
    turns = itertools.cycle(workers)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await connect(turns, len(workers))
            if there is not None:
                async with asyncio.TaskGroup() as both:
                    both.create_task(pump(reader, there[1]))
                    both.create_task(pump(there[0], writer))
        finally:
            writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def connect(turns: Iterator[int], tries: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """To the next worker that takes connections; None when none does."""
    for _ in range(tries):
        with suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", next(turns))
    return None


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes until it ends, then end the other side too."""
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), [int(word) for word in sys.argv[2:]]))
