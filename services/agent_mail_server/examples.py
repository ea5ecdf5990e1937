"""A working example of every operation, in an order in which they all succeed on a fresh database.

Shown by /docs and /openapi.json; tests/wire/test_docs.py performs them, so that what is shown is true.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from agent_mail_server.operations import BY_NAME, Operation

WIDTH = 84


@dataclass(frozen=True, slots=True)
class Example:
    """One call of an operation."""

    operation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def request(self) -> tuple[str, str, dict[str, Any] | None]:
        """Method, path with query, and JSON body."""
        route = BY_NAME[self.operation].routes[0]
        method, _, path = route.partition(" ")
        in_path = Operation.path_fields(route)
        path = path.format(**{name: self.arguments[name] for name in in_path})
        rest = {name: value for name, value in self.arguments.items() if name not in in_path}
        if method == "POST":
            return method, path, rest
        query = urlencode({name: str(value).lower() if value is True else value for name, value in rest.items()}, True)
        return method, f"{path}?{query}" if query else path, None

    def curl(self, base_url: str, with_token: bool) -> str:
        """The call as a shell command."""
        _, path, body = self.request()
        words = ["curl", "-sS", shlex.quote(base_url + path)]
        lines = [" ".join(words)]
        if with_token and not BY_NAME[self.operation].is_public:
            lines.append('-H "Authorization: Bearer $HTTP_BEARER_TOKEN"')
        if body is not None:
            lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(_readable(body))}"]
        return " \\\n  ".join(lines)


def _readable(body: dict[str, Any]) -> str:
    """JSON on one line, or one argument a line when that is too long to read."""
    line = json.dumps(body, ensure_ascii=False)
    if len(line) <= WIDTH:
        return line
    arguments = [f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in body.items()]
    return "{\n" + ",\n".join(arguments) + "\n  }"


_SHOP = {"project_slug": "shop"}
_LAKE = {**_SHOP, "agent_name": "BlueLake"}
_HILL = {**_SHOP, "agent_name": "GreenHill"}

EXAMPLES: tuple[Example, ...] = (
    Example("health"),
    Example("ready"),
    Example("metrics"),
    Example("ensure_project", {"human_key": "/work/shop", "slug": "shop", "description": "The web shop"}),
    Example("list_projects", {"query": "shop"}),
    Example("register_agent", {**_SHOP, "program": "claude-code", "model": "opus", "name": "BlueLake"}),
    Example("register_agent", {**_SHOP, "program": "codex", "model": "gpt", "name": "GreenHill"}),
    Example("get_project", _SHOP),
    Example("list_agents", {**_SHOP, "active_within_seconds": 3600}),
    Example("whois", _LAKE),
    Example("update_agent", {**_LAKE, "task_description": "Rewrites the checkout"}),
    Example("suggest_agent_names", {**_SHOP, "count": 3}),
    Example(
        "send_message",
        {
            **_SHOP,
            "sender_name": "BlueLake",
            "recipient_names": ["GreenHill"],
            "subject": "Checkout API",
            "body_md": "I change `POST /cart` today. Please **hold** your edits.",
            "thread_id": "FEAT-123",
            "priority": "high",
            "ack_required": True,
            "idempotency_key": "cart-1",
        },
    ),
    Example("check_inbox", {**_HILL, "unread_only": True, "include_bodies": True}),
    Example("wait_for_messages", {**_HILL, "timeout_seconds": 5}),
    Example("get_message", {"message_id": 1, **_HILL}),
    Example("mark_read", {**_HILL, "message_ids": [1]}),
    Example("list_pending_acks", {**_HILL, "direction": "owed_by_me"}),
    Example("acknowledge_message", {**_HILL, "message_id": 1}),
    Example("reply_message", {**_SHOP, "sender_name": "GreenHill", "message_id": 1, "body_md": "Fine, I wait."}),
    Example("list_outbox", _LAKE),
    Example("search_messages", {**_SHOP, "query": "checkout -refund"}),
    Example("list_threads", _SHOP),
    Example("get_thread", {"thread_id": "FEAT-123", **_SHOP}),
    Example("ensure_product", {"name": "Store front", "description": "Shop and warehouse"}),
    Example("link_project", {"product_name": "Store front", **_SHOP}),
    Example("list_products", {"limit": 5}),
    Example("product_inbox", {"product_name": "Store front", "agent_name": "GreenHill"}),
    Example("unlink_project", {"product_name": "Store front", **_SHOP}),
    Example("retire_agent", _HILL),
)


def examples_of(operation: str) -> list[Example]:
    """The examples of one operation."""
    return [example for example in EXAMPLES if example.operation == operation]
