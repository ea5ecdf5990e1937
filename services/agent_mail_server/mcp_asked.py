"""Who asks, as handlers of the SDK's server find it in their context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp.server import ServerRequestContext

from agent_mail_core.ports import Caller
from agent_mail_server.mcp_tools import Toolset


class Asked(NamedTuple):
    """Who asks, in which session if any, and through which list of tools."""

    caller: Caller
    toolset: Toolset
    headers: Mapping[str, str]
    session_id: str = ""


def asked_of(context: ServerRequestContext[Any]) -> Asked:
    """Who asked for what the handler does."""
    assert isinstance(context.request, Asked)
    return context.request
