"""The floor: a Starlette application with one constant JSON answer, served as Agent Mail is.

`python -m bench.baseline PORT WORKERS`. What a figure of Agent Mail costs beyond this one is Agent Mail's own. Further
workers are processes that listen on the same port; the kernel deals the connections out.
"""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agent_mail_server.listening import BACKLOG, MOST_CONNECTIONS

ANSWER = {"status": "healthy", "version": "0.0.0", "uptime_seconds": 12.345}


async def constant(request: Request) -> JSONResponse:
    """The same few bytes, whatever is asked."""
    return JSONResponse(ANSWER)


app = Starlette(routes=[Route("/health", constant)])


async def serve(served: Any, port: int) -> None:
    """Serve an ASGI application until the process ends."""
    server = Server(
        served,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=BACKLOG,
        backpressure=MOST_CONNECTIONS,
        log_enabled=False,
    )
    await server.serve()


def main(serve_one: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Be the last of the workers; whoever started us ends the others with our group."""
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    for _ in range(workers - 1):
        if os.fork() == 0:
            break
    uvloop.run(serve_one(port))


if __name__ == "__main__":
    main(lambda port: serve(app, port))
