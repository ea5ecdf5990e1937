"""The HTTP client of Agent Mail: one call for every operation, learned from the server's own description.

Nothing of the server is imported: names, methods and paths come from /openapi.json, which is read once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

MARGIN = 5.0
"""Seconds that a waiting call may take beyond the time it asked for."""

KEY_FIELD = "idempotency_key"


class ApiError(Exception):
    """The server refused a call; `code` says why and never changes meaning."""

    def __init__(self, status: int, code: str, message: str, data: Mapping[str, Any], request_id: str | None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.data = data
        self.request_id = request_id


class Unreachable(Exception):
    """No answer came: the server is away, or took too long. Whether a write was stored is not known."""


class NoSuchOperation(Exception):
    """The server has no operation of that name."""


@dataclass(frozen=True, slots=True)
class Route:
    """How an operation is called."""

    method: str
    path: str
    in_path: frozenset[str]
    takes_key: bool


class MailClient:
    """Calls operations by name: `await client.call("check_inbox", project_slug="shop", agent_name="BlueLake")`.

    With `retries`, calls that were answered 503 or not at all are made again after a pause, if that is safe: reads
    always, writes under an idempotency key, which is made up when none is given. Other writes are never repeated.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: float = 15.0,
        retries: int = 0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=headers, timeout=timeout, limits=limits, transport=transport, trust_env=False
        )
        self._timeout = timeout
        self._retries = retries
        self._routes: dict[str, Route] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def operations(self) -> Mapping[str, Route]:
        """Every operation of the server by name."""
        if self._routes is None:
            self._routes = _routes(await self._checked("GET", "/openapi.json"))
        return self._routes

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The operation's result. Raises ApiError, Unreachable, NoSuchOperation."""
        route = (await self.operations()).get(operation)
        if route is None:
            raise NoSuchOperation(operation)
        given = {name: value for name, value in arguments.items() if value is not None}
        if self._retries and route.takes_key:
            given.setdefault(KEY_FIELD, secrets.token_hex(16))
        path = route.path.format(**{name: quote(str(given.pop(name)), safe="") for name in route.in_path})
        sent: dict[str, Any] = {"params": _texts(given)} if route.method == "GET" else {"json": given}
        if "timeout_seconds" in given:
            sent["timeout"] = float(given["timeout_seconds"]) + MARGIN
        is_safe = route.method == "GET" or KEY_FIELD in given
        for attempt in range(self._retries if is_safe else 0):
            try:
                return await self._checked(route.method, path, **sent)
            except ApiError as error:
                if error.status != 503:
                    raise
            except Unreachable:
                pass
            await asyncio.sleep(0.1 * 2**attempt)
        return await self._checked(route.method, path, **sent)

    async def _checked(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **sent)
        except httpx.TransportError as error:
            raise Unreachable(f"{self._http.base_url}: {type(error).__name__} {error}".rstrip()) from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        raise _api_error(response)


def _api_error(response: httpx.Response) -> ApiError:
    request_id = response.headers.get("x-request-id")
    try:
        error = response.json()["error"]
        return ApiError(response.status_code, error["code"], error["message"], error["data"], error["request_id"])
    except (ValueError, KeyError, TypeError):
        # Not ours: a balancer's page, or an answer that is no error, such as `ready` saying not_ready.
        return ApiError(response.status_code, "unexpected_answer", response.text[:500], {}, request_id)


def _routes(description: Mapping[str, Any]) -> dict[str, Route]:
    """All but those whose answer does not end."""
    return {
        operation["operationId"]: Route(
            method.upper(),
            path,
            frozenset(item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"),
            any(item["name"] == "Idempotency-Key" for item in operation.get("parameters", ())),
        )
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if not any("text/event-stream" in answer.get("content", ()) for answer in operation["responses"].values())
    }


def _texts(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in arguments.items()}
