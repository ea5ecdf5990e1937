"""A whole server in this process, without a listener: what REST and page tests talk to."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from agent_mail_core.clock import SystemClock
from agent_mail_core.settings import Settings
from agent_mail_server.running import RunningServer, running_server
from agent_mail_store.opening import open_store

URL = "http://127.0.0.1:8765"


@asynccontextmanager
async def served(database_url: str, **settings: Any) -> AsyncIterator[RunningServer]:
    """A server on a migrated database."""
    chosen = Settings.model_validate({"database_url": database_url, **settings})
    store = await open_store(chosen, SystemClock(), single_server=False)
    try:
        async with running_server(chosen, store) as server:
            yield server
    finally:
        await store.close()


@asynccontextmanager
async def client_of(server: RunningServer, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that speaks to the application itself. What the application raises is raised here."""
    transport = httpx.ASGITransport(server.asgi)
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
        yield client


async def until(holds: Callable[[], bool]) -> None:
    """Return when it holds; fail after five seconds."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def furnish(client: httpx.AsyncClient, *agents: str) -> None:
    """The project `shop` with agents."""
    await post(client, "project/ensure", human_key="/work/shop", slug="shop")
    for name in agents:
        await post(client, "agent/register", project_slug="shop", program="pytest", model="none", name=name)


async def post(client: httpx.AsyncClient, path: str, **arguments: Any) -> Any:
    """The result of a write that must succeed."""
    response = await client.post(f"/api/{path}", json=arguments)
    assert response.is_success, response.text
    return response.json()


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a refused request, in the one body that all have."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert list(error) == ["code", "message", "data", "request_id"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert isinstance(error["data"], dict)
    assert error["message"]
    return error
