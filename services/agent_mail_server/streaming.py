"""Answers that are written piece by piece: event streams and exports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.types import Send

from agent_mail_server.http_request import Answer, ClientGone, Headers, HttpRequest
from agent_mail_server.metrics import ServerMetrics

PIECE_TIMEOUT = 30.0
"""Seconds that a client may take for one piece: a slower one is let go."""


@dataclass(slots=True)
class StreamedAnswer(Answer):
    """An answer whose `body` is only its first piece. Whoever makes it has begun `rest`, which `send_pieces` ends.

    When `rest` raises, the connection is broken off: the client must not take what it got for all there is.
    """

    rest: AsyncGenerator[bytes, None] | None = None
    is_held_open: bool = False
    """Lasts as long as its client wants, and holds no place of MAX_IN_FLIGHT."""


async def send_pieces(
    answer: StreamedAnswer, http: HttpRequest, send: Send, headers: Headers, metrics: ServerMetrics
) -> None:
    """Send the answer to its end. Raises ClientGone, also for a client that does not read."""
    assert answer.rest is not None
    metrics.streams += answer.is_held_open
    writing = asyncio.ensure_future(_write(answer, answer.rest, http, send, headers))
    leaving = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            raise ClientGone
        writing.result()
    finally:
        metrics.streams -= answer.is_held_open
        leaving.cancel()
        writing.cancel()
        await asyncio.wait((writing, leaving))
        await answer.rest.aclose()


async def _write(
    answer: Answer, rest: AsyncGenerator[bytes, None], http: HttpRequest, send: Send, headers: Headers
) -> None:
    await _send(send, {"type": "http.response.start", "status": answer.status, "headers": headers})
    if http.scope["method"] != "HEAD":
        await _send(send, {"type": "http.response.body", "body": answer.body, "more_body": True})
        async for piece in rest:
            await _send(send, {"type": "http.response.body", "body": piece, "more_body": True})
    await _send(send, {"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, message: dict[str, object]) -> None:
    try:
        async with asyncio.timeout(PIECE_TIMEOUT):
            await send(message)
    except (OSError, RuntimeError, TimeoutError):  # how servers say that the connection is closed
        raise ClientGone from None


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
