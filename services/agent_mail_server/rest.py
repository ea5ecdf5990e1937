"""The operations as REST: each row's routes, a request read from query, path or body, and its result as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from agent_mail_core.errors import AgentMailError, Invalid, MalformedRequest
from agent_mail_core.fields import Request, Result
from agent_mail_core.health import Readiness
from agent_mail_core.limits import Allowance
from agent_mail_core.ports import App, Caller
from agent_mail_server.arguments import parse_json, read_object, read_query
from agent_mail_server.callers import Callers
from agent_mail_server.deadlines import deadline
from agent_mail_server.dispatch import counted, is_limited, perform
from agent_mail_server.http_request import Answer, ClientGone, Headers, HttpRequest
from agent_mail_server.limiting import count, limit_headers
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import OPERATIONS, Operation

T = TypeVar("T")
KEY_HEADER = b"idempotency-key"
KEY_FIELD = "idempotency_key"


@dataclass(frozen=True, slots=True)
class RestEndpoint:
    """One operation under its routes."""

    api: RestApi
    operation: Operation

    def answer(self, http: HttpRequest) -> Coroutine[Any, Any, Answer]:
        """Perform it for whoever asks."""
        return self.api.answer(self.operation, http)


class RestApi:
    """Performs operations for HTTP requests."""

    def __init__(
        self, app: App, metrics: ServerMetrics, callers: Callers, operations: Iterable[Operation] = OPERATIONS
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._callers = callers
        self._operations = tuple(operations)

    def routes(self) -> list[tuple[str, str, RestEndpoint]]:
        """Method, path and endpoint of every route."""
        return [
            (*_split(route), RestEndpoint(self, operation))
            for operation in self._operations
            for route in operation.routes
        ]

    async def answer(self, operation: Operation, http: HttpRequest) -> Answer:
        """The answer of an operation. Raises AgentMailError, ClientGone."""
        http.operation = operation.name
        caller = http.caller = self._caller(operation, http)
        request, headers = await self._counted(operation, caller, http)
        return await self._answered(operation, caller, request, http, headers)

    async def _counted(self, operation: Operation, caller: Caller, http: HttpRequest) -> tuple[Request, Headers]:
        """What is asked for, and the headers that say what is left of its budget. Raises Limited."""
        try:
            request = await self._arguments(operation, http)
        except AgentMailError:
            await count(self._app, caller, operation.is_write)
            raise
        if not is_limited(caller, operation):
            return request, []
        return request, self._limits(operation, await counted(self._app, self._metrics, caller, operation, request))

    def _limits(self, operation: Operation, allowance: Allowance | None) -> Headers:
        return limit_headers(operation.is_write, self._app, allowance) if allowance is not None else []

    async def _answered(
        self, operation: Operation, caller: Caller, request: Request, http: HttpRequest, headers: Headers
    ) -> Answer:
        performing = perform(self._app, self._metrics, caller, operation, request, is_counted=True)
        if operation.waits(request):
            result = await _while_connected(performing, http)
        else:
            result = await performing
        return Answer(_status(operation, result), result.to_json(), headers=headers)

    def _caller(self, operation: Operation, http: HttpRequest) -> Caller:
        if operation.is_public:
            return self._callers.nobody(http.request_id)
        if operation.name == "metrics":
            return self._callers.metrics_reader(http)
        return self._callers.caller(http)

    async def _arguments(self, operation: Operation, http: HttpRequest) -> Request:
        key = http.headers.get(KEY_HEADER)
        if http.scope["method"] != "POST":
            if key is not None:
                raise _takes_no_key(operation)
            return read_query(operation, http.scope["query_string"], http.path_values)
        if http.scope["query_string"]:
            raise Invalid(f"{operation.name} takes its arguments in the body, not in the query string.")
        arguments = await self._json(http)
        if key is not None:
            _add_key(operation, arguments, key)
        if http.path_values:
            arguments = {**arguments, **http.path_values} if isinstance(arguments, dict) else arguments
        return read_object(operation, arguments)

    async def _json(self, http: HttpRequest) -> Any:
        settings = self._app.settings
        declared = http.headers.get(b"content-length")
        try:
            with deadline(settings.request_timeout_seconds):
                body = await http.body(settings.max_body_bytes)
        except TimeoutError:
            raise MalformedRequest("The body did not arrive in time.") from None
        if not body and declared in (None, b"0"):
            return {}
        media_type = http.headers.get(b"content-type", b"")
        if media_type != b"application/json" and not _is_json(media_type):
            raise MalformedRequest("The body must be JSON, sent with Content-Type: application/json.")
        return parse_json(body, settings.max_json_depth)


def _split(route: str) -> tuple[str, str]:
    method, _, path = route.partition(" ")
    return method, path


def _is_json(media_type: bytes) -> bool:
    name, _, parameters = media_type.lower().partition(b";")
    charset = parameters.partition(b"charset=")[2].strip(b' "')
    return name.strip() == b"application/json" and charset in (b"", b"utf-8", b"utf8")


def _status(operation: Operation, result: Result) -> int:
    if isinstance(result, Readiness) and result.status == "not_ready":
        return 503
    return operation.status


def _add_key(operation: Operation, arguments: Any, key: bytes) -> None:
    """Put the Idempotency-Key header where the request model looks for it."""
    if not operation.takes_key:
        raise _takes_no_key(operation)
    if not isinstance(arguments, dict):
        return
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("The Idempotency-Key header is not UTF-8.") from None
    if arguments.setdefault(KEY_FIELD, text) != text:
        raise Invalid(
            "The Idempotency-Key header and idempotency_key differ: give one of them.",
            errors=[{"pointer": f"/{KEY_FIELD}", "message": "differs from the header", "type": "twice"}],
        )


def _takes_no_key(operation: Operation) -> Invalid:
    """Ignoring a key would let its sender believe in a protection that is not there."""
    return Invalid(
        f"{operation.name} takes no idempotency key: call it again, the same arguments change nothing more.",
        errors=[{"pointer": f"/{KEY_FIELD}", "message": "not taken by this operation", "type": "unknown_argument"}],
    )


async def _while_connected(work: Awaitable[T], http: HttpRequest) -> T:
    """The result of a waiting call, which ends when its client goes away: ClientGone."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait((working, leaving))


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
