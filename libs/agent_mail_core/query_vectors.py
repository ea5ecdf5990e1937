"""Vectors of what people search for: within a second or not at all, kept for a while, and never more than asked for.

A model that fails or hangs is left alone for some seconds, in which searches do without it at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from agent_mail_core.embeddings import Embedder, EmbeddingFailed, TextRefused, Vector
from agent_mail_core.errors import Unavailable

DEADLINE = 1.0
KEPT_SECONDS, MOST_KEPT = 600.0, 500
REST_SECONDS = 5.0


class QueryVectors:
    """One a process."""

    def __init__(self, embedder: Embedder, deadline: float = DEADLINE) -> None:
        self.embedder = embedder
        self._deadline = deadline
        self._kept: OrderedDict[str, tuple[float, Vector]] = OrderedDict()
        self._asked: dict[str, asyncio.Task[Vector | None]] = {}
        self._rests_until = 0.0

    async def of(self, text: str) -> Vector | None:
        """The vector of a query; None when there is none in time. Those who ask the same at once share an answer."""
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(text)
        if kept is not None and kept[0] > now:
            return kept[1]
        if now < self._rests_until:
            return None
        task = self._asked.get(text)
        if task is None:
            task = self._asked[text] = asyncio.create_task(self._ask(text))
            task.add_done_callback(lambda _: self._asked.pop(text, None))
        return await asyncio.shield(task)

    async def _ask(self, text: str) -> Vector | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline):
                (vector,) = await self.embedder.embed([text])
        except TextRefused:
            return None
        except (EmbeddingFailed, Unavailable, TimeoutError):
            self._rests_until = loop.time() + REST_SECONDS
            return None
        self._kept[text] = (loop.time() + KEPT_SECONDS, vector)
        self._kept.move_to_end(text)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return vector
