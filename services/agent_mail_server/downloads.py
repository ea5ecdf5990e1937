"""Files over REST: the bytes of an attachment, and a project's export as it is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast
from urllib.parse import quote

from agent_mail_core.attachments import AttachmentContent
from agent_mail_core.errors import AgentMailError, Overloaded
from agent_mail_core.fields import Result
from agent_mail_core.file_names import served_media_type
from agent_mail_core.project_export import ProjectExport
from agent_mail_server.dispatch import counted, perform
from agent_mail_server.http_request import Answer, Headers, HttpRequest
from agent_mail_server.limiting import count, limit_headers
from agent_mail_server.operations import Operation
from agent_mail_server.rest import RestApi
from agent_mail_server.security import COMMON_HEADERS
from agent_mail_server.streaming import StreamedAnswer

DOWNLOADS_AT_ONCE = 16
"""Of a worker, while they are read: each is up to 10 MiB."""

EXPORTS_AT_ONCE = 4
PIECE_BYTES = 64 * 1024
FILE_HEADERS: Headers = [
    *COMMON_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"cache-control", b"private, no-cache"),
]


class Downloads(RestApi):
    """REST, but for how the results go out: of get_attachment and export_project."""

    _reading = 0
    _exporting = 0

    async def answer(self, operation: Operation, http: HttpRequest) -> Answer:
        http.operation = operation.name
        caller = http.caller = self._caller(operation, http)
        try:
            request = await self._arguments(operation, http)
        except AgentMailError:
            await count(self._app, caller, operation.is_write)
            raise
        allowance = await counted(self._app, self._metrics, caller, operation, request)
        headers = limit_headers(operation.is_write, self._app, allowance) if allowance is not None else []
        if self._reading >= DOWNLOADS_AT_ONCE:
            raise Overloaded("The server serves no more files right now; try again shortly.")
        self._reading += 1
        try:
            result: Result = await perform(self._app, self._metrics, caller, operation, request, is_counted=True)
        finally:
            self._reading -= 1
        if isinstance(result, AttachmentContent):
            return _file(result, headers)
        return await self._export(cast("ProjectExport", result), headers)

    async def _export(self, export: ProjectExport, headers: Headers) -> Answer:
        pieces = self._pieces(export)
        return StreamedAnswer(
            200,
            await anext(pieces),
            export.media_type.encode(),
            [(b"content-disposition", disposition(export.file_name)), *headers],
            FILE_HEADERS,
            rest=pieces,
        )

    async def _pieces(self, export: ProjectExport) -> AsyncGenerator[bytes, None]:
        """The export in pieces that are worth sending, of which only so many are written at once."""
        if self._exporting >= EXPORTS_AT_ONCE:
            raise Overloaded("The server writes no more exports right now; try again shortly.")
        self._exporting += 1
        try:
            kept = bytearray()
            async with aclosing(export.chunks()) as chunks:
                async for chunk in chunks:
                    kept += chunk
                    if len(kept) >= PIECE_BYTES:
                        yield bytes(kept)
                        kept.clear()
            yield bytes(kept)
        finally:
            self._exporting -= 1


def _file(file: AttachmentContent, headers: Headers) -> Answer:
    return Answer(
        200,
        file.content_base64,
        served_media_type(file.media_type).encode(),
        [
            (b"content-disposition", disposition(file.file_name)),
            (b"etag", f'"{file.sha256}"'.encode()),
            *headers,
        ],
        FILE_HEADERS,
    )


def disposition(file_name: str) -> bytes:
    """Content-Disposition of a download (RFC 6266): the name in ASCII, and as it is when that is not all."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in file_name)
    value = f'attachment; filename="{plain}"'
    if plain != file_name:
        value += f"; filename*=UTF-8''{quote(file_name, safe='!#$&+-.^_`|~')}"
    return value.encode("ascii")
