"""Opening the embedder that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_mail_core.query_vectors import QueryVectors
from agent_mail_core.settings import Settings


@asynccontextmanager
async def open_query_vectors(settings: Settings) -> AsyncIterator[QueryVectors | None]:
    """The model of EMBEDDINGS, open while the block lasts; None when it is off. Raises SettingsError."""
    if settings.embeddings == "off":
        yield None
    elif settings.embeddings == "local":
        # Most installations have no model, and start without what it takes.
        from agent_mail_embeddings.static_vectors import open_static_vectors

        assert settings.embeddings_path is not None
        yield QueryVectors(await open_static_vectors(settings.embeddings_path))
    else:
        from agent_mail_embeddings.http_embedder import Endpoint, HttpEmbedder

        assert settings.embeddings_base_url is not None
        assert settings.embeddings_model is not None
        assert settings.embeddings_dimensions is not None
        endpoint = Endpoint(
            settings.embeddings_base_url,
            settings.embeddings_model,
            settings.embeddings_dimensions,
            settings.embeddings_api_key,
        )
        embedder = HttpEmbedder(endpoint)
        try:
            yield QueryVectors(embedder)
        finally:
            await embedder.close()
