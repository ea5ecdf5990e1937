"""One HTTP request on its way through the server, and the answer that it gets."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import orjson
from starlette.types import Receive, Scope

from agent_mail_core.errors import AgentMailError, Limited, TooLarge, Unavailable
from agent_mail_core.ports import Caller
from agent_mail_server.errors import RETRY_AFTER_SECONDS, error_body, http_status, internal_error
from agent_mail_server.limiting import refusal_headers

Headers = list[tuple[bytes, bytes]]
JSON = b"application/json"
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""


@dataclass(slots=True)
class HttpRequest:
    """A request. Headers that decide something come once (`security.Guard`); of others the last value counts."""

    scope: Scope
    receive: Receive
    headers: dict[bytes, bytes]
    request_id: str
    path_values: Mapping[str, str] = field(default_factory=dict)
    caller: Caller | None = None
    operation: str | None = None
    """Its name, for the access log."""

    async def body(self, limit: int) -> bytes:
        """The whole request body. Raises TooLarge as soon as it is known to exceed `limit`, ClientGone."""
        declared = self.headers.get(b"content-length")
        if declared is not None and (not declared.isdigit() or int(declared[:20]) > limit):
            raise too_large(limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            if not message.get("more_body", False):
                return b"".join(chunks) + chunk if chunks else chunk
            chunks.append(chunk)


def too_large(limit: int) -> TooLarge:
    """The error for a body over the limit."""
    return TooLarge(f"The body is larger than {limit} bytes.", max_body_bytes=limit)


class RequestIds:
    """Ids of one worker: a random beginning, which no other worker has, and a number. They are names, not secrets."""

    def __init__(self) -> None:
        self._beginning = secrets.token_hex(6)
        self._numbers = count(1)

    def given_or_new(self, given: bytes | None) -> str:
        """The client's id for this request if it is a plain one, so that its log and ours can be joined; else one."""
        if given is not None and REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{self._beginning}{next(self._numbers):06x}"


@dataclass(slots=True)
class Answer:
    """A complete answer. Headers that all answers have are added when it is sent."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: Headers = field(default_factory=list)
    security: Headers | None = None
    """Security headers of a page; None: those of data."""
    code: str | None = None
    """Of the error, for the access log."""


def error_answer(error: AgentMailError, request_id: str) -> Answer:
    """The answer that refuses a request."""
    status = http_status(error)
    headers = retry_headers(error)
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="agent-mail"'))
    return Answer(status, dumped(error_body(error, request_id)), headers=headers, code=error.code)


def retry_headers(error: AgentMailError) -> Headers:
    """When to come back, after an error that a later try may not meet."""
    if not isinstance(error, Limited | Unavailable):
        return []
    seconds = error.data.get("retry_after_seconds", RETRY_AFTER_SECONDS)
    return [(b"retry-after", b"%d" % seconds), *refusal_headers(error.data)]


def internal_error_answer(request_id: str) -> Answer:
    """The answer when something failed that should not; its cause goes to the log."""
    return Answer(500, dumped(internal_error(request_id)), code="internal")


def dumped(value: Any) -> bytes:
    """JSON. Lone surrogates, which a path may have brought, are replaced: an error is answered whatever it names."""
    try:
        return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_clean(value), option=orjson.OPT_UTC_Z, default=str)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value
