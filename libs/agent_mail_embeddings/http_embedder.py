"""Asking an OpenAI-compatible `/embeddings` endpoint, within bounds.

No redirect is followed (it would carry the key elsewhere), no compressed answer is taken (a few bytes could become
gigabytes), no proxy or credential is read from the environment. What comes back is checked before anybody uses it: a
vector for each text, of the length that was agreed, of finite numbers. Errors never quote what was asked or answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import orjson
from pydantic import BaseModel, SecretStr, ValidationError

from agent_mail_core.embeddings import Embedder, EmbeddingFailed, TextRefused, Vector, vector_of

TEXTS_A_CALL = 32
CALLS_AT_ONCE = 4
BYTES_A_NUMBER, MORE_BYTES = 40, 64 * 1024
"""How long an answer may be: pretty-printed numbers of full precision, and what stands around them."""

REFUSED = frozenset({400, 413, 422})
"""Answers that say that the texts are at fault."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which model to ask."""

    base_url: str
    """Up to and without `/embeddings`."""
    model: str
    dimensions: int
    api_key: SecretStr | None = None
    timeout_seconds: float = 30.0
    """For one call. Who cannot wait so long gives up earlier."""


class _Item(BaseModel):
    index: int
    embedding: list[float]


class _Answer(BaseModel):
    data: list[_Item]


class HttpEmbedder(Embedder):
    """One model's endpoint. Close it at the end."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._places = asyncio.Semaphore(CALLS_AT_ONCE)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if endpoint.api_key is not None:
            headers["authorization"] = f"Bearer {endpoint.api_key.get_secret_value()}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=endpoint.timeout_seconds,
            follow_redirects=False,
            trust_env=False,
            # One more than those of jobs, so that a search never waits for their calls to end.
            limits=httpx.Limits(max_connections=CALLS_AT_ONCE + 4, max_keepalive_connections=CALLS_AT_ONCE),
        )

    @property
    def model(self) -> str:
        return f"http:{self._endpoint.model}"

    @property
    def dimensions(self) -> int:
        return self._endpoint.dimensions

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if len(texts) == 1:
            return await self._within_time(texts)
        vectors: list[Vector] = []
        for begin in range(0, len(texts), TEXTS_A_CALL):
            async with self._places:
                vectors += await self._within_time(texts[begin : begin + TEXTS_A_CALL])
        return vectors

    async def _within_time(self, texts: Sequence[str]) -> list[Vector]:
        try:
            async with asyncio.timeout(self._endpoint.timeout_seconds):
                content = await self._asked(texts)
        except TimeoutError:
            raise EmbeddingFailed("The embedding model did not answer in time.") from None
        except httpx.TransportError as error:
            raise EmbeddingFailed(f"The embedding model cannot be reached: {type(error).__name__}.") from None
        except httpx.InvalidURL:
            raise EmbeddingFailed("EMBEDDINGS_BASE_URL is not a URL.") from None
        return await asyncio.to_thread(_vectors, content, len(texts), self._endpoint.dimensions)

    async def _asked(self, texts: Sequence[str]) -> bytes:
        body = {"model": self._endpoint.model, "input": list(texts), "encoding_format": "float"}
        url = self._endpoint.base_url.rstrip("/") + "/embeddings"
        async with self._client.stream("POST", url, json=body) as response:
            if response.status_code in REFUSED:
                raise TextRefused(f"status {response.status_code}")
            if response.status_code != 200:
                raise EmbeddingFailed(f"The embedding model answered with status {response.status_code}.")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise EmbeddingFailed("The embedding model gave a compressed answer.")
            most = len(texts) * self._endpoint.dimensions * BYTES_A_NUMBER + MORE_BYTES
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > most:
                    raise EmbeddingFailed("The embedding model gave too large an answer.")
        return bytes(content)


def _vectors(content: bytes, count: int, dimensions: int) -> list[Vector]:
    """The vectors of an answer, in the order of the texts."""
    try:
        items = _Answer.model_validate(orjson.loads(content)).data
    except (orjson.JSONDecodeError, ValidationError):
        raise EmbeddingFailed("The embedding model gave no embeddings.") from None
    if sorted(item.index for item in items) != list(range(count)):
        raise EmbeddingFailed("The embedding model gave another number of embeddings than was asked for.")
    try:
        return [vector_of(item.embedding, dimensions) for item in sorted(items, key=lambda item: item.index)]
    except ValueError as error:
        raise EmbeddingFailed(f"The embedding model gave an embedding that cannot be used: {error}.") from None
