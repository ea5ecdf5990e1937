"""The operations table as MCP tools: how they are listed, called, and how their answers look on the wire.

A call goes from the arguments straight to the operation, and its answer is written once, as bytes: a third of what
passing through the SDK's models costs (FINDINGS). tests/wire/test_mcp_tools.py holds both ways to equal answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import orjson
from mcp_types import (
    SERVER_INFO_META_KEY,
    CallToolResult,
    Implementation,
    RequestId,
    TextContent,
    Tool,
    ToolAnnotations,
)

from agent_mail_core.attachment_errors import AttachmentTooLarge
from agent_mail_core.attachments import AttachmentContent
from agent_mail_core.errors import AgentMailError
from agent_mail_core.fields import Request, Result
from agent_mail_core.ports import App, Caller
from agent_mail_core.suggestions import near_names
from agent_mail_server.aliases import TOOL_ALIASES
from agent_mail_server.arguments import read_object
from agent_mail_server.dispatch import perform
from agent_mail_server.errors import error_body, internal_error
from agent_mail_server.limiting import count
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import Operation
from agent_mail_server.schemas import result_schema, tool_schema

logger = logging.getLogger(__name__)

Toolset = Literal["all", "core"]

LARGEST_FILE = 700 * 1024
"""Bytes that get_attachment reads over MCP, and about what add_attachment takes there."""


class ToolAnswer(NamedTuple):
    """What a tool answered: the JSON of its result, or of the error body."""

    json: bytes
    is_error: bool


def described(operation: Operation, toolset: Toolset) -> Tool:
    """An operation as a tool in a list; a list of `core` says as little as possible."""
    is_full = toolset == "all"
    return Tool(
        name=operation.name,
        title=operation.title,
        description=operation.description,
        input_schema=tool_schema(operation.request_type, is_closed=is_full),
        output_schema=result_schema(operation.result_type) if is_full else None,
        annotations=ToolAnnotations(
            read_only_hint=not operation.is_write,
            idempotent_hint=not operation.is_write or operation.is_repeatable,
            destructive_hint=operation.is_destructive,
            open_world_hint=False,
        ),
    )


class Tools:
    """All tools. Their order is the table's."""

    def __init__(self, app: App, metrics: ServerMetrics, operations: Iterable[Operation]) -> None:
        self._app = app
        self._metrics = metrics
        operations = tuple(operations)
        self._rest_only = {each.name: each.routes[0] for each in operations if not each.is_tool}
        operations = tuple(operation for operation in operations if operation.is_tool)
        by_name = {operation.name: operation for operation in operations}
        aliases = {alias: by_name[name] for alias, name in TOOL_ALIASES.items() if name in by_name}
        self._by_name: dict[str, Operation] = {**aliases, **by_name}
        self._names = tuple(by_name)
        self._listed: dict[Toolset, list[Tool]] = {
            "all": [described(operation, "all") for operation in operations],
            "core": [described(operation, "core") for operation in operations if operation.is_core],
        }

    def listed(self, toolset: Toolset) -> list[Tool]:
        """The tools of a list; those of `core` come without output schemas."""
        return self._listed[toolset]

    def find(self, name: object) -> Operation | None:
        """The operation behind a tool's name or an alias of it."""
        return self._by_name.get(name) if isinstance(name, str) else None

    def instead(self, name: str) -> str:
        """What to do, when there is no such tool."""
        if name in self._rest_only:
            return f"It is for REST only: {self._rest_only[name]}."
        near = near_names(name[:100], self._names)
        return f"Did you mean {' or '.join(near)}?" if near else "See tools/list."

    async def call(self, caller: Caller, operation: Operation, arguments: dict[str, Any]) -> ToolAnswer:
        """Perform an operation. Errors, ours and unforeseen ones, are answers too; only cancellation is raised."""
        try:
            request = await self._checked(caller, operation, arguments)
            result = await perform(self._app, self._metrics, caller, operation, request)
            if isinstance(result, AttachmentContent):
                _check_fits(result)
            return ToolAnswer(result.to_json(), False)
        except AgentMailError as error:
            return ToolAnswer(_dumped(error_body(error, caller.request_id)), True)
        except Exception:
            logger.exception("operation failed", extra={"operation": operation.name, "request_id": caller.request_id})
            return ToolAnswer(_dumped(internal_error(caller.request_id)), True)

    async def result(self, caller: Caller, name: str, arguments: dict[str, Any]) -> Result:
        """The result of an operation, for what is no tool. Raises AgentMailError."""
        operation = self._by_name[name]
        request = await self._checked(caller, operation, arguments)
        return await perform(self._app, self._metrics, caller, operation, request)

    async def _checked(self, caller: Caller, operation: Operation, arguments: dict[str, Any]) -> Request:
        """The request that the arguments make; those that make none count against their caller all the same."""
        try:
            return read_object(operation, arguments)
        except AgentMailError:
            await count(self._app, caller, operation.is_write)
            raise


def _check_fits(file: AttachmentContent) -> None:
    """A tool's answer holds the file twice, in base64: of 10 MiB that would be 28. Raises AttachmentTooLarge."""
    if file.size > LARGEST_FILE:
        raise AttachmentTooLarge(
            f"Over MCP a file may have at most {LARGEST_FILE} bytes: download it by REST.",
            limit=LARGEST_FILE,
            size=file.size,
            suggestion=f"GET /api/attachment/{file.attachment_id}",
        )


def _dumped(body: dict[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def as_result(answer: ToolAnswer) -> CallToolResult:
    """A tool's answer in the SDK's terms. Clients check structured content against the schema, so an error has none."""
    return CallToolResult(
        content=[TextContent(text=answer.json.decode())],
        structured_content=None if answer.is_error else orjson.loads(answer.json),
        is_error=answer.is_error,
    )


class ToolEnvelope:
    """Writes a tool's answer as a JSON-RPC message, as the SDK would write `as_result` of it."""

    def __init__(self, server_info: Implementation) -> None:
        info = server_info.model_dump(mode="json", by_alias=True, exclude_none=True)
        stamp = orjson.dumps({SERVER_INFO_META_KEY: info})
        self._tails = {
            (is_error, is_modern): b',"isError":%s%s}}'
            % (
                b"true" if is_error else b"false",
                b',"resultType":"complete","_meta":' + stamp if is_modern else b"",
            )
            for is_error in (False, True)
            for is_modern in (False, True)
        }

    def message(self, message_id: RequestId | None, answer: ToolAnswer, is_modern: bool) -> bytes:
        """The message, of revision 2026-07-28 or of an older one."""
        parts = [
            b'{"jsonrpc":"2.0","id":',
            orjson.dumps(message_id),
            b',"result":{"content":[{"type":"text","text":',
            orjson.dumps(answer.json.decode()),
            b"}]",
            self._tails[answer.is_error, is_modern],
        ]
        if not answer.is_error:
            parts[5:5] = (b',"structuredContent":', answer.json)
        return b"".join(parts)
