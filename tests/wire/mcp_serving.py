"""The MCP endpoint on a socket of this process, for clients of other makers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_mail_core.ports import Caller
from tests.wire.asgi_client import ANN, until


def with_caller(endpoint: ASGIApp, caller: Caller = ANN) -> ASGIApp:
    """What the server's middleware does before the endpoint."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = caller
            await endpoint(scope, receive, send)

    return app


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The application on a socket of this process; its URL."""
    config = uvicorn.Config(
        app, port=0, log_level="warning", lifespan="off", interface="asgi3", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        await task
