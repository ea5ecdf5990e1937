"""POST /api/attachment/add: a file as base64 in JSON, or as it is in multipart/form-data (RFC 7578)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from agent_mail_core.errors import MalformedRequest, Overloaded
from agent_mail_core.file_names import OCTETS
from agent_mail_server.arguments import parse_json
from agent_mail_server.http_request import HttpRequest
from agent_mail_server.rest import RestApi

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_BODY_BYTES = 14 * 1024 * 1024
"""10 MiB in base64, and the other arguments."""

UPLOAD_TIMEOUT = 60.0
UPLOADS_AT_ONCE = 8
"""Of a worker: each may take three times its body's size of memory."""

MAX_PARTS = 16
FILE_PART, CONTENT_FIELD = "file", "content_base64"


class Uploads(RestApi):
    """REST, but for how the arguments come in."""

    _at_once = 0

    async def _json(self, http: HttpRequest) -> Any:
        if self._at_once >= UPLOADS_AT_ONCE:
            raise Overloaded("The server takes no more uploads right now; try again shortly.")
        self._at_once += 1
        try:
            async with asyncio.timeout(UPLOAD_TIMEOUT):
                body = await http.body(MAX_BODY_BYTES)
            media_type, options = parse_options_header(http.headers.get(b"content-type", b""))
            if media_type == b"multipart/form-data":
                return await asyncio.to_thread(form_arguments, options.get(b"boundary", b""), body)
            if media_type != b"application/json":
                raise MalformedRequest("The body must be JSON, or multipart/form-data with the part `file`.")
            return await asyncio.to_thread(parse_json, body, self._app.settings.max_json_depth)
        except TimeoutError:
            raise MalformedRequest("The body did not arrive in time.") from None
        finally:
            self._at_once -= 1


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
