"""The staff of the team's day: twelve agents in two projects, each an MCP client on all workers in turn.

What is sent to an agent is written down beside it, in the order in which it was acknowledged to the sender.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agent_mail_client.client import MailClient

SHOP, STORE = "day-shop", "day-store"
STAFF = {
    SHOP: ["Lead", "Ada", "Ben", "Cem", "Dora", "Eli", "Fay", "Gus"],
    STORE: ["Hal", "Ivy", "Jan", "Kim"],
}
PATIENCE = 60.0
"""Seconds for one step of the day."""


class Wrong(Exception):
    """The day did not go as it should; says what was and what should have been."""


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
    expected: list[str] = field(default_factory=list)
    """Subjects of what it must have got, in the order in which they were acknowledged to their senders."""

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A tool's result in its own project; raises Wrong for an error."""
        given = {"project_slug": self.project, **arguments}
        answer = await self.client.call_tool(tool, given)
        if answer.is_error:
            raise Wrong(f"{self.name}: {tool} {given} was refused: {answer.content}")
        return answer.structured_content or {}

    async def as_agent(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The same for tools that say who acts as `agent_name`."""
        return await self.call(tool, agent_name=self.name, **arguments)


@dataclass
class Day:
    """The whole team, and what was done."""

    mates: dict[str, Mate]
    rest: MailClient
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, project: str) -> list[Mate]:
        """The agents of a project."""
        return [self.mates[name] for name in STAFF[project]]

    def count(self, what: str, seen: int, due: int) -> None:
        """Note a figure; raises Wrong when it is not the one that is due."""
        self.counts[what] = seen
        if seen != due:
            raise Wrong(f"{what}: {seen}, and {due} were due")

    async def send(self, sender: str, to: Sequence[str], subject: str, **more: Any) -> dict[str, Any]:
        """A message; recipients are addressed as the sender's project sees them."""
        mate = self.mates[sender]
        names = [
            name if self.mates[name].project == mate.project else f"{name}@{self.mates[name].project}" for name in to
        ]
        fields = {
            "sender_name": sender,
            "recipient_names": names,
            "subject": subject,
            "body_md": f"*{subject}*",
            **more,
        }
        sent = await mate.call("send_message", idempotency_key=f"{sender}-{subject}", **fields)
        for name in to:
            self.mates[name].expected.append(subject)
        return sent


@asynccontextmanager
async def team(urls: Sequence[str], token: str) -> AsyncIterator[Day]:
    """Connected clients, each on all the workers in turn."""
    async with AsyncExitStack() as stack:
        rest = await stack.enter_async_context(MailClient(urls[0], token=token))
        day = Day({}, rest)
        for number, (project, name) in enumerate((p, n) for p, names in STAFF.items() for n in names):
            web = httpx2.AsyncClient(
                transport=NextWorker(urls),
                timeout=httpx2.Timeout(PATIENCE),
                headers={"Authorization": f"Bearer {token}"},
            )
            await stack.enter_async_context(web)
            link = streamable_http_client(f"{urls[number % len(urls)]}/mcp", http_client=web)
            client = Client(link, mode="legacy" if number % 2 else "auto")
            day.mates[name] = Mate(name, project, await stack.enter_async_context(client))
        yield day
