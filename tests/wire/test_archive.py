"""The archive over the wire: the same answers on REST and on MCP, of what the server or a job worker has archived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.wire.server import Place, client_of, error_of, fleet_with_worker, furnish, served
from tests.wire.test_contacts import over_mcp, over_rest

SHOP = {"project_slug": "shop"}


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """Of servers where Ann has written to Bob; in a cluster with a job worker, whom both ask."""
    async with fleet_with_worker(place) as servers, client_of(servers) as client:
        await furnish(client, "Ann", "Bob")
        sent = {
            "sender_name": "Ann",
            "recipient_names": ["Bob"],
            "subject": "Hello",
            "body_md": "Hi",
            "thread_id": "T-1",
        }
        await over_rest(client, "send_message", **SHOP, **sent)
        async with asyncio.timeout(30):
            while not (await over_rest(client, "archive_log", **SHOP, path="messages"))["commits"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield client


async def asked(client: httpx.AsyncClient, operation: str, **arguments: Any) -> dict[str, Any]:
    """The answer, which both ways give."""
    answer = await over_rest(client, operation, **SHOP, **arguments)
    again = await over_mcp(client, operation, **SHOP, **arguments)
    for one in (answer, again):
        one.get("error", {}).pop("request_id", None)
    assert again == answer
    return answer


async def test_log_and_files(client: httpx.AsyncClient) -> None:
    [commit] = (await asked(client, "archive_log", path="threads/T-1.md", limit=5))["commits"]
    found = await asked(client, "archive_show", path="threads/T-1.md", commit=commit["commit"])
    assert "Ann to Bob: [Hello]" in found["text"]
    [message] = (await asked(client, "archive_show", inbox_of="Bob"))["messages"]
    assert (message["sender_name"], message["subject"]) == ("Ann", "Hello")
    assert (await asked(client, "archive_show", inbox_of="Bob", at="2020-01-01T00:00:00Z"))["messages"] == []


async def test_what_is_not_there(client: httpx.AsyncClient) -> None:
    assert (await asked(client, "archive_show", path="nothing"))["error"]["code"] == "archive_path_not_found"
    assert (await asked(client, "archive_show", commit="0123456"))["error"]["code"] == "archive_commit_not_found"
    assert (await asked(client, "archive_show", path="../x"))["error"]["code"] == "invalid_arguments"


@pytest.mark.postgres
@pytest.mark.valkey
async def test_without_a_job_worker_it_is_unavailable_before_the_request_is_given_up(
    fresh_postgres: str, empty_valkey: str
) -> None:
    async with (
        served(fresh_postgres, redis_url=empty_valkey, request_timeout_seconds=1) as server,
        client_of(server) as client,
    ):
        await furnish(client)
        error = error_of(await client.get("/api/archive/log", params=SHOP))
        assert error["code"] == "archive_unavailable"
        assert "get_thread" in error["data"]["suggestion"]
        foreign = await client.get("/api/archive/log", params={"project_slug": "other"})
        assert error_of(foreign)["code"] == "project_not_found"
