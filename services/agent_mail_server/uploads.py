"""POST /api/attachment/add: a file as base64 in JSON, or as it is in multipart/form-data (RFC 7578)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Message, Receive

from agent_mail_core.errors import MalformedRequest
from agent_mail_core.fields import Request
from agent_mail_core.file_names import OCTETS
from agent_mail_core.ports import App, Caller
from agent_mail_server.arguments import parse_json
from agent_mail_server.callers import Callers
from agent_mail_server.dispatch import counted
from agent_mail_server.http_request import Headers, HttpRequest
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import OPERATIONS, Operation
from agent_mail_server.places import Places
from agent_mail_server.rest import RestApi

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_BODY_BYTES = 14 * 1024 * 1024
"""10 MiB in base64, and the other arguments."""

UPLOAD_TIMEOUT = 60.0
UPLOAD_PATIENCE, UPLOAD_PACE = 5.0, 64 * 1024
"""Seconds that a body may be behind so many bytes a second: one that stands still keeps its place no longer."""

UPLOADS_AT_ONCE, UPLOADS_OF_ONE = 8, 6
"""Of a worker and of one caller: each may take three times its body's size of memory."""

MOST_MARKS = 4096
"""Brackets and commas in JSON: an upload is flat, and 14 MiB of small lists take seconds to parse."""

MAX_PARTS = 16
FILE_PART, CONTENT_FIELD = "file", "content_base64"


class Uploads(RestApi):
    """REST, but for how the arguments come in: each upload counts for its caller before its body is read."""

    def __init__(
        self, app: App, metrics: ServerMetrics, callers: Callers, operations: Iterable[Operation] = OPERATIONS
    ) -> None:
        super().__init__(app, metrics, callers, operations)
        self._places = Places(UPLOADS_AT_ONCE, UPLOADS_OF_ONE, "takes no more uploads")

    async def _counted(self, operation: Operation, caller: Caller, http: HttpRequest) -> tuple[Request, Headers]:
        headers = self._limits(operation, await counted(self._app, self._metrics, caller, operation, None))
        with self._places.place(caller):
            return await self._arguments(operation, http), headers

    async def _json(self, http: HttpRequest) -> Any:
        http.receive = _Paced(http.receive).receive
        try:
            body = await http.body(MAX_BODY_BYTES)
        except TimeoutError:
            raise MalformedRequest("The body did not arrive in time.") from None
        media_type, options = parse_options_header(http.headers.get(b"content-type", b""))
        if media_type == b"multipart/form-data":
            return await asyncio.to_thread(form_arguments, options.get(b"boundary", b""), body)
        if media_type != b"application/json":
            raise MalformedRequest("The body must be JSON, or multipart/form-data with the part `file`.")
        if sum(body.count(mark) for mark in (b"[", b"{", b",")) > MOST_MARKS:
            raise MalformedRequest(f"The body has more than {MOST_MARKS} brackets and commas, which no upload has.")
        return await asyncio.to_thread(parse_json, body, self._app.settings.max_json_depth)


class _Paced:
    """A body that has to keep coming, or TimeoutError is raised."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._began = asyncio.get_running_loop().time()
        self._size = 0

    async def receive(self) -> Message:
        seconds = min(UPLOAD_PATIENCE + self._size / UPLOAD_PACE, UPLOAD_TIMEOUT)
        async with asyncio.timeout_at(self._began + seconds):
            message = await self._receive()
        self._size += len(message.get("body", b""))
        return message


class _Form:
    """Collects the parts of a form."""

    def __init__(self) -> None:
        self.parts: list[tuple[dict[bytes, bytes], bytearray]] = []
        self._name = self._value = b""
        self.has_ended = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.on_part_begin,
            "on_part_data": self.on_part_data,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_end": self.on_end,
        }

    def on_part_begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise MalformedRequest(f"The form has more than {MAX_PARTS} parts.")
        self.parts.append(({}, bytearray()))

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self.parts[-1][0][self._name.lower()] = self._value
        self._name = self._value = b""

    def on_end(self) -> None:
        self.has_ended = True

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][1].extend(data[start:end])


def form_arguments(boundary: bytes, body: bytes) -> dict[str, Any]:
    """The arguments in a form: its part `file` is the content, with its name and type unless other parts say them.

    Raises MalformedRequest.
    """
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
        if not form.has_ended:  # which may be all that a connection brought that broke
            raise ValueError
    except (FormParserError, ValueError):
        raise MalformedRequest("The body is not well-formed multipart/form-data.") from None
    arguments: dict[str, Any] = {}
    from_file: dict[str, Any] = {}
    for headers, content in form.parts:
        name, options = _named(headers)
        if name in arguments or (name == FILE_PART and from_file):
            raise MalformedRequest(f"The form has two parts of the name {name[:100]!r}.")
        if name == FILE_PART:
            from_file = {CONTENT_FIELD: bytes(content), **_about_file(headers, options)}
        else:
            arguments[name] = _text(bytes(content))
    if from_file and CONTENT_FIELD in arguments:
        raise MalformedRequest(f"The form has a part {FILE_PART} and {CONTENT_FIELD}: give one of them.")
    return {**from_file, **arguments}


def _named(headers: dict[bytes, bytes]) -> tuple[str, dict[bytes, bytes]]:
    kind, options = parse_options_header(headers.get(b"content-disposition"))
    if kind != b"form-data" or b"name" not in options:
        raise MalformedRequest("A part of the form has no name.")
    return _text(options[b"name"]), options


def _about_file(headers: dict[bytes, bytes], options: dict[bytes, bytes]) -> dict[str, str]:
    about = {}
    if b"filename" in options:
        about["file_name"] = _text(options[b"filename"])
    media_type = _text(headers.get(b"content-type", b""))
    if media_type and media_type != OCTETS:
        about["media_type"] = media_type
    return about


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The form's names and texts must be UTF-8.") from None
