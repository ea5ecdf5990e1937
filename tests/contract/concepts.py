"""A stand-in for an embedding model: it knows a few synonyms, and each thing it knows has a direction of its own."""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import Sequence

from agent_mail_core.embeddings import Embedder, EmbeddingFailed, TextRefused, Vector, vector_of
from agent_mail_core.search_text import parts

SYNONYMS = (
    "login signin authentication password credentials",
    "crash segfault panic abort",
    "deploy rollout ship release",
    "slow sluggish latency",
)
_CONCEPTS = {word: group.split()[0] for group in SYNONYMS for word in group.split()}


def _direction(concept: str, dimensions: int) -> list[float]:
    digest = hashlib.shake_256(concept.encode()).digest(dimensions)
    return [byte - 127.5 for byte in digest]


class Concepts(Embedder):
    """Counts what it is asked, and does as it is told."""

    def __init__(self, name: str = "concepts", dimensions: int = 256) -> None:
        self._name = name
        self._dimensions = dimensions
        self.texts: list[str] = []
        self.is_away = False
        self.hangs = False
        self.refuses = "\x00"
        """Texts with this in them."""

    @property
    def model(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_away:
            raise EmbeddingFailed("It is away.")
        if any(self.refuses in text for text in texts):
            raise TextRefused
        self.texts += texts
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        directions = [_direction(_CONCEPTS.get(word, word), self.dimensions) for word in parts(text)]
        if not directions:
            return array("f", [1.0] + [0.0] * (self.dimensions - 1))
        return vector_of([sum(numbers) for numbers in zip(*directions, strict=True)], self.dimensions)
