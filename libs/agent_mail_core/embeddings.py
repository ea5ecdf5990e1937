"""Embeddings: mail as vectors, so that a search finds what means the same in other words. The port and the store.

A vector has length 1, so that a dot product is a similarity. Beside it stands its code, the sign of each number as a
bit: how many bits two codes have in common tells nearly as well how near the vectors are, at a thirtieth of the bytes.
Searches look through the codes of all messages in question, then weigh the best of them by their vectors.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NewType, Protocol, TypeAlias

from agent_mail_core.errors import Unavailable
from agent_mail_core.ids import MessageId, ProjectId, TeamId
from agent_mail_core.search_query import Query

ModelId = NewType("ModelId", int)

Vector: TypeAlias = "array[float]"
"""float32 (type code `f`), of length 1."""

MOST_DIMENSIONS = 4096
WEIGHED = 400
"""Messages that a search weighs by their vectors: the best by their codes."""

MOST_SEARCHED = 250_000
"""Vectors that a search looks through; where there are more, text search works alone."""

TEXT_CHARACTERS = 4000
"""Of a message that are embedded, its subject included: models read some hundred words."""


class EmbeddingFailed(Unavailable):
    """The embedding model did not answer as it should."""


class TextRefused(Exception):
    """The model will never take these texts, or one of them."""


class Embedder(Protocol):
    """A model that makes vectors of texts."""

    @property
    def model(self) -> str:
        """Its name, another one for whatever gives other vectors; at most 300 characters."""
        ...

    @property
    def dimensions(self) -> int:
        """Of each vector, at most MOST_DIMENSIONS."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text, in their order. Raises EmbeddingFailed and TextRefused."""
        ...


def vector_of(numbers: Sequence[float], dimensions: int) -> Vector:
    """Numbers as a vector. ValueError unless they are so many, finite, and not all zero."""
    if len(numbers) != dimensions:
        raise ValueError(f"{len(numbers)} dimensions instead of {dimensions}")
    length = math.sqrt(sum(number * number for number in numbers))
    if not math.isfinite(length) or length == 0:
        raise ValueError("not a direction")
    return array("f", [number / length for number in numbers])


def code_of(vector: Vector) -> bytes:
    """The signs of a vector, eight a byte; zeros fill the last one."""
    bits = "".join("1" if number > 0 else "0" for number in vector)
    size = (len(bits) + 7) // 8
    return int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big")


def embedded_text(subject: str, body: str) -> str:
    """What of a message is embedded."""
    return f"{subject}\n\n{body}"[:TEXT_CHARACTERS].rstrip()


# --- the store --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model as a team's mail is embedded with it."""

    id: ModelId
    dimensions: int
    is_ready: bool
    """All mail had its vector once; what came since follows within seconds."""


@dataclass(frozen=True, slots=True)
class UnembeddedMessage:
    """A message that has no vector yet."""

    id: MessageId
    subject: str
    body_md: str
    """Its beginning."""


@dataclass(frozen=True, slots=True)
class NewVector:
    """What came of embedding a message; None: the model does not take its text."""

    message_id: MessageId
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Sought:
    """What a search by meaning looks for."""

    model_id: ModelId
    vector: Vector
    demands: Query
    """What the messages must match besides."""


class Embeddings(Protocol):
    """Store of vectors. A message's go with it."""

    async def model(self, team_id: TeamId, name: str, dimensions: int) -> EmbeddingModel | None:
        """The team's model of that name and size."""
        ...

    async def use(self, team_id: TeamId, name: str, dimensions: int) -> EmbeddingModel:
        """The same, made when there is none; it is in use now."""
        ...

    async def missing(self, model_id: ModelId, project_id: ProjectId, limit: int) -> list[UnembeddedMessage]:
        """The first messages behind the project's position that have no vector, in order of their ids.

        None when the project is deleted.
        """
        ...

    async def keep(self, model_id: ModelId, vectors: Sequence[NewVector]) -> None:
        """Store them. Of a message that is gone, or that has one already, nothing changes."""
        ...

    async def advance(self, model_id: ModelId, project_id: ProjectId, added: int, settled: timedelta) -> None:
        """Count the vectors, and move the position to just before the first message that has none or is younger.

        `settled` is longer than any transaction, so that no message appears behind the position later.
        """
        ...

    async def is_wide(self, model_id: ModelId, project_ids: Sequence[ProjectId] | None, most: int) -> bool:
        """Whether these projects (None: the team) have more vectors than that."""
        ...

    async def behind(self, name: str, dimensions: int, limit: int) -> list[tuple[ProjectId, TeamId]]:
        """Projects with messages past the position that this model has in them; each may lack vectors."""
        ...

    async def lately(self, name: str, dimensions: int, limit: int) -> list[tuple[ProjectId, TeamId]]:
        """Projects with messages that lack a vector, among the newest `limit` messages of all."""
        ...

    async def complete(self, name: str, dimensions: int, settled: timedelta) -> None:
        """Mark this model as ready for the teams in which no message that is older lacks a vector."""
        ...

    async def used(self, name: str, dimensions: int) -> None:
        """Note that this model is in use, with all teams that have it."""
        ...

    async def forget(self, unused: timedelta, limit: int) -> int:
        """Remove models that were not in use for so long, at most so many of their vectors; how many."""
        ...
