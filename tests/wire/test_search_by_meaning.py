"""Searching by meaning over REST and MCP, with a model behind a socket and the jobs of a server or a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from agent_mail_worker.metrics import JobMetrics
from agent_mail_worker.working import working
from tests.contract.embedding_server import DIMENSIONS, EmbeddingServer, embedding_server
from tests.contract.stand_in import http
from tests.wire.asgi_client import BOTH, MODERN
from tests.wire.server import Place, client_of, error_of, fleet, furnish, post

SHOP = {"project_slug": "shop"}


@pytest.fixture
async def model() -> AsyncIterator[EmbeddingServer]:
    async with embedding_server() as running:
        yield running


@pytest.fixture
async def client(place: Place, model: EmbeddingServer) -> AsyncIterator[httpx.AsyncClient]:
    """With mail that has been embedded; in a cluster by a job worker."""
    settings = {
        "embeddings": "http",
        "embeddings_base_url": model.url,
        "embeddings_model": "tiny",
        "embeddings_dimensions": DIMENSIONS,
    }
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(fleet(place, **settings))
        server = servers.servers[0]
        if place.redis_url is not None:
            await stack.enter_async_context(working(server.app, server.cluster.hear_jobs, JobMetrics(), 1.0))
        client = await stack.enter_async_context(client_of(servers))
        await furnish(client, "BlueLake", "GreenHill")
        mail = {**SHOP, "sender_name": "BlueLake", "recipient_names": ["GreenHill"], "body_md": ""}
        for subject in ("Credentials", "Segfault", "Rollout"):
            await post(client, "message/send", **mail, subject=subject)
        await until_found(client, "login", "Credentials")
        yield client


async def ask(client: httpx.AsyncClient, **arguments: Any) -> list[dict[str, Any]]:
    """The answers of both doors."""
    over_rest = (await client.get("/api/message/search", params={**SHOP, **arguments})).json()
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": "search_messages", "arguments": {**SHOP, **arguments}, "_meta": meta}
    headers = {
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "search_messages",
        "accept": BOTH,
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    result = (await client.post("/mcp", json=message, headers=headers)).json()["result"]
    return [over_rest, result.get("structuredContent") or json.loads(result["content"][0]["text"])]


async def until_found(client: httpx.AsyncClient, query: str, subject: str) -> None:
    """Return when a message is found by what it means; fail after ten seconds."""
    params = {**SHOP, "query": query, "mode": "semantic"}
    async with asyncio.timeout(10):
        while True:
            answer = (await client.get("/api/message/search", params=params)).json()
            if [hit["subject"] for hit in answer.get("hits", [])] == [subject]:
                return
            await asyncio.sleep(0.05)


async def test_both_doors_find_by_meaning(client: httpx.AsyncClient) -> None:
    for answer in await ask(client, query="password", mode="hybrid"):
        assert (answer["mode"], answer["semantic"]) == ("hybrid", "partial")
        assert [hit["subject"] for hit in answer["hits"]] == ["Credentials"]


async def test_mail_that_is_not_all_embedded_is_searched_by_text(client: httpx.AsyncClient) -> None:
    for answer in await ask(client, query="segfault"):
        assert (answer["mode"], answer["semantic"]) == ("text", "not_ready")
        assert [hit["subject"] for hit in answer["hits"]] == ["Segfault"]


async def test_what_is_sent_later_is_found_within_seconds(client: httpx.AsyncClient) -> None:
    mail = {**SHOP, "sender_name": "BlueLake", "recipient_names": ["GreenHill"], "body_md": ""}
    await post(client, "message/send", **mail, subject="Sluggish")
    await until_found(client, "latency", "Sluggish")


async def test_a_model_that_went_away_is_said(client: httpx.AsyncClient, model: EmbeddingServer) -> None:
    model.answers(http(b"{}", "500 Oops"))
    for answer in await ask(client, query="credentials outage", mode="hybrid"):
        assert (answer["mode"], answer["semantic"], answer["hits"]) == ("text", "failed", [])
    refused = await client.get("/api/message/search", params={**SHOP, "query": "another outage", "mode": "semantic"})
    assert (refused.status_code, error_of(refused)["code"]) == (503, "meaning_unavailable")
