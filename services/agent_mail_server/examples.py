"""A working example of every operation, in an order in which they all succeed on a fresh database.

Shown by /docs and /openapi.json; tests/wire/test_docs.py performs them, so that what is shown is true.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from agent_mail_server.operations import BY_NAME, Operation

WIDTH = 84


@dataclass(frozen=True, slots=True)
class Example:
    """One call of an operation."""

    operation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    taken_from: str | None = None
    """The operation whose answer brings the value of the argument in the path: nobody can know it before."""

    def after(self, answer: Mapping[str, Any]) -> Example:
        """The same with what the answer of `taken_from` brings."""
        in_path = Operation.path_fields(BY_NAME[self.operation].routes[0])
        return replace(self, arguments={**self.arguments, **{name: answer[name] for name in in_path}})

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
        method, path, body = self.request()
        words = ["curl", "-sS", shlex.quote(base_url + path)]
        lines = [" ".join(words)]
        if with_token and not BY_NAME[self.operation].is_public:
            lines.append('-H "Authorization: Bearer $HTTP_BEARER_TOKEN"')
        if method == "DELETE":
            lines.append("-X DELETE")
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
    Example("ensure_project", {"human_key": "/code/shop", "slug": "shop", "description": "The web shop"}),
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
    Example("summarize_thread", {**_SHOP, "thread_ids": ["FEAT-123", "FEAT-9"], "wait_seconds": 1}),
    Example("prepare_thread", {**_HILL, "thread_id": "FEAT-123"}),
    Example("set_contact_policy", {**_HILL, "policy": "contacts_only"}),
    Example("add_contact", {**_LAKE, "contact_name": "GreenHill", "reason": "We share the checkout"}),
    Example("respond_contact", {**_HILL, "contact_name": "BlueLake", "accept": True}),
    Example("list_contacts", {**_LAKE, "status": "accepted"}),
    Example("block_contact", {**_LAKE, "contact_name": "GreenHill"}),
    Example("unblock_contact", {**_LAKE, "contact_name": "GreenHill"}),
    Example("reserve_file", {**_LAKE, "paths": ["src/cart/**", "docs/cart.md"], "reason": "The total is wrong"}),
    Example("reserve_file", {**_HILL, "paths": ["src/cart/total.py"], "wait_seconds": 0.5}),
    Example("renew_file", {**_LAKE, "paths": ["docs/cart.md"], "ttl_seconds": 600}),
    Example("check_paths", {**_HILL, "paths": ["src/cart/total.py", "README.md"]}),
    Example("list_reservations", _SHOP),
    Example("release_file", {**_LAKE, "paths": ["docs/cart.md"]}),
    Example(
        "force_release_file",
        {**_HILL, "reservation_id": 1, "reason": "The release cannot wait for BlueLake", "override": True},
    ),
    Example("acquire_build_slot", {**_LAKE, "slot_name": "frontend", "slot_type": "test", "capacity": 1}),
    Example("acquire_build_slot", {**_HILL, "slot_name": "frontend", "slot_type": "test", "wait_seconds": 0.5}),
    Example("renew_build_slot", {**_LAKE, "slot_name": "frontend", "slot_type": "test", "ttl_seconds": 600}),
    Example("list_slots", _SHOP),
    Example("set_slot_capacity", {**_SHOP, "slot_name": "frontend", "slot_type": "test", "capacity": 2}),
    Example("release_build_slot", {**_LAKE, "slot_name": "frontend", "slot_type": "test"}),
    Example("ensure_product", {"name": "Store front", "description": "Shop and warehouse"}),
    Example("link_project", {"product_name": "Store front", **_SHOP}),
    Example("list_products", {"limit": 5}),
    Example("product_inbox", {"product_name": "Store front", "agent_name": "GreenHill"}),
    Example("unlink_project", {"product_name": "Store front", **_SHOP}),
    Example("list_activity", {**_LAKE, "limit": 5}),
    Example("archive_log", {**_SHOP, "path": "threads", "limit": 5}),
    Example("archive_show", {**_SHOP, "inbox_of": "GreenHill"}),
    Example("add_attachment", {**_LAKE, "file_name": "plan.md", "content_base64": "IyBQbGFuCg=="}),
    Example("get_attachment", {"attachment_id": "00112233445566778899aabbccddeeff"}, taken_from="add_attachment"),
    Example("export_project", {**_SHOP, "format": "markdown", "scrub": "standard"}),
    Example("add_webhook", {"url": "https://hooks.example/agent-mail", "events": ["contact.requested"], **_SHOP}),
    Example("list_webhooks", {**_SHOP, "limit": 5}),
    Example("test_webhook", {"webhook_id": 1}),
    Example("list_webhook_deliveries", {"webhook_id": 1, "limit": 5}),
    Example("redeliver_webhook", {"webhook_id": 1}),
    Example("remove_webhook", {"webhook_id": 1}),
    Example("list_dead_jobs", {"limit": 5}),
    Example("retry_job", {"kind": "archive"}),
    Example("drop_job", {"kind": "summary", "subject_id": 1}),
    Example(
        "start_session",
        {
            "human_key": "/code/shop",
            "program": "aider",
            "model": "sonnet",
            "agent_name": "RedPine",
            "reserve_paths": ["tests/**"],
            "idempotency_key": "pine-1",
        },
    ),
    Example(
        "hand_off",
        {
            **_SHOP,
            "from_agent": "RedPine",
            "to_agent": "BlueLake",
            "task": "Write the tests of the checkout",
            "paths": ["tests/**"],
            "notes": "`total.py` has none yet.",
            "idempotency_key": "pine-2",
        },
    ),
    Example(
        "request_review",
        {
            **_SHOP,
            "requester_name": "BlueLake",
            "thread_id": "FEAT-123",
            "reviewer_names": ["GreenHill", "RedPine"],
            "paths": ["src/cart/total.py"],
            "note": "Is the rounding right?",
            "idempotency_key": "review-1",
        },
    ),
    Example("list_reviews", {**_SHOP, "state": "requested", "agent_name": "GreenHill"}),
    Example("claim_review", {**_HILL, "review_id": 1, "ttl_seconds": 1800}),
    Example(
        "complete_review",
        {**_HILL, "review_id": 1, "verdict": "request_changes", "body_md": "Round **once**, at the end."},
    ),
    Example("get_review", {**_SHOP, "review_id": 1}),
    Example("request_review", {**_SHOP, "requester_name": "BlueLake", "message_id": 1}),
    Example("cancel_review", {**_SHOP, "review_id": 2}),
    Example(
        "broadcast_message",
        {
            **_SHOP,
            "sender_name": "BlueLake",
            "subject": "Release at noon",
            "body_md": "Please push before noon.",
            "active_within_seconds": 600,
            "idempotency_key": "noon-1",
        },
    ),
    Example(
        "send_overseer_message",
        {
            **_SHOP,
            "recipient_names": ["BlueLake"],
            "subject": "No release today",
            "body_md": "The payment provider is down.",
            "idempotency_key": "stop-1",
        },
    ),
    Example("set_legal_hold", {**_SHOP, "on_hold": True, "reason": "Case 4711"}),
    Example("list_legal_holds", {}),
    Example("set_legal_hold", {**_SHOP, "on_hold": False}),
    Example("transfer_agent", {**_SHOP, "agent_name": "RedPine", "principal": "token:7"}),
    Example("retire_agent", _HILL),
    Example("delete_project", _SHOP),
)


def examples_of(operation: str) -> list[Example]:
    """The examples of one operation."""
    return [example for example in EXAMPLES if example.operation == operation]
