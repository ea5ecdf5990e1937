"""The server that the suite wants: tools, resources and prompts on the SDK's low-level server, for our endpoint.

Its lists change on request, and that is heard on every worker: by the wake-ups of the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import Server
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ServerEvent,
    SubscriptionBus,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    EmptyResult,
    ListToolsResult,
    PaginatedRequestParams,
    SubscribeRequestParams,
    Tool,
    UnsubscribeRequestParams,
)

from agent_mail_core.ports import App, Wakeups
from agent_mail_server.mcp_asked import asked_of
from tests.conformance.fixture_contents import (
    complete,
    get_prompt,
    list_prompts,
    list_resource_templates,
    list_resources,
    read_resource,
    set_logging_level,
)
from tests.conformance.fixture_inputs import INPUT_TOOLS
from tests.conformance.fixture_tools import NOTHING, TOOLS, Context, ToolResult, text

METHODS: tuple[CacheableMethod, ...] = (
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "server/discover",
)
STATE_KEY = "0" * 64
"""The same on both workers, or what one seals the other refuses."""


TOPICS: dict[str, ServerEvent] = {"fixture:tools": ToolsListChanged(), "fixture:prompts": PromptsListChanged()}


class WakeupBus(SubscriptionBus):
    """Events that go to the listeners on every worker. There are two, so each has its topic and no content."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._here = InMemorySubscriptionBus()

    async def publish(self, event: ServerEvent) -> None:
        await self._wakeups.publish(topic for topic, kind in TOPICS.items() if kind == event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        return self._here.subscribe(listener)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Events are heard inside the block."""
        tasks = [asyncio.create_task(self._hear(topic)) for topic in TOPICS]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _hear(self, topic: str) -> None:
        async with self._wakeups.subscribe(topic) as news:
            while True:
                if await news.wait(60):
                    await self._here.publish(TOPICS[topic])


def fixture_server(app: App, bus: WakeupBus) -> Server[Any]:
    """The server. It has no state of its own: both workers answer alike."""

    async def trigger_tool_change(context: Context, params: CallToolRequestParams) -> ToolResult:
        await bus.publish(ToolsListChanged())
        return text("The list of tools has changed.")

    async def trigger_prompt_change(context: Context, params: CallToolRequestParams) -> ToolResult:
        await bus.publish(PromptsListChanged())
        return text("The list of prompts has changed.")

    tools = {
        **TOOLS,
        **INPUT_TOOLS,
        "test_trigger_tool_change": (trigger_tool_change, NOTHING),
        "test_trigger_prompt_change": (trigger_prompt_change, NOTHING),
    }

    async def list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(
            tools=[Tool(name=name, description=name, input_schema=schema) for name, (_, schema) in tools.items()]
        )

    async def call_tool(context: Context, params: CallToolRequestParams) -> ToolResult:
        if params.name not in tools:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        return await tools[params.name][0](context, params)

    async def subscribe(context: Context, params: SubscribeRequestParams) -> EmptyResult:
        await app.subscriptions.add(asked_of(context).session_id, str(params.uri))
        return EmptyResult()

    async def unsubscribe(context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        await app.subscriptions.remove(asked_of(context).session_id, str(params.uri))
        return EmptyResult()

    server = Server[Any](
        "conformance",
        version="1",
        cache_hints=dict.fromkeys(METHODS, CacheHint(ttl_ms=60_000, scope="public")),
        get_tool_input_schema=lambda name: tools[name][1] if name in tools else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_resource_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=set_logging_level,
    )
    security = RequestStateSecurity(keys=[STATE_KEY], audience="conformance")
    server.middleware.append(RequestStateBoundary(security, default_audience="conformance"))
    return server
