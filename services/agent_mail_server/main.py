"""The server process: opens the database, listens, and ends well on SIGTERM and Ctrl-C.

Granian runs embedded in this process, on this event loop. With one worker a process of its own would buy nothing, and
it costs: a killed parent leaves its worker holding port and database, a signal has to be handed down, SIGTERM with a
stream open never ends, and settings would travel by environment or pickle. Measured, the embedded server is as fast
(16 µs of CPU for a constant answer; 17 µs in a worker process). Several workers will be several of these processes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import signal
import socket
from contextlib import suppress

import structlog
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from agent_mail_core import database_urls
from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import AgentMailError
from agent_mail_core.settings import Settings
from agent_mail_migrations.runner import migrate
from agent_mail_server import requests_log
from agent_mail_server.docs_page import base_address
from agent_mail_server.errors import STATUS_AND_EXIT
from agent_mail_server.running import running_server
from agent_mail_store.opening import open_store

DRAIN_PATIENCE = 3.0
"""Seconds for requests in flight once the server stops."""

STOP_PATIENCE = 1.0
"""Seconds for open connections after that; idle ones close at once."""

MOST_CONNECTIONS = 65_536
"""Granian's `backpressure` counts connections, waiting and streaming ones too; MAX_IN_FLIGHT bounds the work."""

BACKLOG = 1024
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104


class CannotListen(Exception):
    """The address cannot be listened on; says why."""


def serve(settings: Settings, warnings: list[str]) -> int:
    """Serve until told to stop; the exit status."""
    requests_log.configure(settings)
    log = structlog.get_logger()
    for warning in warnings:
        log.warning(warning)
    if settings.host in WILDCARDS and not settings.allowed_hosts:
        log.warning("ALLOWED_HOSTS is empty: only loopback names are answered; name those that clients use")
    try:
        return uvloop.run(_serve(settings))
    except CannotListen as error:
        log.error("cannot start", reason=str(error))
        return STATUS_AND_EXIT["unavailable"][1]
    except AgentMailError as error:
        log.error("cannot start", reason=error.message, code=error.code, **error.data)
        return STATUS_AND_EXIT[error.kind][1]


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _raise_file_limit()
    address = await _address(settings.host, settings.port)
    url = settings.database_url.get_secret_value()
    if database_urls.engine(url) == "sqlite":
        await migrate(url)
    store = await open_store(settings, SystemClock(), single_server=True)
    try:
        async with running_server(settings, store) as server:
            listener = _listener(server.asgi, address, settings.port)
            serving = asyncio.create_task(listener.serve())
            await _announce(settings, address, store.engine, serving)
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                stopping.cancel()
                structlog.get_logger().error("the listener ended by itself")
                await serving
                return 1
            structlog.get_logger().info("stopping")
            await server.drain(DRAIN_PATIENCE)
            listener.stop()  # type: ignore[no-untyped-call]
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_PATIENCE):
                    await serving
    finally:
        await store.close()
    structlog.get_logger().info("stopped")
    return 0


def _listener(asgi: object, address: str, port: int) -> Server:
    logging.getLogger("_granian").propagate = True
    return Server(
        asgi,
        address=address,
        port=port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=BACKLOG,
        backpressure=MOST_CONNECTIONS,
        log_enabled=False,
    )


async def _announce(settings: Settings, address: str, engine: str, serving: asyncio.Task[None]) -> None:
    """Write the line that says where, once connections are taken."""
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(_reachable(address), settings.port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        url = base_address(settings)
        structlog.get_logger().info("serving", url=url, mcp=f"{url}/mcp", docs=f"{url}/docs", database=engine)
        return


def _reachable(address: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104


async def _address(host: str, port: int) -> str:
    """The address of a host name, IPv4 first. Raises CannotListen when there is none or it is taken.

    The listener itself would share the port with another server in silence (SO_REUSEPORT).
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise CannotListen(f"HOST: {host} is not an address of this machine: {error.strerror}.") from None
    family, _, _, _, place = min(found, key=lambda item: item[0] != socket.AF_INET)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotListen(f"Port {port} on {host} is taken: stop what listens there, or set PORT.") from None
            raise CannotListen(f"Cannot listen on {host}, port {port}: {error.strerror}.") from None
    return str(place[0])


def _raise_file_limit() -> None:
    """A thousand waiting calls are a thousand open sockets; the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16) if hard > 0 else 1 << 16, hard))
