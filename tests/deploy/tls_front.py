"""TLS before a server that was built without: those of the wheels are. What is tested is our half, the client's."""

import asyncio
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
ASKS_FOR_TLS = struct.pack("!II", 8, 80877103)
"""PostgreSQL's SSLRequest message; the answer `S` is followed by the handshake."""

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass
class Front:
    """Where it listens, and which TLS versions clients agreed to."""

    port: int = 0
    versions: list[str] = field(default_factory=list)


@contextmanager
def tls_front(connect: Connect, certificate: Path, key: Path, asks_first: bool = False) -> Iterator[Front]:
    """A loopback port that speaks TLS and hands on to `connect()`; `asks_first` as PostgreSQL's clients do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    front, ready = Front(), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if asks_first:
                if await reader.readexactly(len(ASKS_FOR_TLS)) != ASKS_FOR_TLS:
                    writer.close()
                    return
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(context)
            front.versions.append(writer.get_extra_info("ssl_object").version())
            there, back = await connect()
            await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async def serve() -> None:
        server = await asyncio.start_server(hand_on, LOOPBACK, 0, ssl=None if asks_first else context)
        front.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10)
        yield front
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
