"""One connection to Redis that comes back by itself.

Owns connecting, reading, writing and noticing that the other side is gone; what the replies mean is its user's concern.
Commands written in one turn of the event loop leave together: one connection serves a whole worker, and a busy worker's
round trips cost it little (through a pool of connections each cost 160 µs of CPU, FINDINGS).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any, Protocol

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from agent_mail_cluster.redis.urls import MakeConnection

BEAT = 0.25
"""How often a link looks whether the other side still answers, in seconds."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts to connect; doubled each time."""

Command = tuple[str | bytes | int | float, ...]


class LinkUser(Protocol):
    """Who a link belongs to. No method may raise."""

    def linked(self) -> None:
        """The connection is there: send."""
        ...

    def replied(self, reply: Any) -> None:
        """The server said something; an error is an instance of ResponseError."""
        ...

    def beat(self, is_late: bool) -> None:
        """A BEAT has passed: call `drop` if the other side has been silent for too long.

        `is_late`: it was this process that slept; what came meanwhile has not been read yet, so nobody was silent.
        """
        ...

    def unlinked(self) -> None:
        """The connection is gone, and with it all that was sent and not answered."""
        ...


class Link:
    """Connects, and connects again. `send` while there is no connection says so."""

    def __init__(self, name: str, make_connection: MakeConnection, user: LinkUser, timeout: float) -> None:
        self.is_up = False
        self._name = name
        self._make_connection = make_connection
        self._user = user
        self._timeout = timeout
        self._connection: AbstractConnection | None = None
        self._outgoing: list[bytes] = []
        self._has_outgoing = asyncio.Event()
        self._dropped: asyncio.Event = asyncio.Event()
        self._was_tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    async def open(self) -> None:
        """Return after the first attempt to connect, however it went."""
        self._task = asyncio.create_task(self._keep_connected())
        await self._was_tried.wait()

    async def close(self) -> None:
        """Let go of the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def send(self, commands: Iterable[Command]) -> bool:
        """Send commands at the end of this turn of the event loop; False when there is no connection."""
        connection = self._connection
        if connection is None or not self.is_up:
            return False
        # All or nothing: one that cannot be packed must not leave others behind without anybody to take their answers.
        self._outgoing += [part for command in commands for part in connection.pack_command(*command)]
        self._has_outgoing.set()
        return True

    def drop(self) -> None:
        """Give the connection up and make another."""
        self._dropped.set()

    async def _keep_connected(self) -> None:
        pause = FIRST_PAUSE
        while True:
            connection = self._make_connection()
            try:
                async with asyncio.timeout(self._timeout):
                    await connection.connect()  # type: ignore[no-untyped-call]
                pause = FIRST_PAUSE
                await self._use(connection)
            except (RedisError, OSError, TimeoutError) as error:
                if pause == FIRST_PAUSE:  # once an outage
                    self._log.warning("redis is away", link=self._name, reason=f"{type(error).__name__}: {error}")
            except Exception:  # noqa: BLE001 - a fault of ours in reading a reply must not cut this worker off for good
                self._log.exception("redis link failed", link=self._name)
            finally:
                self._abandon(connection)
                await connection.disconnect(nowait=True)
            self._was_tried.set()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that workers do not come all at once
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _use(self, connection: AbstractConnection) -> None:
        """Serve until the connection fails or is dropped."""
        self._connection = connection
        self._dropped.clear()
        self.is_up = True
        tasks = [
            asyncio.create_task(work)
            for work in (self._read(connection), self._write(connection), self._beat(), self._dropped.wait())
        ]
        self._user.linked()
        self._was_tried.set()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        raise TimeoutError("it does not answer")

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            try:
                reply = await connection.read_response(disconnect_on_error=False)
            except ResponseError as error:
                reply = error
            self._user.replied(reply)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing.clear()
            outgoing, self._outgoing = self._outgoing, []
            await connection.send_packed_command(outgoing, check_health=False)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(BEAT)
            self._user.beat(is_late=loop.time() - began > 2 * BEAT)

    def _abandon(self, connection: AbstractConnection) -> None:
        if self._connection is connection:
            self._connection = None
            self.is_up = False
            self._outgoing.clear()
            self._has_outgoing.clear()
            self._user.unlinked()
