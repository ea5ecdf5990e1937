"""The server process: opens the database, listens, and ends well on SIGTERM and Ctrl-C.

Granian runs embedded in this process, on this event loop. With one worker a process of its own would buy nothing, and
it costs: a killed parent leaves its worker holding port and database, a signal has to be handed down, SIGTERM with a
stream open never ends, and settings would travel by environment or pickle. Measured, the embedded server is as fast
(16 µs of CPU for a constant answer; 17 µs in a worker process), and 50 MB smaller. Several workers are several of these
processes, below a supervisor (`supervisor.py`), which replaces them one by one at SIGHUP. One worker alone begins again
in its process instead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

import structlog
import uvloop

from agent_mail_archive.opening import open_archive
from agent_mail_core import database_urls
from agent_mail_core.archive import Archive
from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import AgentMailError
from agent_mail_core.settings import Settings
from agent_mail_core.settings_errors import SettingsError
from agent_mail_migrations.runner import migrate
from agent_mail_server import requests_log
from agent_mail_server.docs_page import base_address
from agent_mail_server.errors import STATUS_AND_EXIT
from agent_mail_server.interpreter import set_for_serving
from agent_mail_server.listening import CannotListen, Listener, bound_sockets, listen, raise_file_limit
from agent_mail_server.metrics import ServerMetrics, SharedFigures
from agent_mail_server.running import RunningServer, running_server
from agent_mail_server.supervisor import Place, Supervisor
from agent_mail_store.opening import open_store

DRAIN_PATIENCE = 8.0
"""Seconds for requests in flight once waits and streams have been told to end."""

LAST_WORDS = 0.25
"""Seconds in which a connection that was just accepted brings its request."""

STOP_PATIENCE = 1.0
"""Seconds for open connections after that; idle ones close at once."""

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104


def serve(settings: Settings, warnings: list[str], read_again: Callable[[], Settings]) -> int:
    """Serve until told to stop; the exit status. `read_again` gives the settings that are taken at SIGHUP."""
    requests_log.configure(settings)
    log = structlog.get_logger()
    for warning in warnings:
        log.warning(warning)
    if settings.host in WILDCARDS and not settings.allowed_hosts:
        log.warning("ALLOWED_HOSTS is empty: only loopback names are answered; name those that clients use")
    raise_file_limit()
    return _guarded(lambda: _start(settings, read_again))


def _start(settings: Settings, read_again: Callable[[], Settings]) -> int:
    bound = bound_sockets(settings.host, settings.port, settings.workers)
    url = settings.database_url.get_secret_value()
    if database_urls.engine(url) == "sqlite":
        asyncio.run(migrate(url))
    if settings.workers == 1:
        return uvloop.run(_serve_alone(settings, bound[0], read_again))

    def work(place: Place, chosen: Settings) -> int:
        metrics = ServerMetrics(figures=figures, row=place.row)
        return _guarded(lambda: uvloop.run(_serve_supervised(chosen, place, metrics)))

    figures = SharedFigures(Supervisor.rows(settings.workers))
    supervisor = Supervisor(settings, bound, work, read_again, figures.forget_gauges, lambda: _announce(settings))
    return supervisor.run()


def _guarded(work: Callable[[], int]) -> int:
    """What `work` returns, or the exit status of the reason why it could not start, which is logged."""
    log = structlog.get_logger()
    try:
        return work()
    except CannotListen as error:
        log.error("cannot start", reason=str(error))
        return STATUS_AND_EXIT["unavailable"][1]
    except SettingsError as error:
        log.error("cannot start", reason=str(error))
        return STATUS_AND_EXIT["invalid"][1]
    except AgentMailError as error:
        log.error("cannot start", reason=error.message, code=error.code, **error.data)
        return STATUS_AND_EXIT[error.kind][1]


async def _serve_alone(settings: Settings, bound: socket.socket, read_again: Callable[[], Settings]) -> int:
    """In the only process. While it begins again connections wait; what is in memory alone is gone afterwards."""
    told, metrics = _Told(), ServerMetrics()
    reload = _Reload(settings, read_again, told)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.hear)
    code = await _serve(settings, bound, metrics, told, lambda: _announce(settings))
    while code == 0 and (chosen := reload.take()) is not None:
        code = await _serve(chosen, bound, metrics, told, lambda: structlog.get_logger().info("serving again"))
    return code


async def _serve_supervised(settings: Settings, place: Place, metrics: ServerMetrics) -> int:
    """In a worker process, also until nobody holds the other end of the lifeline."""
    told = _Told()
    told.obey(place)
    return await _serve(settings, place.bound, metrics, told, place.is_ready)


async def _serve(
    settings: Settings, bound: socket.socket, metrics: ServerMetrics, told: _Told, on_ready: Callable[[], None]
) -> int:
    """Serve on a socket until told to stop."""
    single_server = settings.redis_url is None
    store = await open_store(settings, SystemClock(), single_server=single_server)
    try:
        async with _archive(settings) as archive, running_server(settings, store, metrics, archive) as server:
            with set_for_serving():
                has_been_told = await _answer_until_told(settings, server, bound, told, on_ready)
    finally:
        await store.close()
    if not has_been_told:
        return 1
    structlog.get_logger().info("stopped", pid=os.getpid())
    return 0


async def _answer_until_told(
    settings: Settings, server: RunningServer, bound: socket.socket, told: _Told, on_ready: Callable[[], None]
) -> bool:
    """Listen, and leave when told to; False when the listener ended by itself."""
    listener = Listener(server.asgi, bound)
    listen(bound)
    serving = asyncio.create_task(listener.serve())
    stopping = asyncio.create_task(told.to_stop.wait())
    await asyncio.sleep(0)
    on_ready()
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        stopping.cancel()
        structlog.get_logger().error("the listener ended by itself")
        await serving
        return False
    await _leave(settings, server, listener, told)
    listener.stop()  # type: ignore[no-untyped-call]
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_PATIENCE):
            await serving
    return True


def _archive(settings: Settings) -> AbstractAsyncContextManager[Archive | None]:
    """Where a server writes it itself; those of a cluster never open a repository."""
    return open_archive(settings) if settings.redis_url is None else nullcontext()


async def _leave(settings: Settings, server: RunningServer, listener: Listener, told: _Told) -> None:
    """Take requests until their senders know better (SPEC §10), then let those in flight finish."""
    structlog.get_logger().info("stopping", pid=os.getpid(), is_replaced=told.is_replaced)
    server.leave(told.is_replaced)
    if told.is_replaced:  # the next one accepts already
        listener.accept_no_more()
    if not told.begins_again:  # whoever connects meanwhile waits for as long
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_seconds):
                await told.to_hurry.wait()
    listener.accept_no_more()
    with suppress(TimeoutError):
        async with asyncio.timeout(min(LAST_WORDS, settings.drain_seconds)):
            await told.to_hurry.wait()
    await server.drain(DRAIN_PATIENCE)


class _Told:
    """What this process has been told by signals, and by the end of its supervisor."""

    def __init__(self) -> None:
        self.to_stop = asyncio.Event()
        self.to_hurry = asyncio.Event()
        """Somebody at a keyboard waits, or the supervisor is gone."""
        self.is_replaced = False
        self.begins_again = False
        self.is_final = False
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._hurry)

    def obey(self, place: Place) -> None:
        """Listen to the supervisor too."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._replaced)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor's business
        loop.add_reader(place.lifeline, self._orphaned, place.lifeline)

    def begin_again(self) -> None:
        """Stop as one that is replaced: what connects from now on waits for the next round."""
        self.is_replaced = self.begins_again = True
        self.to_stop.set()

    def forget(self) -> None:
        """The next round begins."""
        self.is_replaced = self.begins_again = False
        self.to_stop.clear()

    def _stop(self) -> None:
        self.is_final = True
        self.to_stop.set()

    def _hurry(self) -> None:
        self._stop()
        self.to_hurry.set()

    def _replaced(self) -> None:
        self.is_replaced = not self.to_stop.is_set()
        self.to_stop.set()

    def _orphaned(self, lifeline: int) -> None:
        asyncio.get_running_loop().remove_reader(lifeline)
        structlog.get_logger().error("the supervisor is gone", pid=os.getpid())
        self._hurry()


class _Reload:
    """Settings that are read again at SIGHUP by a server that has no supervisor."""

    def __init__(self, settings: Settings, read_again: Callable[[], Settings], told: _Told) -> None:
        self._settings = settings
        self._read_again = read_again
        self._told = told
        self._chosen: Settings | None = None

    def hear(self) -> None:
        """Settings that cannot be used are told, and change nothing."""
        if self._told.is_final:
            return
        log = structlog.get_logger()
        try:
            chosen = self._read_again()
        except SettingsError as error:
            log.error("the settings cannot be used; the server stays as it is", reason=str(error))
            return
        # The port and the number of processes are what they are.
        kept = {name: getattr(self._settings, name) for name in ("host", "port", "workers")}
        self._chosen = chosen.model_copy(update=kept)
        self._told.begin_again()
        log.info("beginning again with the settings as they are now")

    def take(self) -> Settings | None:
        """What to serve with next; None when that was all."""
        chosen, self._chosen = self._chosen, None
        if chosen is None or self._told.is_final:
            return None
        self._told.forget()
        return chosen


def _announce(settings: Settings) -> None:
    """Write the line that says where."""
    url = base_address(settings)
    engine = database_urls.engine(settings.database_url.get_secret_value())
    shared = {"workers": settings.workers} if settings.redis_url is not None else {}
    structlog.get_logger().info("serving", url=url, mcp=f"{url}/mcp", docs=f"{url}/docs", database=engine, **shared)
