"""Files over REST: the bytes of an attachment, and a project's export as it is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import ExitStack, aclosing
from typing import cast
from urllib.parse import quote

from agent_mail_core.attachments import AttachmentContent
from agent_mail_core.fields import Request, Result
from agent_mail_core.file_names import served_media_type
from agent_mail_core.ports import App, Caller
from agent_mail_core.project_export import ExportProject, ProjectExport
from agent_mail_server.callers import Callers
from agent_mail_server.dispatch import perform
from agent_mail_server.http_request import Answer, Headers, HttpRequest
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import OPERATIONS, Operation
from agent_mail_server.places import Places
from agent_mail_server.rest import RestApi
from agent_mail_server.security import COMMON_HEADERS
from agent_mail_server.streaming import StreamedAnswer

DOWNLOADS_AT_ONCE, DOWNLOADS_OF_ONE = 16, 12
"""Of a worker and of one caller, until they are sent: each is up to 10 MiB."""

EXPORTS_AT_ONCE, EXPORTS_OF_ONE = 4, 3
PIECE_BYTES = 64 * 1024
FILE_PIECE_BYTES = 256 * 1024
"""A larger file is sent in pieces, each when the client has taken the one before."""

FILE_HEADERS: Headers = [
    *COMMON_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"cache-control", b"private, no-cache"),
]


class Downloads(RestApi):
    """REST, but for how the results go out: of get_attachment and export_project."""

    def __init__(
        self, app: App, metrics: ServerMetrics, callers: Callers, operations: Iterable[Operation] = OPERATIONS
    ) -> None:
        super().__init__(app, metrics, callers, operations)
        self._reading = Places(DOWNLOADS_AT_ONCE, DOWNLOADS_OF_ONE, "serves no more files")
        self._exporting = Places(EXPORTS_AT_ONCE, EXPORTS_OF_ONE, "writes no more exports")

    async def _answered(
        self, operation: Operation, caller: Caller, request: Request, http: HttpRequest, headers: Headers
    ) -> Answer:
        is_export = isinstance(request, ExportProject)
        with ExitStack() as place:
            place.enter_context((self._exporting if is_export else self._reading).place(caller))
            result: Result = await perform(self._app, self._metrics, caller, operation, request, is_counted=True)
            if isinstance(result, AttachmentContent):
                return await _file(result, headers, place)
            return await _export(cast("ProjectExport", result), headers, place)


async def _export(export: ProjectExport, headers: Headers, place: ExitStack) -> Answer:
    first, rest = await _begun(_export_pieces(export), place)
    return StreamedAnswer(
        200,
        first,
        export.media_type.encode(),
        [(b"content-disposition", disposition(export.file_name)), *headers],
        FILE_HEADERS,
        rest=rest,
    )


async def _file(file: AttachmentContent, headers: Headers, place: ExitStack) -> Answer:
    """A small file at once. Of a larger one the server holds no second copy, however slowly it is read."""
    content = file.content_base64
    media_type = served_media_type(file.media_type).encode()
    headers = [
        (b"content-disposition", disposition(file.file_name)),
        (b"etag", f'"{file.sha256}"'.encode()),
        *headers,
    ]
    if len(content) <= FILE_PIECE_BYTES:
        return Answer(200, content, media_type, headers, FILE_HEADERS)
    headers.append((b"content-length", b"%d" % len(content)))
    first, rest = await _begun(_file_pieces(content), place)
    return StreamedAnswer(200, first, media_type, headers, FILE_HEADERS, rest=rest)


async def _begun(pieces: AsyncGenerator[bytes, None], place: ExitStack) -> tuple[bytes, AsyncGenerator[bytes, None]]:
    """The first piece, and the others, which keep the place until they are taken or given up."""
    first = await anext(pieces)
    rest = _placed(pieces, place.pop_all())
    await anext(rest)
    return first, rest


async def _placed(pieces: AsyncGenerator[bytes, None], place: ExitStack) -> AsyncGenerator[bytes, None]:
    with place:
        async with aclosing(pieces):
            yield b""  # begun: from here on it is this generator that gives the place back
            async for piece in pieces:
                yield piece


async def _file_pieces(content: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), FILE_PIECE_BYTES):
        yield content[start : start + FILE_PIECE_BYTES]


async def _export_pieces(export: ProjectExport) -> AsyncGenerator[bytes, None]:
    """The export in pieces that are worth sending."""
    kept = bytearray()
    async with aclosing(export.chunks()) as chunks:
        async for chunk in chunks:
            kept += chunk
            if len(kept) >= PIECE_BYTES:
                yield bytes(kept)
                kept.clear()
    yield bytes(kept)


def disposition(file_name: str) -> bytes:
    """Content-Disposition of a download (RFC 6266): the name in ASCII, and as it is when that is not all."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in file_name)
    value = f'attachment; filename="{plain}"'
    if plain != file_name:
        value += f"; filename*=UTF-8''{quote(file_name, safe='!#$&+-.^_`|~')}"
    return value.encode("ascii")
