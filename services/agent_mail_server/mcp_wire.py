"""One HTTP request of the MCP endpoint as a JSON-RPC message, and the plain answers.

Owns what is checked before anything is performed: media types, size, JSON, the shape of a message. Which method may be
called how is the endpoint's concern. Whatever is refused raises `Refused`, and every answer with a body is JSON.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, ErrorData, RequestId
from starlette.types import Receive, Scope, Send

from agent_mail_core.errors import AgentMailError, MalformedRequest
from agent_mail_server.arguments import parse_json
from agent_mail_server.errors import error_body, http_status
from agent_mail_server.http_request import retry_headers

HeaderList = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")


class Refused(Exception):
    """The request is answered with an error instead of being performed."""

    def __init__(
        self,
        status: int,
        message: str,
        code: int = INVALID_REQUEST,
        *,
        message_id: RequestId | None = None,
        data: Any = None,
        headers: HeaderList | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = ErrorData(code=code, message=message, data=data)
        self.message_id = message_id
        self.headers = headers or []


class Message(NamedTuple):
    """A JSON-RPC message: a request has method and id, a notification no id, a response no method."""

    body: dict[str, Any]
    method: str | None
    params: dict[str, Any] | None
    id: RequestId | None


class Reply(NamedTuple):
    """What a request is answered with: a JSON-RPC message, and the HTTP status it has outside a stream."""

    status: int
    body: bytes


def read_headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; the values of one that is repeated are joined by commas (RFC 9110 §5.3)."""
    lines = header_lines(scope)
    headers = dict(lines)
    if len(headers) != len(lines):
        headers = {}
        for name, value in lines:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def header_lines(scope: Scope) -> list[tuple[str, str]]:
    """Headers one by one, to find those that are repeated."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


@lru_cache(maxsize=64)
def accepted(accept: str) -> tuple[bool, bool]:
    """Whether an Accept header lets JSON through, and event streams."""
    types = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    any_type = "*/*" in types
    return (
        any_type or not types.isdisjoint(("application/json", "application/*")),
        any_type or not types.isdisjoint(("text/event-stream", "text/*")),
    )


@lru_cache(maxsize=64)
def is_json(content_type: str) -> bool:
    """Whether a Content-Type header says JSON. A page of a foreign origin can send others without asking first."""
    return content_type.split(";")[0].strip().lower() == "application/json"


async def read_body(receive: Receive, headers: dict[str, str], limit: int) -> bytes | None:
    """The body, or None when the client left before its end. Raises Refused past `limit` bytes."""
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        chunk: bytes = event.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if not event.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"The body is larger than {limit} bytes.", data={"limit": limit})


def parse_message(body: bytes, max_depth: int) -> Message:
    """The one JSON-RPC message that a body is. Raises Refused."""
    try:
        value = parse_json(body, max_depth)
    except MalformedRequest as error:
        raise Refused(400, f"Parse error: {error.message}", PARSE_ERROR) from None
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        hint = "; batches are not offered" if isinstance(value, list) else ""
        raise Refused(400, f"The body must be a single JSON-RPC 2.0 message object{hint}.")
    message_id = value.get("id")
    if isinstance(message_id, bool) or not isinstance(message_id, str | int | None):
        raise Refused(400, "id must be a string or an integer.")
    method = value.get("method")
    params = value.get("params")
    if "id" in value and message_id is None and (method is not None or "error" not in value):
        raise Refused(400, "id must be a string or an integer.")
    if method is None:
        if "result" not in value and "error" not in value:
            raise Refused(400, "The message has no method.", message_id=message_id)
    elif not isinstance(method, str):
        raise Refused(400, "method must be a string.", message_id=message_id)
    if params is not None and not isinstance(params, dict):
        raise Refused(400, "params must be an object.", message_id=message_id)
    return Message(value, method, params, message_id)


def error_message(message_id: RequestId | None, error: ErrorData) -> bytes:
    """A JSON-RPC error as bytes."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return orjson.dumps({"jsonrpc": "2.0", "id": message_id, "error": body})


def result_message(message_id: RequestId | None, result: dict[str, Any]) -> bytes:
    """A JSON-RPC result as bytes."""
    return orjson.dumps({"jsonrpc": "2.0", "id": message_id, "result": result})


async def send_json(send: Send, status: int, body: bytes, headers: HeaderList) -> None:
    """Answer with JSON."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [JSON_TYPE, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_empty(send: Send, status: int, headers: HeaderList) -> None:
    """Answer without a body."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0"), *headers]})
    await send({"type": "http.response.body", "body": b""})


async def send_refusal(send: Send, refused: Refused) -> None:
    """Answer with a JSON-RPC error."""
    await send_json(send, refused.status, error_message(refused.message_id, refused.error), refused.headers)


def refusal(error: AgentMailError, request_id: str, message_id: RequestId | None = None) -> Refused:
    """An error of a port or of a limit, outside a tool call."""
    body = error_body(error, request_id)["error"]
    headers = retry_headers(error)
    return Refused(http_status(error), error.message, INTERNAL_ERROR, message_id=message_id, data=body, headers=headers)
