"""Log lines: JSON for machines, one readable line on a terminal, and the access line of each request.

A line never holds a body, a query string or a credential. All logging of the process, libraries' included, leaves here.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson
import structlog

from agent_mail_core.settings import Settings
from agent_mail_server.deadlines import alarms

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
HELD_SECONDS = 0.02
"""How long an access line may wait for others: what is lost when the process is killed."""

PIPE_BUF = 4096
"""Bytes that one write puts into a pipe in one piece, so that workers do not write into each other's lines."""

PROBES = frozenset({"/health", "/api/health", "/ready", "/api/ready", "/metrics", "/api/metrics"})
"""What balancers and monitors ask all the time: worth a line only when the answer is not well, or for debugging."""

QUIET = ("httpx", "httpcore", "mcp", "_granian", "asyncio", "granian", "arq")
"""Libraries whose chatter below a warning helps nobody."""


def configure(settings: Settings, stream: BinaryIO | None = None) -> None:
    """Send every log line to `stream` (standard output if None), from LOG_LEVEL on, as LOG_FORMAT says."""
    out = stream or sys.stdout.buffer
    is_text = settings.log_format == "text" or (settings.log_format is None and out.isatty())
    level = LEVELS[settings.log_level]
    first: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        _text if is_text else structlog.processors.JSONRenderer(serializer=_json),
    ]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_Lines(out))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *last[:-1],
                _as_text(last[-1]),
            ],
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                *first,
                structlog.stdlib.ExtraAdder(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class AccessLog:
    """Writes one line for each request.

    JSON is made here, not by structlog's processors, and the lines of a moment are written together: a write for each
    cost a request 20 µs of 140, as it lets other threads take the interpreter.
    """

    def __init__(self) -> None:
        self._logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()
        self._is_on = self._logger.is_enabled_for(logging.INFO)
        self._tells_all = self._logger.is_enabled_for(logging.DEBUG)
        configured = structlog.get_config()
        is_json = isinstance(configured["processors"][-1], structlog.processors.JSONRenderer)
        self._lines: structlog.BytesLogger | None = configured["logger_factory"]() if is_json else None
        self._held: list[bytes] = []
        self._size = 0

    def write(
        self,
        method: str,
        path: str,
        status: int,
        duration_ms: float,
        request_id: str,
        principal: str | None,
        operation: str | None,
        code: str | None,
    ) -> None:
        """The line of one request; `path` without its query."""
        is_routine = status < 400 and path in PROBES
        if not self._is_on or (is_routine and not self._tells_all):
            return
        facts: dict[str, Any] = {"method": method, "path": path, "status": status, "duration_ms": duration_ms}
        facts["request_id"] = request_id
        if principal:
            facts["principal"] = principal
        if operation is not None:
            facts["operation"] = operation
        if code is not None:
            facts["code"] = code
        level = "debug" if is_routine else "info"
        if self._lines is None:
            self._logger.log(logging.DEBUG if is_routine else logging.INFO, "request", **facts)
        else:
            facts |= {"event": "request", "level": level, "timestamp": datetime.now(UTC)}
            self._hold(_json(facts))

    def _hold(self, line: bytes) -> None:
        if self._size + len(line) >= PIPE_BUF:
            self.flush()
        if not self._held:
            alarms(HELD_SECONDS).set(self, self.flush)
        self._held.append(line)
        self._size += len(line) + 1

    def flush(self) -> None:
        """Write what is held."""
        if self._held and self._lines is not None:
            alarms(HELD_SECONDS).clear(self)
            lines, self._held, self._size = self._held, [], 0
            self._lines.msg(b"\n".join(lines))

    def failed(self, request_id: str, operation: str | None, error: BaseException) -> None:
        """The line of a fault of ours, with its cause."""
        self._logger.error("request failed", request_id=request_id, operation=operation, exc_info=error)


class _Lines:
    """A text stream for logging's handler on top of the bytes that structlog writes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return self._out.write(text.encode("utf-8", "replace"))

    def flush(self) -> None:
        self._out.flush()


def _json(event: Any, **_: Any) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)
    except TypeError:  # a lone surrogate
        return json.dumps(event, default=str).encode()


def _text(logger: Any, name: str, event: MutableMapping[str, Any]) -> bytes:
    """`13:41:00 info  request method=GET …`; what came from outside is quoted, so that it cannot steer a terminal."""
    event = dict(event)
    at, level = str(event.pop("timestamp", ""))[11:19], str(event.pop("level", ""))
    said, trace = str(event.pop("event", "")), event.pop("exception", None)
    facts = " ".join(f"{key}={_quoted(value)}" for key, value in event.items() if value is not None)
    line = f"{at} {level:<7} {said if said.isprintable() else _quoted(said)} {facts}".rstrip()
    return (f"{line}\n{trace}" if trace else line).encode("utf-8", "replace")


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text.isascii() and text.isprintable() and " " not in text and '"' not in text
    return text if plain else json.dumps(text)


def _as_text(renderer: structlog.typing.Processor) -> structlog.typing.Processor:
    def render(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        line = renderer(logger, name, event)
        return line.decode() if isinstance(line, bytes) else str(line)

    return render
