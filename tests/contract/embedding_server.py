"""A stand-in for an endpoint of embeddings: it answers with the vectors of Concepts until it is told otherwise."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.contract import stand_in
from tests.contract.concepts import Concepts
from tests.contract.stand_in import Received, StandIn, http, listening

DIMENSIONS = 256


def embeddings(vectors: list[list[Any]], *indexes: int) -> bytes:
    """The body of an endpoint's answer."""
    numbers = indexes or range(len(vectors))
    items = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in zip(numbers, vectors, strict=True)
    ]
    return json.dumps({"object": "list", "data": items, "model": "tiny"}).encode()


ONE = [1.0] + [0.0] * (DIMENSIONS - 1)
FAULTS: dict[str, bytes] = {
    **stand_in.FAULTS,
    "404": http(b"{}", "404 Where"),
    "no data": http(b"{}"),
    "none": http(embeddings([])),
    "too many": http(embeddings([ONE, ONE])),
    "another index": http(embeddings([ONE], 1)),
    "too short": http(embeddings([ONE[1:]])),
    "too long": http(embeddings([[*ONE, 0.0]])),
    "zero": http(embeddings([[0.0] * DIMENSIONS])),
    "not finite": http(embeddings([[1e308] * DIMENSIONS])),
    "overflowing together": http(embeddings([[1e154] * DIMENSIONS])),
    "NaN": http(embeddings([[float("nan"), *ONE[1:]]])),
    "not numbers": http(embeddings([["x"] * DIMENSIONS])),
    "base64": http(b'{"data": [{"index": 0, "embedding": "AACAPw=="}]}'),
    "too large": http(b" " * 200_000 + embeddings([ONE])),
}


@dataclass
class EmbeddingServer(StandIn):
    """Where an embedding model is asked. While it is told to say nothing it says vectors."""

    path = "/v1"
    refuses: str | None = None
    """Texts with this in them are answered with 400."""
    model: Concepts = field(default_factory=lambda: Concepts("tiny", DIMENSIONS))

    async def answer(self, received: Received) -> bytes:
        """As it was told, or the vectors: three times too long, and the last one first."""
        if self.says:
            return await super().answer(received)
        texts = received.json()["input"]
        if self.refuses is not None and any(self.refuses in text for text in texts):
            return http(b"{}", "400 No")
        vectors = [[number * 3 for number in vector] for vector in await self.model.embed(texts)]
        return http(embeddings(vectors[::-1], *reversed(range(len(vectors)))))


@asynccontextmanager
async def embedding_server() -> AsyncIterator[EmbeddingServer]:
    """A stand-in on a port of its own."""
    async with listening(EmbeddingServer()) as server:
        yield server
