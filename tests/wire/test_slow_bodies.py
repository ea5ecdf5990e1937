"""Clients whose body never arrives: they are told so, and take nobody's place for longer than a request may."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from tests.wire.server import Place, client_of, fleet, served, until

HEADERS = [
    (b"host", b"127.0.0.1:8765"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
    (b"content-length", b"100"),
]


async def answer_to_half_a_body(asgi: Any, path: str) -> tuple[int, bytes]:
    """Status and body of the answer to a POST that stops after its first byte."""
    parts: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[Message] = []

    async def receive() -> Message:
        if parts:
            return parts.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": HEADERS,
        "scheme": "http",
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8765),
    }
    async with asyncio.timeout(20):
        await asgi(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("path", ["/mcp", "/api/project/ensure"])
async def test_a_body_that_never_arrives_is_not_waited_for(place: Place, path: str) -> None:
    async with fleet(place, request_timeout_seconds=0.2) as server:
        status, body = await answer_to_half_a_body(server.asgi, path)
        assert status == 400
        assert b"did not arrive in time" in body


async def test_clients_that_are_stuck_shut_nobody_out_for_good(place: Place) -> None:
    async with (
        fleet(place, request_timeout_seconds=0.2, max_in_flight=2) as server,
        client_of(server) as client,
    ):
        await asyncio.gather(*(answer_to_half_a_body(server.asgi, "/mcp") for _ in range(3)))
        assert (await client.get("/api/project/list")).status_code == 200


async def test_requests_beyond_those_at_work_are_refused_on_mcp_too(one_process: str) -> None:
    async with served(one_process, request_timeout_seconds=5, max_in_flight=2) as server:
        stuck = [asyncio.create_task(answer_to_half_a_body(server.asgi, "/mcp")) for _ in range(2)]
        await until(lambda: server.metrics.in_flight == 2)
        assert (await answer_to_half_a_body(server.asgi, "/mcp"))[0] == 503
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
