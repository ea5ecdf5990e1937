"""A model of static vectors from disk: a vector for each token, and a text is the mean of its tokens'.

Read is what Model2Vec writes: `tokenizer.json` and `model.safetensors` with the tensor `embeddings` and, if the file
has it, a weight for each token, `weights`. It takes some microseconds a text and no GPU. Nothing is ever downloaded.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_mail_core.embeddings import MOST_DIMENSIONS, Embedder, TextRefused, Vector
from agent_mail_core.settings_errors import SettingsError

if TYPE_CHECKING:
    import numpy
    from tokenizers import Tokenizer

MOST_TOKENS = 1024
TOKENIZER, TENSORS = "tokenizer.json", "model.safetensors"
MISSING_EXTRA = (
    "EMBEDDINGS: local needs the packages of the extra: pip install 'agent-mail[embeddings-local]' ({name} is missing)"
)


async def open_static_vectors(folder: str) -> StaticVectors:
    """The model in a folder. Raises SettingsError, which says what is missing or wrong."""
    return await asyncio.to_thread(_opened, Path(folder))


def _opened(folder: Path) -> StaticVectors:
    try:
        import numpy
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer
    except ImportError as error:
        raise SettingsError(MISSING_EXTRA.format(name=error.name)) from None
    for name in (TOKENIZER, TENSORS):
        if not (folder / name).is_file():
            raise SettingsError(f"EMBEDDINGS_PATH: there is no {name} in {folder}")
    try:
        tensors: dict[str, Any] = load_file(folder / TENSORS)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # noqa: BLE001 - both libraries raise classes of their own making for a broken file
        raise SettingsError(f"EMBEDDINGS_PATH: the model cannot be read: {type(error).__name__}") from None
    table = tensors.get("embeddings")
    if table is None or table.ndim != 2 or not 1 <= table.shape[1] <= MOST_DIMENSIONS:
        raise SettingsError(
            f"EMBEDDINGS_PATH: {TENSORS} has no tensor `embeddings` of at most {MOST_DIMENSIONS} columns"
        )
    if table.shape[0] < tokenizer.get_vocab_size():
        raise SettingsError(f"EMBEDDINGS_PATH: {TENSORS} has fewer vectors than {TOKENIZER} has tokens")
    table = table.astype(numpy.float32)
    weights = tensors.get("weights")
    if weights is not None:
        if weights.shape != (table.shape[0],):
            raise SettingsError(f"EMBEDDINGS_PATH: {TENSORS} has `weights` that do not fit its `embeddings`")
        table *= weights.astype(numpy.float32)[:, None]
    if not numpy.isfinite(table).all():
        raise SettingsError(f"EMBEDDINGS_PATH: {TENSORS} has numbers that are not finite")
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    return StaticVectors(tokenizer, table, _digest(folder))


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (TOKENIZER, TENSORS):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class StaticVectors(Embedder):
    """A model in memory. Its name is made of what is in its files, so that other files are another model."""

    def __init__(self, tokenizer: Tokenizer, table: numpy.ndarray[Any, Any], digest: str) -> None:
        self._tokenizer = tokenizer
        self._table = table
        self._digest = digest
        unknown = tokenizer.token_to_id("[UNK]")
        self._unknown = -1 if unknown is None else unknown

    @property
    def model(self) -> str:
        return f"local:{self._digest}"

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1])

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        return await asyncio.to_thread(self._embedded, texts)

    def _embedded(self, texts: Sequence[str]) -> list[Vector]:
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [self._mean([token for token in each.ids if token != self._unknown]) for each in encoded]

    def _mean(self, tokens: list[int]) -> Vector:
        if not tokens:
            raise TextRefused("no token of it is known")
        mean = self._table[tokens].mean(axis=0)
        length = float((mean @ mean) ** 0.5)
        if length == 0:
            raise TextRefused("its tokens have no direction")
        return array("f", (mean / length).tolist())
