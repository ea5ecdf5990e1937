"""How a load test's agent calls the server: REST, MCP 2026-07-28, or a session of the handshake revisions.

Each call is a request in Locust's statistics, named after the operation and the transport. An answer that is no result
is a failure there, except 429, which has a row of its own: being told to wait is no fault. After 429, 503 and broken
connections a call is made again when Retry-After has passed, which is safe: every write here has an idempotency key or
changes nothing when it is repeated.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from locust.contrib.fasthttp import FastHttpSession

from loadtests.routes import ROUTES

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"
TRIES = 8
LONGEST_PAUSE = 60.0
CLOSING = 0.1
"""Share of requests that end their connection: a balancer of connections then gives the next one to another worker."""

Result = dict[str, Any]


class GaveUp(Exception):
    """A call came to nothing, and Locust has counted why."""


class TryAgain(Exception):
    """No answer to rely on: make the same call once more, after so many seconds."""

    def __init__(self, pause: float) -> None:
        super().__init__(pause)
        self.pause = pause


@dataclass
class Transport:
    """Calls operations by name, over one user's connections."""

    http: FastHttpSession
    token: str | None
    chance: random.Random
    label = ""

    def call(self, operation: str, **arguments: Any) -> Result:
        """The operation's result; raises GaveUp."""
        for _ in range(TRIES):
            try:
                return self.once(operation, arguments)
            except TryAgain as again:
                time.sleep(min(LONGEST_PAUSE, again.pause) * self.chance.uniform(1, 1.2))
        raise GaveUp(operation)

    def once(self, operation: str, arguments: Mapping[str, Any]) -> Result:
        """One request, and what its answer holds. Raises GaveUp, TryAgain."""
        raise NotImplementedError

    def request(self, method: str, path: str, name: str, headers: Mapping[str, str], data: str | None = None) -> Any:
        """The request, as a context in which its answer is judged."""
        sent = dict(headers)
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if data is not None:
            sent["Content-Type"] = "application/json"
        if self.chance.random() < CLOSING:
            sent["Connection"] = "close"
        return self.http.request(
            method, path, name=f"{name} ({self.label})", headers=sent, data=data, catch_response=True
        )


def judge_status(answer: Any, wanted: int) -> None:
    """Mark an answer of another status as failed, and raise what follows from it."""
    status = answer.status_code
    if status == wanted:
        return
    pause = _retry_after(answer)
    if status == 429:
        answer.request_meta["name"] = "told to wait (429)"
        answer.success()
        raise TryAgain(pause)
    answer.failure(f"{status or 'no answer'}: {_words(answer)}")
    if status in (0, 502, 503, 504):
        raise TryAgain(pause)
    raise GaveUp(str(answer.request_meta["name"]))


def _retry_after(answer: Any) -> float:
    given = answer.headers.get("retry-after") if answer.headers is not None else None
    return float(given) if given and re.fullmatch(r"[0-9]+", given) else 0.5


def _words(answer: Any) -> str:
    """Without what differs from one request to the next, so that Locust can count like ones together."""
    error = getattr(answer, "error", None)
    if answer.status_code == 0 and error is not None:
        return type(error).__name__
    try:
        return str(json.loads(answer.text or "")["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return (answer.text or "")[:80]


class Rest(Transport):
    """REST."""

    label = "REST"

    def once(self, operation: str, arguments: Mapping[str, Any]) -> Result:
        given = dict(arguments)
        method, _, path = ROUTES[operation].partition(" ")
        path = re.sub(r"\{(\w+)\}", lambda found: str(given.pop(found[1])), path)
        data = json.dumps(given) if method == "POST" else None
        if method == "GET":
            path += "?" + urlencode({k: str(v).lower() if isinstance(v, bool) else v for k, v in given.items()})
        wanted = 201 if operation in ("send_message", "reply_message") else 200
        with self.request(method, path, operation, {"Accept": "application/json"}, data) as answer:
            judge_status(answer, wanted)
            result: Result = json.loads(answer.text)
            answer.success()
        return result


class Modern(Transport):
    """MCP, revision 2026-07-28: every request stands alone."""

    label = "MCP"

    def once(self, operation: str, arguments: Mapping[str, Any]) -> Result:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "loadtests", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": operation, "arguments": arguments, "_meta": meta}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": operation}
        with self.request("POST", "/mcp", operation, ACCEPT | headers, message("tools/call", params)) as answer:
            judge_status(answer, 200)
            return tool_result(answer)


class Session(Transport):
    """MCP with a handshake and a session, which is begun again when the server no longer knows it."""

    label = "MCP session"
    session_id = ""

    def once(self, operation: str, arguments: Mapping[str, Any]) -> Result:
        if not self.session_id:
            self._begin()
        params = {"name": operation, "arguments": arguments}
        with self.request("POST", "/mcp", operation, self._headers(), message("tools/call", params)) as answer:
            self._judge_session(answer)
            judge_status(answer, 200)
            return tool_result(answer)

    def _begin(self) -> None:
        client = {"name": "loadtests", "version": "1"}
        params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": client}
        with self.request("POST", "/mcp", "initialize", ACCEPT, message("initialize", params)) as answer:
            judge_status(answer, 200)
            session_id = answer.headers.get("mcp-session-id")
            if not session_id:
                answer.failure("initialize gave no session")
                raise GaveUp("initialize")
            answer.success()
        self.session_id = str(session_id)
        done = message("notifications/initialized", None, None)
        with self.request("POST", "/mcp", "initialized", self._headers(), done) as answer:
            self._judge_session(answer)
            judge_status(answer, 202)
            answer.success()

    def _headers(self) -> dict[str, str]:
        return ACCEPT | {"MCP-Protocol-Version": HANDSHAKE, "Mcp-Session-Id": self.session_id}

    def _judge_session(self, answer: Any) -> None:
        if answer.status_code == 404:
            answer.request_meta["name"] = "session is gone (404)"
            answer.failure("404: the session is unknown")
            self.session_id = ""
            raise TryAgain(0)


ACCEPT = {"Accept": "application/json, text/event-stream"}


def message(method: str, params: Mapping[str, Any] | None, request_id: int | None = 1) -> str:
    """A JSON-RPC request, or without an id a notification."""
    whole: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    whole |= {"id": request_id} if request_id is not None else {}
    whole |= {"params": params} if params is not None else {}
    return json.dumps(whole)


def tool_result(answer: Any) -> Result:
    """The structured result of a `tools/call`, sent as JSON or as a stream of events."""
    text = answer.text or ""
    if (answer.headers or {}).get("content-type", "").startswith("text/event-stream"):
        data = [line[5:] for line in text.splitlines() if line.startswith("data:") and len(line) > 8]
        text = data[-1] if data else ""
        if not text:
            answer.failure("the stream ended without the answer")
            raise TryAgain(0.5)
    whole = json.loads(text)
    result = whole.get("result")
    if result is not None and not result.get("isError"):
        answer.success()
        structured: Result = result["structuredContent"]
        return structured
    error = json.loads(result["content"][0]["text"])["error"] if result else whole["error"].get("data", whole["error"])
    code, facts = str(error.get("code")), error.get("data") or {}
    pause = float(facts.get("retry_after_seconds", 1))
    if code == "rate_limited":
        answer.request_meta["name"] = "told to wait (429)"
        answer.success()
        raise TryAgain(pause)
    answer.failure(code)
    if "retry_after_seconds" in facts or code in ("unavailable", "overloaded"):
        raise TryAgain(pause)
    raise GaveUp(code)
