"""`prompts/list` and `prompts/get`: the prompts as the protocol shows them."""

from __future__ import annotations

from typing import Any

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    PaginatedRequestParams,
    PromptArgument,
    PromptMessage,
    TextContent,
)
from mcp_types import Prompt as ListedPrompt
from pydantic import ValidationError

from agent_mail_core.suggestions import near_names
from agent_mail_server.arguments import problem_words
from agent_mail_server.mcp_resources import check_one_page
from agent_mail_server.prompts import PROMPTS, Prompt
from agent_mail_server.schemas import request_schema


def described(prompt: Prompt) -> ListedPrompt:
    """A prompt in a list."""
    schema = request_schema(prompt.request_type)
    required = schema.get("required", ())
    return ListedPrompt(
        name=prompt.name,
        title=prompt.name.replace("_", " ").capitalize(),
        description=prompt.description,
        arguments=[
            PromptArgument(name=name, description=argument.get("description"), required=name in required)
            for name, argument in schema["properties"].items()
        ],
    )


class Prompts:
    """The handlers."""

    def __init__(self) -> None:
        self._listed = [described(prompt) for prompt in PROMPTS]
        self._by_name = {prompt.name: prompt for prompt in PROMPTS}

    async def list(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListPromptsResult:
        """All of them, in their order."""
        check_one_page(params)
        return ListPromptsResult(prompts=self._listed)

    async def get(self, context: ServerRequestContext[Any], params: GetPromptRequestParams) -> GetPromptResult:
        """A prompt's text. An optional argument that is empty is left out: forms send all that they show."""
        prompt = self._by_name.get(params.name)
        if prompt is None:
            near = near_names(params.name[:100], self._by_name)
            hint = f" Did you mean {' or '.join(near)}?" if near else " See prompts/list."
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {params.name[:100]}.{hint}")
        fields = prompt.request_type.model_fields
        arguments = {
            name: value
            for name, value in (params.arguments or {}).items()
            if value or name not in fields or fields[name].is_required()
        }
        try:
            request = prompt.request_type.model_validate(arguments)
        except ValidationError as error:
            raise _refusal(prompt, error) from None
        message = PromptMessage(role="user", content=TextContent(text=prompt.text(request)))
        return GetPromptResult(description=prompt.description, messages=[message])


def _refusal(prompt: Prompt, error: ValidationError) -> MCPError:
    """What is wrong with the arguments, each by name; nothing of what they hold."""
    problems = [
        {"argument": ".".join(str(part)[:100] for part in item["loc"]), "message": problem_words(item)}
        for item in error.errors(include_url=False, include_input=False)
    ][:20]
    first = problems[0]
    known = ", ".join(prompt.request_type.model_fields)
    message = f"{prompt.name}: {first['argument']}: {first['message']}. It takes: {known}."
    return MCPError(INVALID_PARAMS, message, {"errors": problems})
