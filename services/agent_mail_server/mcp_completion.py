"""`completion/complete`: the values that an argument of a resource template or a prompt can have."""

from __future__ import annotations

from typing import Any

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    PromptReference,
)
from pydantic import ValidationError

from agent_mail_core.completions import Completed as Kind
from agent_mail_core.completions import CompleteName, Completions, complete_name
from agent_mail_core.errors import AgentMailError
from agent_mail_core.ports import App
from agent_mail_server.deadlines import deadline
from agent_mail_server.errors import error_body
from agent_mail_server.mcp_asked import asked_of
from agent_mail_server.mcp_uris import RESOURCES
from agent_mail_server.prompts import PROMPTS

KINDS: dict[str, Kind] = {
    "project_slug": "project",
    "agent_name": "agent",
    "from_agent": "agent",
    "to_agent": "agent",
    "thread_id": "thread",
    "product_name": "product",
}
"""What is completed, by the argument's name. Nobody can be helped with the others."""

NOTHING = Completions([], False)


class Completing:
    """The handler."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def complete(self, context: ServerRequestContext[Any], params: CompleteRequestParams) -> CompleteResult:
        """The names that begin with the value, at most 100. Of a project's when the context says which."""
        name = params.argument.name
        if name not in _arguments(params):
            raise MCPError(INVALID_PARAMS, f"There is no argument {name[:100]!r} there.")
        given = params.context.arguments if params.context is not None and params.context.arguments else {}
        # join_project knows its project by the key alone.
        project = given.get("project_slug") or given.get("human_key")
        found = await self._found(context, name, params.argument.value, project)
        total = None if found.has_more else len(found.values)
        return CompleteResult(completion=Completion(values=found.values, total=total, has_more=found.has_more))

    async def _found(
        self, context: ServerRequestContext[Any], name: str, value: str, project: str | None
    ) -> Completions:
        if name not in KINDS:
            return NOTHING
        caller = asked_of(context).caller
        try:
            request = CompleteName(kind=KINDS[name], begin=value, project_slug=project or None)
        except ValidationError:
            return NOTHING  # nothing is named so
        try:
            with deadline(self._app.settings.request_timeout_seconds):
                return await complete_name(self._app, caller, request)
        except TimeoutError:
            raise MCPError(INTERNAL_ERROR, "The names could not be read in time; try again.") from None
        except AgentMailError as error:
            raise MCPError(INTERNAL_ERROR, error.message, error_body(error, caller.request_id)["error"]) from None


def _arguments(params: CompleteRequestParams) -> list[str]:
    """The arguments of what is referred to."""
    ref = params.ref
    if isinstance(ref, PromptReference):
        for prompt in PROMPTS:
            if prompt.name == ref.name:
                return list(prompt.request_type.model_fields)
        raise MCPError(INVALID_PARAMS, f"Unknown prompt: {ref.name[:100]}. See prompts/list.")
    for resource in RESOURCES:
        if resource.template == ref.uri:
            return resource.variables
    raise MCPError(INVALID_PARAMS, f"Unknown template: {ref.uri[:300]}. See resources/templates/list.")
