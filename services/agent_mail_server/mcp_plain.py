"""Tool calls that are plain: allowed by the protocol, with nothing in them but a tool's name and arguments.

The protocol's own checks (the SDK's models and headers' ladder) judge a client's first call. What they look at beside
name and arguments is `_meta`, which a client sends unchanged with every call: what has passed once passes at a glance,
which takes 1 µs instead of 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER
from mcp_types import CallToolRequestParams
from mcp_types.methods import validate_client_request
from pydantic import ValidationError

from agent_mail_server.mcp_wire import Message

PLAIN_PARAMS = frozenset({"name", "arguments", "_meta"})
PROGRESS_KEY = "progressToken"
MOST_KNOWN, LONGEST_KNOWN = 1024, 1024
"""How many kinds of clients are remembered, and of how many bytes; others are judged each time."""


class PlainCalls:
    """Judges the params of tool calls, and remembers which `_meta` each revision allows."""

    def __init__(self) -> None:
        self._known: set[tuple[str, bytes]] = set()

    def is_known(self, version: str, params: Mapping[str, Any]) -> bool:
        """Whether `is_allowed` would say yes because it did for the same `_meta`. The name is known to be a text."""
        arguments = params.get("arguments")
        return (
            params.keys() <= PLAIN_PARAMS
            and (arguments is None or isinstance(arguments, dict))
            and (version, orjson.dumps(params.get("_meta"))) in self._known
        )

    def is_allowed(self, version: str, params: dict[str, Any]) -> bool:
        """Whether a revision allows a call with these params."""
        if self.is_known(version, params):
            return True
        try:
            validate_client_request("tools/call", version, params)
            if not params.keys() <= PLAIN_PARAMS:
                CallToolRequestParams.model_validate(params, by_name=False)
        except ValidationError:
            return False
        self._remember(version, params.get("_meta"))
        return True

    def _remember(self, version: str, meta: Any) -> None:
        if isinstance(meta, dict) and PROGRESS_KEY in meta:  # another one with each call
            return
        written = orjson.dumps(meta)
        if len(self._known) < MOST_KNOWN and len(written) <= LONGEST_KNOWN:
            self._known.add((version, written))


def is_named_in_headers(message: Message, headers: Mapping[str, str]) -> bool:
    """Whether the headers of revision 2026-07-28 say plainly what a tool call's body says."""
    return (
        message.method == "tools/call"
        and message.params is not None
        and headers.get(MCP_METHOD_HEADER) == "tools/call"
        and headers.get(MCP_NAME_HEADER) == message.params.get("name")
    )
