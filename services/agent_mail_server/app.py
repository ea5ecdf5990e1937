"""The server as an ASGI application: every HTTP request enters here and leaves with an id, its headers and a log line.

In this order: request id, overload, Host and Origin, route, and then the endpoint, which asks who calls. There is no
middleware: each layer of it would cost every request a closure and a coroutine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_mail_core.errors import AgentMailError, Limited, MethodNotAllowed, Overloaded, Unauthenticated
from agent_mail_core.made_once import MadeOnce
from agent_mail_core.ports import App
from agent_mail_server.callers import Callers
from agent_mail_server.docs_page import DocsPages
from agent_mail_server.file_routes import written_by_hand
from agent_mail_server.http_request import (
    Answer,
    ClientGone,
    Headers,
    HttpRequest,
    RequestIds,
    error_answer,
    internal_error_answer,
)
from agent_mail_server.limiting import count_refused
from agent_mail_server.metrics import PROMETHEUS_TEXT, ServerMetrics
from agent_mail_server.openapi import openapi_json
from agent_mail_server.operations import OPERATIONS
from agent_mail_server.requests_log import AccessLog
from agent_mail_server.rest import RestApi
from agent_mail_server.routes import Routes
from agent_mail_server.security import API_HEADER_NAMES, API_HEADERS, Guard
from agent_mail_server.streaming import StreamedAnswer, send_pieces

UNGUARDED = frozenset({"/health", "/api/health", "/ready", "/api/ready", "/metrics"})
"""Probes reach these under any name, and however busy the server is."""

MCP_PATHS = ("/mcp", "/mcp/")
CLIENT_GONE = 499
"""The status of the log line when nobody waited for the answer."""


class Endpoint(Protocol):
    """What a route leads to."""

    async def answer(self, http: HttpRequest) -> Answer:
        """Answer the request. Raises AgentMailError, which is answered too, and ClientGone."""
        ...


class AgentMailServer:
    """The application. Holds no state but counters."""

    def __init__(
        self,
        app: App,
        metrics: ServerMetrics,
        mcp: ASGIApp,
        closes_connections: Callable[[], bool],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._callers = Callers(app.settings)
        self._guard = Guard(app.settings)
        self._request_ids = RequestIds()
        self._log = AccessLog()
        self._mcp = mcp
        self._max_in_flight = app.settings.max_in_flight
        self._is_draining: Callable[[], bool] = app.is_draining
        self._closes_connections = closes_connections
        self._idle = asyncio.Event()
        self.routes: Routes[Endpoint] = Routes()
        for method, path, endpoint in RestApi(app, metrics, self._callers, OPERATIONS).routes():
            self.routes.add(method, path, endpoint)
        for method, path, by_hand in written_by_hand(app, metrics, self._callers):
            self.routes.add(method, path, by_hand)
        self.routes.add("GET", "/metrics", _PrometheusText(metrics, self._callers))
        needs_credential = app.settings.auth_mode != "none"
        description = _Late(lambda: Answer(200, openapi_json(app.version, needs_credential)))
        self.routes.add("GET", "/openapi.json", _Private(description, self._callers))
        pages = DocsPages(app.version, app.settings)
        self.routes.add("GET", "/docs", _Private(_Late(pages.page), self._callers))
        for path, asset in pages.assets.items():
            self.routes.add("GET", path, _Constant(asset))

    def flush_log(self) -> None:
        """Write the access lines that are held: the server ends."""
        self._log.flush()

    async def until_idle(self) -> None:
        """Return when no request is in flight. Only a draining server looks for that."""
        if self._metrics.in_flight:
            await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise NotImplementedError(
                "what lives longer than a request is started by main.py, not by the lifespan protocol"
            )

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        headers = dict(scope["headers"])
        http = HttpRequest(scope, receive, headers, self._request_ids.given_or_new(headers.get(b"x-request-id")))
        status, code = CLIENT_GONE, None
        self._metrics.in_flight += 1
        try:
            if scope["path"] in MCP_PATHS:
                status, code = await self._to_mcp(http, send)
            else:
                answer = await self._answer(http)
                await self._send(http, answer, send)
                status, code = answer.status, answer.code
        except ClientGone:
            pass
        finally:
            self._metrics.in_flight -= 1
            if not self._metrics.in_flight and self._is_draining():
                self._idle.set()
            self._metrics.answered(status)
            self._log.write(
                scope["method"],
                scope["path"],
                status,
                round((perf_counter() - began) * 1000, 2),
                http.request_id,
                http.caller.principal if http.caller is not None else None,
                http.operation,
                code,
            )

    async def _answer(self, http: HttpRequest) -> Answer:
        """The answer of the endpoint, or the error that takes its place. Raises ClientGone."""
        try:
            method, path = http.scope["method"], http.scope["path"]
            if path not in UNGUARDED:
                preflight = self._admit(http)
                if preflight is not None:
                    return preflight
            endpoint, http.path_values = self.routes.find(method, path)
            return await endpoint.answer(http)
        except MethodNotAllowed as error:
            answer = error_answer(error, http.request_id)
            answer.headers.append((b"allow", ", ".join(error.data["allowed"]).encode()))
            return answer
        except Unauthenticated as error:
            return await self._unauthenticated(http, error)
        except AgentMailError as error:
            return error_answer(error, http.request_id)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the last line: whatever it is, the client gets an answer and the log the cause
            self._log.failed(http.request_id, http.operation, error)
            return internal_error_answer(http.request_id)

    async def _unauthenticated(self, http: HttpRequest, error: Unauthenticated) -> Answer:
        """The answer to a request without a valid credential: the error, or that there are too many of them."""
        try:
            await count_refused(self._app, self._callers.address(http), b"authorization" in http.headers)
        except Limited as limited:
            return error_answer(limited, http.request_id)
        return error_answer(error, http.request_id)

    def _admit(self, http: HttpRequest) -> Answer | None:
        """Refuse what must not be started; or answer a browser that only asks whether it may call."""
        if self._metrics.in_flight > self._max_in_flight and self._metrics.at_work > self._max_in_flight:
            raise Overloaded
        if len(http.headers) != len(http.scope["headers"]):
            self._guard.check_once(http.scope["headers"])
        self._guard.check(http.headers)
        return self._guard.preflight(http.scope["method"], http.headers)

    async def _send(self, http: HttpRequest, answer: Answer, send: Send) -> None:
        headers = [
            (b"content-type", answer.media_type),
            *self._common_headers(http, answer.security or API_HEADERS),
            *answer.headers,
        ]
        if isinstance(answer, StreamedAnswer):
            await send_pieces(answer, http, send, headers, self._metrics)
            return
        headers.append((b"content-length", b"%d" % len(answer.body)))
        body = b"" if http.scope["method"] == "HEAD" else answer.body
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        except (OSError, RuntimeError):  # how servers say that the connection is closed
            raise ClientGone from None

    async def _to_mcp(self, http: HttpRequest, send: Send) -> tuple[int, str | None]:
        """Let the MCP endpoint answer; status and error code for the log."""
        try:
            preflight = self._admit(http)
            if preflight is None:
                http.caller = self._callers.caller(http)
        except Unauthenticated as error:
            preflight = await self._unauthenticated(http, error)
        except AgentMailError as error:
            preflight = error_answer(error, http.request_id)
        if preflight is not None:
            await self._send(http, preflight, send)
            return preflight.status, preflight.code
        http.operation = "mcp"
        scope = http.scope
        scope["state"] = {"caller": http.caller}
        outgoing = _WithHeaders(self._common_headers(http, API_HEADERS), send)
        is_stream = scope["method"] == "GET"
        self._metrics.streams += is_stream
        try:
            await self._mcp(scope, http.receive, outgoing)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._log.failed(http.request_id, "mcp", error)
            if outgoing.status is None:
                answer = internal_error_answer(http.request_id)
                await self._send(http, answer, send)
                return answer.status, answer.code
        finally:
            self._metrics.streams -= is_stream
        return outgoing.status or CLIENT_GONE, None

    def _common_headers(self, http: HttpRequest, security: Headers) -> Headers:
        headers = [(b"x-request-id", http.request_id.encode()), *security, *self._guard.cors_headers(http.headers)]
        if self._closes_connections() and http.scope["http_version"] != "2":
            headers.append((b"connection", b"close"))
        return headers


class _WithHeaders:
    """A `send` that adds headers to an answer, unless it brings its own, and remembers its status."""

    __slots__ = ("_headers", "_send", "status")

    def __init__(self, headers: Headers, send: Send) -> None:
        self._headers = headers
        self._send = send
        self.status: int | None = None

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = message["headers"]
            names = {name for name, _ in own}
            ours = self._headers
            if not names.isdisjoint(API_HEADER_NAMES):
                ours = [header for header in ours if header[0] not in names]
            message["headers"] = [*own, *ours]
        return self._send(message)


class _Constant:
    """An endpoint that always answers the same."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def answer(self, http: HttpRequest) -> Answer:
        return self._answer


class _Late:
    """An endpoint that always answers the same, which is made for the first who asks.

    Few servers are ever asked for a description of themselves: making both took a tenth of the start, and 4 MB.
    """

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._answer = MadeOnce(make)

    async def answer(self, http: HttpRequest) -> Answer:
        return await self._answer.get()


class _Private:
    """An endpoint behind a credential."""

    def __init__(self, endpoint: Endpoint, callers: Callers) -> None:
        self._endpoint = endpoint
        self._callers = callers

    async def answer(self, http: HttpRequest) -> Answer:
        http.caller = self._callers.caller(http)
        return await self._endpoint.answer(http)


class _PrometheusText:
    """GET /metrics."""

    def __init__(self, metrics: ServerMetrics, callers: Callers) -> None:
        self._metrics = metrics
        self._callers = callers

    async def answer(self, http: HttpRequest) -> Answer:
        http.caller = self._callers.metrics_reader(http)
        return Answer(200, self._metrics.prometheus(), PROMETHEUS_TEXT.encode())
