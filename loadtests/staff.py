"""The staff of the team's day: twelve agents in two projects, each an MCP client on all workers in turn.

What is sent to an agent is written down beside it, in the order in which it was acknowledged to the sender. Nothing of
that comes from an answer but ids, so that what the servers say is compared with what the day did.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agent_mail_client.client import MailClient

SHOP_NAMES = ["Lead", "Ada", "Ben", "Cem", "Dora", "Eli", "Fay", "Gus"]
STORE_NAMES = ["Hal", "Ivy", "Jan", "Kim"]
PATIENCE = 60.0
"""Seconds for one step of the day."""
PROMPT = 2.5
"""Seconds in which a wait ends once there is something: long for a wake-up, too short for a call that looks again."""
UNDER_WAY = 0.05
"""Seconds from a call that is counted as waiting to one that waits; should it take longer, it finds what is there."""


class Wrong(Exception):
    """The day did not go as it should; says what was and what should have been."""


class Mail(NamedTuple):
    """A message as it stands in an inbox."""

    sender: str
    subject: str
    kind: str = "to"


class NextWorker(httpx2.AsyncBaseTransport):
    """Sends each request to the next worker, whatever its address says."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = cycle([httpx2.URL(url) for url in urls])
        self._inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As the port asks."""
        worker = next(self._urls)
        request.url = request.url.copy_with(host=worker.host, port=worker.port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


@dataclass
class Mate:
    """An agent at work."""

    name: str
    project: str
    client: Client
    expected: list[Mail] = field(default_factory=list)
    """What it must have got, in the order in which it was acknowledged to the senders."""

    def seen_from(self, project: str) -> str:
        """Its address in a project."""
        return self.name if project == self.project else f"{self.name}@{self.project}"

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A tool's result; raises Wrong for an error."""
        answer = await self.client.call_tool(tool, arguments)
        if answer.is_error:
            raise Wrong(f"{self.name}: {tool} {arguments} was refused: {answer.content}")
        return answer.structured_content or {}

    async def at_home(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The same in its own project."""
        return await self.call(tool, project_slug=self.project, **arguments)

    async def as_agent(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The same for tools that say who acts as `agent_name`."""
        return await self.at_home(tool, agent_name=self.name, **arguments)


@dataclass
class Day:
    """The whole team, and what was done."""

    shop: str
    store: str
    """Slugs and keys of the two projects, which no other day has."""
    product: str
    workers: list[MailClient]
    mates: dict[str, Mate] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def rest(self) -> MailClient:
        """For what no agent does."""
        return self.workers[0]

    def of(self, project: str) -> list[Mate]:
        """The agents of a project."""
        return [mate for mate in self.mates.values() if mate.project == project]

    def count(self, what: str, seen: int, due: int) -> None:
        """Note a figure; raises Wrong when it is not the one that is due."""
        self.counts[what] = seen
        if seen != due:
            raise Wrong(f"{what}: {seen}, and {due} were due")

    def expect(self, sender: str, names: Sequence[str], subject: str, kind: str = "to") -> None:
        """Write down that these must get it; `sender` is an agent of the staff, or who writes in its own name."""
        for name in names:
            mate = self.mates[name]
            known_as = self.mates[sender].seen_from(mate.project) if sender in self.mates else sender
            mate.expected.append(Mail(known_as, subject, kind))

    async def send(self, sender: str, to: Sequence[str], subject: str, **more: Any) -> dict[str, Any]:
        """A message; recipients are addressed as the sender's project sees them."""
        mate = self.mates[sender]
        sent = await mate.at_home(
            "send_message",
            sender_name=sender,
            recipient_names=[self.mates[name].seen_from(mate.project) for name in to],
            subject=subject,
            body_md=f"*{subject}*",
            idempotency_key=f"{sender}-{subject}",
            **more,
        )
        self.expect(sender, to, subject)
        return sent

    async def prompt(self, waiting: Awaitable[dict[str, Any]], news: Awaitable[Any]) -> dict[str, Any]:
        """What a call answers that waits for `news`, which comes once it waits; Wrong when it is not woken by that."""
        call = asyncio.ensure_future(waiting)
        while not await self._somebody_waits():
            if call.done():
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(UNDER_WAY)
        await news
        begun = time.monotonic()
        answer = await call
        late = time.monotonic() - begun
        if late > PROMPT:
            raise Wrong(f"a waiting call answered {late:.1f} s after what it waited for: nothing woke it")
        return answer

    async def _somebody_waits(self) -> bool:
        told = await asyncio.gather(*(worker.call("metrics") for worker in self.workers))
        return any(one["waiting_calls"] for one in told)


@asynccontextmanager
async def team(urls: Sequence[str], token: str) -> AsyncIterator[Day]:
    """Connected clients, each on all the workers in turn."""
    async with AsyncExitStack() as stack:
        number = secrets.token_hex(4)
        workers = [await stack.enter_async_context(MailClient(url, token=token)) for url in urls]
        day = Day(f"day-shop-{number}", f"day-store-{number}", f"Day {number}", workers)
        staff = [(day.shop, name) for name in SHOP_NAMES] + [(day.store, name) for name in STORE_NAMES]
        for place, (project, name) in enumerate(staff):
            web = httpx2.AsyncClient(
                transport=NextWorker(urls),
                timeout=httpx2.Timeout(PATIENCE),
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
            await stack.enter_async_context(web)
            link = streamable_http_client(f"{urls[place % len(urls)]}/mcp", http_client=web)
            client = Client(link, mode="legacy" if place % 2 else "auto")
            day.mates[name] = Mate(name, project, await stack.enter_async_context(client))
        yield day
