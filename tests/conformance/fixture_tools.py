"""The tools that the suite calls: what they are to do is in the suite's scenarios.

None of them is product: they make the endpoint send what Agent Mail's own tools do not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolRequestParams,
    CallToolResult,
    ClientCapabilities,
    ElicitRequestFormParams,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    SamplingCapability,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)

Context = ServerRequestContext[Any]
ToolResult = CallToolResult | InputRequiredResult
ToolHandler = Callable[[Context, CallToolRequestParams], Awaitable[ToolResult]]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
PAUSE = 0.05
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


def text(words: str) -> CallToolResult:
    """A result of words."""
    return CallToolResult(content=[TextContent(text=words)])


def strings(**described: str) -> dict[str, Any]:
    """A schema of required strings."""
    properties = {name: {"type": "string", "description": words} for name, words in described.items()}
    return {"type": "object", "properties": properties, "required": list(described)}


# --- content ----------------------------------------------------------------------------------------------------------


async def simple_text(context: Context, params: CallToolRequestParams) -> ToolResult:
    return text("This is a simple text response for testing.")


async def image_content(context: Context, params: CallToolRequestParams) -> ToolResult:
    return CallToolResult(content=[ImageContent(data=PNG, mime_type="image/png")])


async def audio_content(context: Context, params: CallToolRequestParams) -> ToolResult:
    return CallToolResult(content=[AudioContent(data=WAV, mime_type="audio/wav")])


def _embedded(uri: str, mime_type: str, words: str) -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=words))


async def embedded_resource(context: Context, params: CallToolRequestParams) -> ToolResult:
    return CallToolResult(
        content=[_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
    )


async def multiple_content_types(context: Context, params: CallToolRequestParams) -> ToolResult:
    return CallToolResult(
        content=[
            TextContent(text="Multiple content types test:"),
            ImageContent(data=PNG, mime_type="image/png"),
            _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ]
    )


async def error_handling(context: Context, params: CallToolRequestParams) -> ToolResult:
    words = "This tool intentionally returns an error for testing"
    return CallToolResult(content=[TextContent(text=words)], is_error=True)


# --- notifications ----------------------------------------------------------------------------------------------------


async def log(context: Context, words: str) -> None:
    """A log message that belongs to the call."""
    await context.session.send_log_message("info", words, related_request_id=context.request_id)


async def tool_with_logging(context: Context, params: CallToolRequestParams) -> ToolResult:
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log(context, words)
        await asyncio.sleep(PAUSE)
    return text("Logged three times.")


async def tool_with_progress(context: Context, params: CallToolRequestParams) -> ToolResult:
    for progress in (0, 50, 100):
        await context.session.report_progress(progress, 100)
        await asyncio.sleep(PAUSE)
    return text("Told progress three times.")


async def logging_tool(context: Context, params: CallToolRequestParams) -> ToolResult:
    await log(context, "Only for who asked for a level")
    return text("Logged once.")


async def reconnection(context: Context, params: CallToolRequestParams) -> ToolResult:
    """The client is let go in the middle of the call and comes back for the result (SEP-1699)."""
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await asyncio.sleep(2 * PAUSE)
    return text("The stream was closed and taken up again.")


# --- requests to the client -------------------------------------------------------------------------------------------


async def sampling(context: Context, params: CallToolRequestParams) -> ToolResult:
    prompt = str((params.arguments or {})["prompt"])
    reply = await context.session.create_message(
        [SamplingMessage(role="user", content=TextContent(text=prompt))],
        max_tokens=100,
        related_request_id=context.request_id,
    )
    return text(f"LLM response: {getattr(reply.content, 'text', '')}")


async def _elicited(context: Context, message: str, schema: dict[str, Any]) -> ToolResult:
    form = ElicitRequestFormParams.model_validate({"message": message, "requestedSchema": schema})
    reply = await context.session.elicit_form(form.message, form.requested_schema, context.request_id)
    return text(f"Elicitation completed: action={reply.action}, content={json.dumps(reply.content)}")


async def elicitation(context: Context, params: CallToolRequestParams) -> ToolResult:
    schema = strings(username="User's response", email="User's email address")
    return await _elicited(context, str((params.arguments or {})["message"]), schema)


async def elicitation_defaults(context: Context, params: CallToolRequestParams) -> ToolResult:
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await _elicited(context, "Check these values", {"type": "object", "properties": properties})


async def elicitation_enums(context: Context, params: CallToolRequestParams) -> ToolResult:
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{number}", "title": f"Choice {number}"} for number in (1, 2, 3)]
    properties = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return await _elicited(context, "Choose", {"type": "object", "properties": properties})


async def missing_capability(context: Context, params: CallToolRequestParams) -> ToolResult:
    if not context.session.check_client_capability(ClientCapabilities(sampling=SamplingCapability())):
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling.", {"requiredCapabilities": {"sampling": {}}}
        )
    return text("The client can sample.")


# --- schemas ----------------------------------------------------------------------------------------------------------


async def echo_arguments(context: Context, params: CallToolRequestParams) -> ToolResult:
    return text(json.dumps(params.arguments))


FULL_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

HEADER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    "required": ["region"],
}

TOOLS: dict[str, tuple[ToolHandler, dict[str, Any]]] = {
    "test_simple_text": (simple_text, NOTHING),
    "test_image_content": (image_content, NOTHING),
    "test_audio_content": (audio_content, NOTHING),
    "test_embedded_resource": (embedded_resource, NOTHING),
    "test_multiple_content_types": (multiple_content_types, NOTHING),
    "test_error_handling": (error_handling, NOTHING),
    "test_tool_with_logging": (tool_with_logging, NOTHING),
    "test_tool_with_progress": (tool_with_progress, NOTHING),
    "test_logging_tool": (logging_tool, NOTHING),
    "test_reconnection": (reconnection, NOTHING),
    "test_sampling": (sampling, strings(prompt="What to ask")),
    "test_elicitation": (elicitation, strings(message="What to show")),
    "test_elicitation_sep1034_defaults": (elicitation_defaults, NOTHING),
    "test_elicitation_sep1330_enums": (elicitation_enums, NOTHING),
    "test_missing_capability": (missing_capability, NOTHING),
    "json_schema_2020_12_tool": (echo_arguments, FULL_SCHEMA),
    "test_header_argument": (echo_arguments, HEADER_SCHEMA),
}
