"""Subscriptions to resources: what wakes whoever watches one, and how a session keeps them.

A resource has a mark, which is another one whenever the resource has changed: an inbox's is its mailbox's position,
which costs one query for all inboxes of a stream; another's is a digest of what reading it answers. A subscription is
kept as `{uri}#{mark}`, with the mark of when the client subscribed. Whoever opens the session's stream, then or later
and on whichever worker, tells of what has changed since.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from agent_mail_core.errors import Invalid
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import App, Caller, inbox_topic
from agent_mail_core.watching import WatchInbox, WatchProject, project_topics, watch_inbox
from agent_mail_server.arguments import read_object
from agent_mail_server.mcp_uris import RESOURCES, Named, no_resource, parse_uri
from agent_mail_server.operations import BY_NAME

MAX_READ = 50
"""Resources other than inboxes that one client can watch: each is read anew at every look."""

MARK = re.compile(r"[0-9a-f]{1,20}")


@dataclass(slots=True)
class Watched:
    """A resource that somebody watches, as it was when it was looked at."""

    named: Named
    topics: tuple[str, ...]
    """What wakes whoever watches it. Some changes come without a wake-up: look again from time to time."""
    mark: str
    agent_id: AgentId | None = None
    """Whose inbox it is, if it is one."""


async def watched_resource(app: App, caller: Caller, uri: str) -> Watched:
    """What a URI names, to be watched. Raises NotFound, Forbidden, and Invalid for what nobody can watch."""
    named = parse_uri(uri)
    if not named.resource.is_watched:
        kinds = ", ".join(resource.name for resource in RESOURCES if resource.is_watched)
        raise Invalid(f"A resource of kind {named.resource.name} cannot be subscribed to; these can: {kinds}.")
    try:
        if named.resource.operation == "check_inbox":
            inbox = await watch_inbox(app, caller, WatchInbox.model_validate(named.arguments))
            return Watched(named, (inbox_topic(inbox.agent_id),), str(inbox.position), inbox.agent_id)
        project = WatchProject(project_slug=named.arguments["project_slug"])
    except ValidationError:
        raise no_resource(uri) from None
    topics = await project_topics(app, caller, project)
    return Watched(named, topics, await mark_of(app, caller, named))


async def mark_of(app: App, caller: Caller, named: Named) -> str:
    """The mark of what is no inbox. Raises what reading it raises."""
    operation = BY_NAME[named.resource.operation]
    arguments = {**named.arguments, **named.resource.changing}
    result = await operation.use_case(app, caller, read_object(operation, arguments))
    return hashlib.blake2b(result.to_json(), digest_size=8).hexdigest()


def is_read(uri: str) -> bool:
    """Whether watching it costs a read at every look."""
    return parse_uri(uri).resource.operation != "check_inbox"


def kept_subscription(uri: str, mark: str) -> str:
    """A subscription as a session keeps it."""
    return f"{uri}#{mark}"


def subscribed(kept: Iterable[str]) -> dict[str, str]:
    """The marks that a client knows of, by URI; what is no subscription of ours is not. Of two the lower."""
    marks: dict[str, str] = {}
    for subscription in kept:
        uri, _, mark = subscription.rpartition("#")
        if uri and MARK.fullmatch(mark):
            marks[uri] = min(mark, marks.get(uri, mark), key=lambda each: (len(each), each))
    return marks
