"""The resources, prompts and completions that the suite reads."""

from __future__ import annotations

import json
import re
from typing import Any

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    BlobResourceContents,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmbeddedResource,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ImageContent,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)

from tests.conformance.fixture_inputs import input_required_prompt
from tests.conformance.fixture_tools import PNG

Context = ServerRequestContext[Any]

RESOURCES = {
    "test://static-text": "text/plain",
    "test://static-binary": "image/png",
    "test://watched-resource": "text/plain",
}
TEMPLATE = "test://template/{id}/data"
TEMPLATE_URI = re.compile(r"test://template/([^/]+)/data")

PROMPTS: dict[str, list[str]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}


async def list_resources(context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
    return ListResourcesResult(
        resources=[Resource(uri=uri, name=uri, mime_type=mime_type) for uri, mime_type in RESOURCES.items()]
    )


async def list_resource_templates(
    context: Context, params: PaginatedRequestParams | None
) -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(
        resource_templates=[ResourceTemplate(name="template", uri_template=TEMPLATE, mime_type="application/json")]
    )


async def read_resource(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    uri = str(params.uri)
    found = TEMPLATE_URI.fullmatch(uri)
    if found is not None:
        data = {"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"}
        return _read_text(uri, "application/json", json.dumps(data))
    if uri not in RESOURCES:
        raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})
    if RESOURCES[uri] == "image/png":
        return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)])
    return _read_text(uri, "text/plain", "This is the content of the static text resource.")


def _read_text(uri: str, mime_type: str, words: str) -> ReadResourceResult:
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=mime_type, text=words)])


async def list_prompts(context: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
    return ListPromptsResult(
        prompts=[
            Prompt(
                name=name,
                description=name,
                arguments=[PromptArgument(name=wanted, description=wanted, required=True) for wanted in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]
    )


async def get_prompt(context: Context, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
    arguments = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            return _prompt(TextContent(text="This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            words = f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'"
            return _prompt(TextContent(text=words))
        case "test_prompt_with_embedded_resource":
            words = "Embedded resource content for testing."
            resource = TextResourceContents(uri=arguments["resourceUri"], mime_type="text/plain", text=words)
            return _prompt(
                EmbeddedResource(resource=resource), TextContent(text="Please process the embedded resource above.")
            )
        case "test_prompt_with_image":
            return _prompt(
                ImageContent(data=PNG, mime_type="image/png"), TextContent(text="Please analyze the image above.")
            )
        case "test_input_required_result_prompt":
            return await input_required_prompt(context, params)
        case _:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {params.name}")


def _prompt(*contents: TextContent | ImageContent | EmbeddedResource) -> GetPromptResult:
    return GetPromptResult(messages=[PromptMessage(role="user", content=content) for content in contents])


async def complete(context: Context, params: CompleteRequestParams) -> CompleteResult:
    return CompleteResult(completion=Completion(values=["test-value"], total=1, has_more=False))


async def set_logging_level(context: Context, params: SetLevelRequestParams) -> EmptyResult:
    """All levels are sent in any case."""
    return EmptyResult()
