"""A worker's commands to Redis, over one connection that all of them share.

While Redis is away a command fails at once. One that gets no answer within the timeout takes the connection down, and
all that wait with it: nothing hangs, and what comes later finds a new connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from agent_mail_cluster.redis.errors import translate
from agent_mail_cluster.redis.link import Command, Link, LinkUser
from agent_mail_cluster.redis.urls import Server, server
from agent_mail_core.errors import Unavailable

PREFIX = "am:"
"""Every key and channel of ours begins with it."""

TIMEOUT = 1.0
MOST_OUTSTANDING = 20_000
MOST_COMPLAINTS = 100


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script: atomic, and one round trip."""

    text: str
    sha: str


def lua(text: str) -> Script:
    """A script from its text."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class RedisConnection(LinkUser):
    """Sends commands in order and hands out the answers. Made by `connect`; open it before use."""

    def __init__(self, server: Server, worker: str, timeout: float) -> None:
        self.worker = worker
        """16 hex digits that no other worker has."""
        self.timeout = timeout
        self.server = server
        self._link = Link("commands", server.make_connection, self, timeout)
        self._loop = asyncio.get_running_loop()
        self._outstanding: deque[tuple[asyncio.Future[Any] | None, float]] = deque()
        self._complaints: set[str] = set()
        self._on_up: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Try to connect; return when that is done or has failed. From then on the connection keeps itself up."""
        await self._link.open()

    async def close(self) -> None:
        """Let go of the connection; commands fail from now on."""
        await self._link.close()
        await self.server.close()

    @property
    def is_up(self) -> bool:
        """Whether commands are being taken, as far as is known. Costs nothing."""
        return self._link.is_up

    async def check(self) -> None:
        """Return when Redis answers, else raise Unavailable."""
        await self.call("PING")

    def on_up(self, handler: Callable[[], None]) -> None:
        """Call the handler each time that the connection has come up."""
        self._on_up.append(handler)

    async def call(self, *command: str | bytes | int | float) -> Any:
        """The answer to one command. Raises Unavailable."""
        try:
            return await self._send([command])[0]
        except ResponseError as error:
            raise translate(error) from error

    async def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several, sent together and not atomic. An error answer takes its place. Raises Unavailable."""
        answers = await asyncio.gather(*self._send(commands), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Unavailable):
                raise answer
        return answers

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int | float]) -> Any:
        """The answer of a script, which is loaded where it is not. Raises Unavailable."""
        try:
            return await self._send([("EVALSHA", script.sha, len(keys), *keys, *arguments)])[0]
        except NoScriptError:
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)
        except ResponseError as error:
            raise translate(error) from error

    def post(self, commands: Iterable[Command]) -> bool:
        """Send commands whose answers do not matter, without waiting; False when Redis is away."""
        posted = list(commands)
        if not self._link.send(posted):
            return False
        now = self._loop.time()
        self._outstanding.extend((None, now) for _ in posted)
        return True

    def _send(self, commands: Sequence[Command]) -> list[asyncio.Future[Any]]:
        if len(self._outstanding) >= MOST_OUTSTANDING or not self._link.send(commands):
            raise translate()
        now = self._loop.time()
        answers: list[asyncio.Future[Any]] = [self._loop.create_future() for _ in commands]
        self._outstanding.extend((answer, now) for answer in answers)
        return answers

    # --- what the link tells ------------------------------------------------------------------------------------------

    def linked(self) -> None:
        for handler in self._on_up:
            handler()

    def replied(self, reply: Any) -> None:
        answer, _ = self._outstanding.popleft()
        if isinstance(reply, ResponseError) and not isinstance(reply, NoScriptError):
            self._complain(str(reply))
        if answer is not None and not answer.done():
            if isinstance(reply, ResponseError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)
        if isinstance(reply, ReadOnlyError):  # this server has become a replica
            self._link.drop()

    def _complain(self, reason: str) -> None:
        """Log what the server refused, once each: rights that are missing, memory that is full."""
        if reason not in self._complaints and len(self._complaints) < MOST_COMPLAINTS:
            self._complaints.add(reason)
            structlog.get_logger().warning("redis refused a command", reason=reason)

    def beat(self, is_late: bool) -> None:
        if self._outstanding and not is_late and self._loop.time() - self._outstanding[0][1] > self.timeout:
            self._link.drop()
        elif not self._outstanding:
            self.post([("PING",)])

    def unlinked(self) -> None:
        lost, self._outstanding = self._outstanding, deque()
        for answer, _ in lost:
            if answer is not None and not answer.done():
                answer.set_exception(translate())


def connect(url: str, *, worker: str | None = None, timeout: float = TIMEOUT) -> RedisConnection:
    """A connection that is still to be opened; make it where the event loop runs.

    Raises ValueError for a URL that is none (see urls.py). `timeout` is how many seconds anything may take.
    """
    worker = worker or secrets.token_hex(8)
    return RedisConnection(server(url, f"agent-mail-{worker}"), worker, timeout)
