"""A small HTTP/1.1 client that costs the generator little: one keep-alive connection, one request at a time.

It reads what our servers send and no more: `Content-Length` or chunked bodies. Requests are made as bytes beforehand
where that can be, so that the time measured is the server's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from urllib.parse import urlencode

import orjson

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
PATIENCE = 30.0
"""Seconds after which a request without an answer counts as failed."""


class Connection(asyncio.Protocol):
    """Opened at the first request, and again after it was lost."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self._credential = f"\r\nAuthorization: Bearer {token}\r\n".encode() if token else b""
        self.asked_at = 0.0
        self.answer_head = b""
        """Status line and headers of the last answer, as sent."""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = b""

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises ConnectionError when there is none."""
        loop = asyncio.get_running_loop()
        if self._credential:
            request = request.replace(b"\r\n", self._credential, 1)
        if self._transport is None or self._transport.is_closing():
            transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self.port)
            self._transport = transport
        self._received = b""
        self._answer = loop.create_future()
        self.asked_at = time.perf_counter()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    @property
    def is_overdue(self) -> bool:
        """Whether it has been waiting for too long."""
        return self._answer is not None and time.perf_counter() - self.asked_at > PATIENCE

    def abort(self) -> None:
        """Give up: the request in flight fails."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """More of an answer."""
        received = self._received = self._received + data if self._received else data
        head_end = received.find(HEAD_END)
        if head_end < 0:
            return
        self.answer_head = received[:head_end]
        head = self.answer_head.lower()
        body_at = head_end + len(HEAD_END)
        if (found := head.find(b"\r\ncontent-length:")) >= 0:
            line_end = head.find(b"\r\n", found + 2)
            length = int(head[found + 17 : line_end if line_end >= 0 else head_end])
            if len(received) >= body_at + length:
                self._finish(head, received[body_at : body_at + length])
        elif b"\r\ntransfer-encoding: chunked" in head:
            if received.endswith(LAST_CHUNK):
                self._finish(head, joined(received[body_at:]))
        else:
            self._finish(head, b"")

    def _finish(self, head: bytes, body: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))
        if b"\r\nconnection: close" in head and self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server, or `abort`, has closed it."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection was closed before the answer"))


def joined(chunked: bytes) -> bytes:
    """The body behind the chunks."""
    parts = []
    at = 0
    while (line_end := chunked.find(b"\r\n", at)) >= 0:
        size = int(chunked[at:line_end], 16)
        if size == 0:
            break
        parts.append(chunked[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(parts)


# --- requests as bytes ------------------------------------------------------------------------------------------------

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"


def get(path: str, **query: object) -> bytes:
    """A GET; True is written as JSON writes it."""
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
    target = f"{path}?{urlencode(texts)}" if texts else path
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n".encode()


def post(path: str, body: object, headers: str = "Accept: application/json\r\n") -> bytes:
    """A POST of JSON; `headers` are lines that end in CR LF."""
    data = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def call_tool(name: str, arguments: Mapping[str, object]) -> bytes:
    """A `tools/call` of revision 2026-07-28: no handshake, no session."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    headers = (
        "Accept: application/json, text/event-stream\r\n"
        f"MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: {name}\r\n"
    )
    return post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers)


def in_session(session_id: str, method: str, params: Mapping[str, object] | None, request_id: int | None = 1) -> bytes:
    """A request, or without an id a notification, of the handshake revisions; an empty session id is left out."""
    message: dict[str, object] = {"jsonrpc": "2.0", "method": method}
    message |= {"id": request_id} if request_id is not None else {}
    message |= {"params": params} if params is not None else {}
    headers = "Accept: application/json, text/event-stream\r\n"
    if session_id:
        headers += f"MCP-Protocol-Version: {HANDSHAKE}\r\nMcp-Session-Id: {session_id}\r\n"
    return post("/mcp", message, headers)
