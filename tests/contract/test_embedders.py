"""Embedders: what each of them promises, and that an endpoint which misbehaves gives an error and nothing else."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent_mail_core.embeddings import Embedder, EmbeddingFailed, TextRefused
from agent_mail_core.query_vectors import QueryVectors
from agent_mail_core.settings import Settings
from agent_mail_core.settings_errors import SettingsError
from agent_mail_embeddings.http_embedder import TEXTS_A_CALL, Endpoint, HttpEmbedder
from agent_mail_embeddings.opening import open_query_vectors
from tests.contract.embedding_server import DIMENSIONS, FAULTS, EmbeddingServer, embedding_server


@pytest.fixture
async def server() -> AsyncIterator[EmbeddingServer]:
    async with embedding_server() as running:
        yield running


@pytest.fixture
async def embedder(server: EmbeddingServer) -> AsyncIterator[HttpEmbedder]:
    endpoint = HttpEmbedder(Endpoint(server.url, "tiny", DIMENSIONS, SecretStr("key-1"), timeout_seconds=1))
    yield endpoint
    await endpoint.close()


async def test_each_text_gets_its_vector_of_length_one(embedder: HttpEmbedder, server: EmbeddingServer) -> None:
    texts = [f"text {number}" for number in range(TEXTS_A_CALL + 5)]
    vectors = await embedder.embed(texts)
    assert len(vectors) == len(texts)
    for vector, expected in zip(vectors, await server.model.embed(texts), strict=True):
        assert math.isclose(math.fsum(number * number for number in vector), 1, rel_tol=1e-5)
        assert all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(vector, expected, strict=True))
    assert [len(asked["input"]) for asked in server.asked] == [TEXTS_A_CALL, 5]
    assert server.asked[0]["model"] == "tiny"
    assert all(request.headers["authorization"] == "Bearer key-1" for request in server.received)
    assert server.received[0].path == "/v1/embeddings"


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_endpoint_that_misbehaves_is_a_failure(
    embedder: HttpEmbedder, server: EmbeddingServer, fault: str
) -> None:
    server.answers(FAULTS[fault])
    with pytest.raises(EmbeddingFailed) as failed:
        await embedder.embed(["a secret text"])
    assert "secret" not in failed.value.message
    assert "key-1" not in failed.value.message
    server.answers()
    assert len(await embedder.embed(["a text"])) == 1


async def test_a_redirect_is_not_followed(embedder: HttpEmbedder, server: EmbeddingServer) -> None:
    server.answers(FAULTS["redirect"])
    with pytest.raises(EmbeddingFailed, match="307"):
        await embedder.embed(["text"])
    assert len(server.received) == 1


async def test_texts_that_the_model_refuses_are_told_from_a_failure(
    embedder: HttpEmbedder, server: EmbeddingServer
) -> None:
    server.refuses = "poison"
    with pytest.raises(TextRefused):
        await embedder.embed(["good", "poison"])


async def test_nobody_there_is_a_failure() -> None:
    embedder = HttpEmbedder(Endpoint("http://127.0.0.1:1/v1", "tiny", DIMENSIONS))
    with pytest.raises(EmbeddingFailed):
        await embedder.embed(["text"])
    await embedder.close()


async def test_a_model_that_fails_is_left_alone_for_a_while(embedder: HttpEmbedder, server: EmbeddingServer) -> None:
    queries = QueryVectors(embedder)
    server.answers(FAULTS["500"])
    assert await queries.of("a") is None
    assert await queries.of("b") is None
    assert len(server.asked) == 1


async def test_the_settings_choose_the_embedder(server: EmbeddingServer) -> None:
    async with open_query_vectors(Settings()) as nothing:
        assert nothing is None
    chosen = Settings(
        embeddings="http",
        embeddings_base_url=server.url,
        embeddings_model="tiny",
        embeddings_dimensions=DIMENSIONS,
        embeddings_api_key=SecretStr("key-2"),
    )
    async with open_query_vectors(chosen) as queries:
        assert queries is not None
        assert (queries.embedder.model, queries.embedder.dimensions) == ("http:tiny", DIMENSIONS)
        assert await queries.of("text") is not None
    assert server.received[0].headers["authorization"] == "Bearer key-2"


async def static_vectors(folder: Path) -> Embedder:
    async with open_query_vectors(Settings(embeddings="local", embeddings_path=str(folder))) as queries:
        assert queries is not None
        return queries.embedder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of four words in the form that Model2Vec writes."""
    import numpy
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "login": 1, "password": 2, "crash": 3, "the": 4}, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = [[0, 0, 0], [1, 0.1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2]]
    weights = numpy.array([1, 1, 1, 1, 0.01], dtype=numpy.float32)
    save_file(
        {"embeddings": numpy.array(table, dtype=numpy.float16), "weights": weights}, tmp_path / "model.safetensors"
    )
    return tmp_path


async def test_static_vectors_are_read_from_disk(folder: Path) -> None:
    embedder = await static_vectors(folder)
    assert embedder.dimensions == 3
    login, crash, both = await embedder.embed(["The LOGIN", "crash", "login crash"])
    assert login[0] > 0.99
    assert crash.tolist() == [0, 1, 0]
    assert math.isclose(both[0], both[1], abs_tol=0.2)
    with pytest.raises(TextRefused):
        await embedder.embed(["unheard words"])


async def test_other_files_are_another_model(folder: Path) -> None:
    import numpy
    from safetensors.numpy import save_file

    before = (await static_vectors(folder)).model
    assert (await static_vectors(folder)).model == before
    save_file({"embeddings": numpy.eye(5, dtype=numpy.float32)}, folder / "model.safetensors")
    assert (await static_vectors(folder)).model != before


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("tokenizer.json", None, "no tokenizer.json"),
        ("model.safetensors", None, "no model.safetensors"),
        ("tokenizer.json", b"{", "cannot be read"),
        ("model.safetensors", b"\xff" * 100, "cannot be read"),
    ],
)
async def test_a_model_that_cannot_be_read_stops_the_start(
    folder: Path, name: str, content: bytes | None, complaint: str
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(SettingsError, match=complaint):
        await static_vectors(folder)


@pytest.mark.parametrize(
    "table, complaint",
    [
        ([[1.0, 0.0]] * 4, "fewer vectors"),
        ([1.0] * 5, "no tensor"),
        ([[float("nan")]] * 5, "not finite"),
    ],
)
async def test_tensors_that_do_not_fit_stop_the_start(folder: Path, table: list[float], complaint: str) -> None:
    import numpy
    from safetensors.numpy import save_file

    save_file({"embeddings": numpy.array(table, dtype=numpy.float32)}, folder / "model.safetensors")
    with pytest.raises(SettingsError, match=complaint):
        await static_vectors(folder)
