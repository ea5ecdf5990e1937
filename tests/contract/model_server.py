"""A stand-in for a language model's endpoint, on a real socket, that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

GOOD = {
    "text": "Ann and Bob take Redis.",
    "decisions": [{"text": "They take Redis.", "message_id": 2}],
    "open_questions": [{"text": "Who pays?", "message_id": 3}],
    "action_items": [
        {"text": "Measure both.", "message_id": 1, "owner": "bob"},
        {"text": "Tell Zed.", "message_id": 1, "owner": "Zed", "done": True},
    ],
    "key_message_ids": [2, 1, 2],
}


def completion(answer: Any, finish_reason: str = "stop") -> bytes:
    """The body of an endpoint's answer."""
    content = answer if isinstance(answer, str) else json.dumps(answer)
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish_reason}]}).encode()


@dataclass
class ModelServer:
    """Says the next of `says`, the last one again and again; keeps what it was asked."""

    says: list[bytes] = field(default_factory=list)
    """Whole HTTP answers; an empty one hangs, `CLOSED` closes the connection."""
    heads: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0

    def answers(self, *answers: bytes) -> None:
        """What to say from now on."""
        self.says = list(answers)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for one request."""
        self.writers.add(writer)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            self.heads.append(head)
            self.asked.append(json.loads(await reader.readexactly(length)))
            says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
            if not says:
                await reader.read()  # until the client gives up
            elif says != CLOSED:
                writer.write(says)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.at_once -= 1
            writer.close()


CLOSED = b"closed"
HANG = b""


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


FAULTS: dict[str, bytes] = {
    "hangs": HANG,
    "closes": CLOSED,
    "half a head": b"HTTP/1.1 200",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
    "no HTTP": b"220 mail ready\r\n\r\n",
    "500": http(b"{}", "500 Oops"),
    "429": http(b"{}", "429 Later"),
    "401": http(b"{}", "401 Who"),
    "400": http(b"{}", "400 No"),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "redirect": http(b"", "307 Elsewhere", "Location: http://127.0.0.1:1/"),
    "garbage": http(b"\xff\xfe<html>"),
    "nested garbage": http(b"[" * 200_000),
    "truncated JSON": http(completion(GOOD)[:60]),
    "cut off by its length": http(completion(GOOD, "length")),
    "too large": http(b" " * 300_000 + completion(GOOD)),
    "endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b" " * 0xFFFF + b"\r\n" + HANG,
    "compressed": http(gzip.compress(b" " * 10_000_000), "200 OK", "Content-Encoding: gzip"),
    "no choice": http(b'{"choices": []}'),
    "no text": http(completion("")),
    "prose": http(completion("Sure! Here is the summary.")),
    "another schema": http(completion({"summary": "x"})),
    "wrong types": http(completion({**GOOD, "decisions": [{"text": "x", "message_id": "2"}]})),
    "too many": http(completion({**GOOD, "decisions": [{"text": "x", "message_id": 2}] * 41})),
    "too long": http(completion({**GOOD, "text": "x" * 2001})),
    "other messages": http(
        completion(
            {**GOOD, "decisions": [{"text": "x", "message_id": 9}], "open_questions": [], "action_items": []}
            | {"key_message_ids": []}
        )
    ),
}


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """A stand-in on a port of its own."""
    stand_in = ModelServer([http(completion(GOOD))])
    server = await asyncio.start_server(stand_in.handle, "127.0.0.1", 0)
    stand_in.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield stand_in
    finally:
        server.close()
        for writer in stand_in.writers:
            writer.close()
        await server.wait_closed()
