"""Taking the same steps on both twins, until they differ."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random
from unittest import mock

from tests.twins.likeness import RANKED, SHAPE_ALONE, difference, unranked
from tests.twins.steps import Call, Chores, Pass, Step
from tests.twins.twin import Heard, Twin, open_twin

DRAWERS = ("agent_names", "attachments", "deciding", "project_deletion")
"""Modules of the core that draw random names, which order lists and make names near to each other."""


@dataclass(frozen=True)
class Twins:
    """Both, on databases with nothing in them."""

    first: Twin
    second: Twin

    async def take(self, steps: Sequence[Step]) -> str | None:
        """What is the first difference between them, if any."""
        for number, step in enumerate(steps):
            found = await self._difference(number, step)
            if found is not None:
                return f"step {number}, {step}: {found}"
        return None

    async def _difference(self, number: int, step: Step) -> str | None:
        heard = []
        for twin in (self.first, self.second):
            with drawn_alike(number):
                match step:
                    case Call():
                        heard.append(await twin.call(step))
                    case Pass():
                        await twin.pass_time(step.seconds)
                    case Chores():
                        await twin.do_chores()
        return self._compared(step, heard[0], heard[1]) if isinstance(step, Call) else None

    def _compared(self, call: Call, first: Heard, second: Heard) -> str | None:
        if first.is_success is not second.is_success:
            return f"{first} | {second}"
        one, other = _readable(first), _readable(second)
        if call.operation == RANKED:
            one, other = unranked(one), unranked(other)
        return difference(one, other, (self.first.names, self.second.names), call.operation in SHAPE_ALONE)


def _readable(heard: Heard) -> object:
    """A file as the lines of its text: as REST gives it, or as a tool does."""
    content = heard.body
    if isinstance(content, dict) and "content_base64" in content:
        content = base64.b64decode(content["content_base64"])
    return content.decode("utf-8", "backslashreplace").splitlines() if isinstance(content, bytes) else content


class Draws(Random):
    """Stands in for `secrets`, as far as names are drawn with it."""

    def token_hex(self, size: int) -> str:
        return self.randbytes(size).hex()

    def token_bytes(self, size: int) -> bytes:
        return self.randbytes(size)

    def randbelow(self, end: int) -> int:
        return self.randrange(end)


@contextmanager
def drawn_alike(seed: int) -> Iterator[None]:
    """Within the block, names are drawn as they are with this seed."""
    with ExitStack() as stack:
        for module in DRAWERS:
            stack.enter_context(mock.patch(f"agent_mail_core.{module}.secrets", Draws(seed)))
        yield


@asynccontextmanager
async def open_twins(urls: Sequence[str], first_speaks_mcp: bool) -> AsyncIterator[Twins]:
    """Twins on two migrated, empty databases; one of them speaks MCP and the other REST."""
    async with open_twin(urls[0], first_speaks_mcp) as first, open_twin(urls[1], not first_speaks_mcp) as second:
        yield Twins(first, second)
