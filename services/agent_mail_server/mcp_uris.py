"""The resources that there are: which URIs name one, and which operation with which arguments reads it.

The variables of a template are arguments of its operation. A value stands in a URI percent-encoded; whatever is not
exactly as a template says names nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from mcp_types import ResourceTemplate

from agent_mail_core.errors import NotFound

JSON = "application/json"
LONGEST_VALUE = 1200
"""Characters of one value in a URI: a product's name of a hundred characters may be percent-encoded all over."""

LONGEST_URI = 4096
"""Characters of a URI that an answer repeats: all of each that names something."""

PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
IDS = frozenset({"message_id"})
ID = re.compile(r"[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Resource:
    """A kind of resource. Reading one answers what its operation answers."""

    name: str
    template: str
    operation: str
    description: str
    more: Mapping[str, Any] = field(default_factory=dict)
    """Arguments beside those in the URI."""
    changing: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that leave out what never changes, for whoever looks for changes only."""
    is_watched: bool = False
    """A client can subscribe to it."""

    @cached_property
    def variables(self) -> list[str]:
        """What its URIs say."""
        return re.findall(r"\{(\w+)\}", self.template)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Its URIs."""
        value = rf"([^/?#\s]{{1,{LONGEST_VALUE}}})"
        return re.compile(value.join(re.escape(part) for part in re.split(r"\{\w+\}", self.template)))

    @cached_property
    def listed(self) -> ResourceTemplate:
        """As the list of templates shows it."""
        return ResourceTemplate(
            name=self.name,
            title=self.name.capitalize(),
            uri_template=self.template,
            description=self.description,
            mime_type=JSON,
        )


PROJECT = "agentmail://project/{project_slug}"

RESOURCES: tuple[Resource, ...] = (
    Resource(
        "inbox",
        PROJECT + "/inbox/{agent_name}",
        "check_inbox",
        "An agent's newest mail, without bodies, as check_inbox answers it. Subscribe to hear of new mail.",
        is_watched=True,
    ),
    Resource(
        "outbox",
        PROJECT + "/outbox/{agent_name}",
        "list_outbox",
        "What an agent sent last, without bodies, as list_outbox answers it.",
    ),
    Resource(
        "thread",
        PROJECT + "/thread/{thread_id}",
        "get_thread",
        "A thread's messages, oldest first, as get_thread answers it. Subscribe to hear of more.",
        changing={"include_bodies": False},
        is_watched=True,
    ),
    Resource(
        "agents",
        PROJECT + "/agents",
        "list_agents",
        "The agents of a project A-Z, as list_agents answers them.",
        {"limit": 100},
    ),
    Resource(
        "reservations",
        PROJECT + "/reservations",
        "list_reservations",
        "Who keeps which paths until when, as list_reservations answers it. Subscribe to hear of changes.",
        {"limit": 100},
        is_watched=True,
    ),
    Resource(
        "slots",
        PROJECT + "/slots",
        "list_slots",
        "Build slots with their holders and queues, as list_slots answers them. Subscribe to hear of changes.",
        {"limit": 100},
        is_watched=True,
    ),
    Resource(
        "message",
        "agentmail://message/{message_id}",
        "get_message",
        "One message with its body and recipients, as get_message answers it.",
    ),
    Resource(
        "product",
        "agentmail://product/{product_name}",
        "product_inbox",
        "The newest mail of all projects of a product, as product_inbox answers it.",
    ),
)


@dataclass(frozen=True, slots=True)
class Named:
    """What a URI names: a resource of some kind, and the arguments that its operation is called with."""

    uri: str
    resource: Resource
    arguments: dict[str, Any]


def no_resource(uri: str) -> NotFound:
    """The error for a URI that names nothing."""
    return NotFound(
        f"There is no resource {uri[:300]!r}; see resources/templates/list.",
        uri=uri[:300],
        suggestion="resources/templates/list",
    )


def parse_uri(uri: str) -> Named:
    """What a URI names. Raises NotFound for one that no template makes; whether there is such a thing is not asked."""
    for resource in RESOURCES:
        found = resource.pattern.fullmatch(uri)
        if found is not None:
            values = {name: _value(name, text) for name, text in zip(resource.variables, found.groups(), strict=True)}
            if None in values.values():
                break
            return Named(uri, resource, {**values, **resource.more})
    raise no_resource(uri)


def _value(name: str, text: str) -> str | int | None:
    """A value as a URI spells it; None for what is no UTF-8, percent-encoded."""
    if PERCENT.search(text):
        return None
    try:
        value = unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None
    if name in IDS:
        return int(value) if ID.fullmatch(value) else None
    return value
