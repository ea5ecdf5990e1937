"""Inboxes by their URIs as MCP resources, and subscriptions to them as a session keeps them.

A subscription is kept as `{uri}#{position}`: the mailbox's position when the client subscribed. Whoever opens the
session's stream, then or later and on whichever worker, tells of the mail that has come since.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from pydantic import ValidationError

from agent_mail_core.errors import NotFound
from agent_mail_core.ports import App, Caller
from agent_mail_core.watching import WatchedInbox, WatchInbox, watch_inbox

INBOX_TEMPLATE = "agentmail://project/{project_slug}/inbox/{agent_name}"
INBOX_URI = re.compile(r"agentmail://project/([^/?#\s]{1,300})/inbox/([^/?#\s]{1,300})")


def parse_inbox_uri(uri: str) -> dict[str, str]:
    """The project and the agent that a URI names, as arguments of operations. Raises NotFound for any other URI."""
    found = INBOX_URI.fullmatch(uri)
    if found is None:
        raise NotFound(f"There is no resource {uri[:300]!r}.", uri=uri[:300])
    return {"project_slug": unquote(found[1]), "agent_name": unquote(found[2])}


async def inbox_of_uri(app: App, caller: Caller, uri: str) -> WatchedInbox:
    """The inbox that a URI names. Raises what `watch_inbox` raises, and NotFound for what names no inbox."""
    try:
        request = WatchInbox.model_validate(parse_inbox_uri(uri))
    except ValidationError:
        raise NotFound(f"There is no resource {uri[:300]!r}.", uri=uri[:300]) from None
    return await watch_inbox(app, caller, request)


def kept_subscription(uri: str, position: int) -> str:
    """A subscription as a session keeps it."""
    return f"{uri}#{position}"


def subscribed(kept: Iterable[str]) -> dict[str, int]:
    """The positions from which on a client wants to hear of inboxes, by URI; what is no subscription of ours is not."""
    positions: dict[str, int] = {}
    for subscription in kept:
        uri, _, position = subscription.rpartition("#")
        if uri and position.isascii() and position.isdigit():
            positions[uri] = min(int(position), positions.get(uri, int(position)))
    return positions
