"""The tools and the prompt that answer with questions: the client repeats its request with the answers (SEP-2322)."""

from __future__ import annotations

from typing import Any

from mcp.server import ServerRequestContext
from mcp_types import (
    CallToolRequestParams,
    ElicitResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    PromptMessage,
    TextContent,
)

from tests.conformance.fixture_tools import NOTHING, ToolHandler, ToolResult, text

Context = ServerRequestContext[Any]
Questions = dict[str, dict[str, Any]]


def form(message: str, **kinds: str) -> dict[str, Any]:
    """A question to a person."""
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    schema = {"type": "object", "properties": properties, "required": list(kinds)}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sample(prompt: str) -> dict[str, Any]:
    """A question to a model."""
    messages = [{"role": "user", "content": {"type": "text", "text": prompt}}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 100}}


ROOTS: dict[str, Any] = {"method": "roots/list", "params": {}}
NAME = form("What is your name?", name="string")


def asked(questions: Questions, state: str | None = None) -> InputRequiredResult:
    """An answer of questions."""
    return InputRequiredResult.model_validate({"inputRequests": questions, "requestState": state})


def are_answered(params: CallToolRequestParams | GetPromptRequestParams, questions: Questions) -> bool:
    """Whether the client has answered all of them."""
    return questions.keys() <= (params.input_responses or {}).keys()


def asking(questions: Questions, state: str | None = None) -> ToolHandler:
    """A tool that is done when its questions are answered, and its state comes back."""

    async def handler(context: Context, params: CallToolRequestParams) -> ToolResult:
        if are_answered(params, questions) and params.request_state == state:
            return text(f"Done: {sorted(params.input_responses or {})}; state-ok")
        return asked(questions, state)

    return handler


async def greet(context: Context, params: CallToolRequestParams) -> ToolResult:
    reply = (params.input_responses or {}).get("user_name")
    if isinstance(reply, ElicitResult) and reply.content is not None:
        return text(f"Hello, {reply.content.get('name')}!")
    return asked({"user_name": NAME})


async def multi_round(context: Context, params: CallToolRequestParams) -> ToolResult:
    if params.request_state == "two" and are_answered(params, {"step2": {}}):
        return text("Both steps are done.")
    if params.request_state == "one" and are_answered(params, {"step1": {}}):
        return asked({"step2": form("Step 2: What is your favorite color?", color="string")}, "two")
    return asked({"step1": form("Step 1: What is your name?", name="string")}, "one")


async def by_capabilities(context: Context, params: CallToolRequestParams) -> ToolResult:
    """Only what the client declares is asked."""
    capabilities = context.session.client_capabilities
    questions = {}
    if capabilities is not None and capabilities.sampling is not None:
        questions["greeting"] = sample("Generate a greeting")
    if capabilities is not None and capabilities.elicitation is not None:
        questions["user_name"] = NAME
    if not questions or are_answered(params, questions):
        return text("Nothing (more) to ask.")
    return asked(questions)


async def input_required_prompt(
    context: Context, params: GetPromptRequestParams
) -> GetPromptResult | InputRequiredResult:
    questions = {"user_context": form("What context should the prompt use?", context="string")}
    if not are_answered(params, questions):
        return asked(questions)
    return GetPromptResult(messages=[PromptMessage(role="user", content=TextContent(text="With your context"))])


CONFIRM = {"confirm": form("Please confirm", ok="boolean")}
PREFIX = "test_input_required_result_"

INPUT_TOOLS: dict[str, tuple[ToolHandler, dict[str, Any]]] = {
    PREFIX + "elicitation": (greet, NOTHING),
    PREFIX + "sampling": (asking({"capital_question": sample("What is the capital of France?")}), NOTHING),
    PREFIX + "list_roots": (asking({"client_roots": ROOTS}), NOTHING),
    PREFIX + "request_state": (asking(CONFIRM, "state"), NOTHING),
    PREFIX + "multiple_inputs": (
        asking({"user_name": NAME, "greeting": sample("Generate a greeting"), "client_roots": ROOTS}, "state"),
        NOTHING,
    ),
    PREFIX + "multi_round": (multi_round, NOTHING),
    PREFIX + "tampered_state": (asking(CONFIRM, "state"), NOTHING),
    PREFIX + "capabilities": (by_capabilities, NOTHING),
    "test_streaming_elicitation": (asking(CONFIRM), NOTHING),
}
