"""What somebody who is not to know of a bcc can ask: every operation of the table, in the world of `bcc_worlds`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Ask(NamedTuple):
    """A call. A text `$name` among the arguments is an id of the world."""

    who: str
    operation: str
    arguments: Mapping[str, Any]


SHOP = {"project_slug": "shop"}
DEPOT = {"project_slug": "depot"}
BOB, CID, EVE = ({**SHOP, "agent_name": name} for name in ("Bob", "Cid", "Eve"))
DAN, ZOE = ({**DEPOT, "agent_name": name} for name in ("Dan", "Zoe"))
ZEBULON, XERXES = {**SHOP, "agent_name": "Zebulon"}, {**DEPOT, "agent_name": "Xerxes"}
SLOT = {"slot_name": "main"}
HOOK = {"webhook_id": 1}

READS = (
    Ask("Eve", "health", {}),
    Ask("Eve", "ready", {}),
    Ask("Root", "metrics", {}),
    Ask("Eve", "list_projects", {}),
    Ask("Eve", "get_project", SHOP),
    Ask("Zoe", "get_project", DEPOT),
    Ask("Eve", "list_agents", SHOP),
    Ask("Zoe", "list_agents", DEPOT),
    Ask("Eve", "whois", ZEBULON),
    Ask("Eve", "whois", {**SHOP, "agent_name": "Ann"}),
    Ask("Zoe", "whois", XERXES),
    Ask("Eve", "suggest_agent_names", {**SHOP, "hint": "zebulon", "count": 1}),
    Ask("Bob", "check_inbox", {**BOB, "include_bodies": True}),
    Ask("Dan", "check_inbox", {**DAN, "include_bodies": True}),
    Ask("Eve", "check_inbox", EVE),
    Ask("Eve", "check_inbox", ZEBULON),
    Ask("Root", "check_inbox", {**SHOP, "agent_name": "Overseer"}),
    Ask("Bob", "wait_for_messages", {**BOB, "timeout_seconds": 0}),
    Ask("Dan", "wait_for_messages", {**DAN, "timeout_seconds": 0}),
    Ask("Eve", "wait_for_messages", {**EVE, "timeout_seconds": 0}),
    Ask("Bob", "list_outbox", {**BOB, "include_bodies": True}),
    Ask("Eve", "list_outbox", {**SHOP, "agent_name": "Ann"}),
    *(Ask("Eve", "get_message", {"message_id": f"${name}"}) for name in ("first", "second", "third", "note")),
    *(Ask("Eve", "get_message", {"message_id": f"${name}", **EVE}) for name in ("first", "note")),
    Ask("Bob", "get_message", {"message_id": "$first", **BOB}),
    Ask("Dan", "get_message", {"message_id": "$first", **DAN}),
    Ask("Dan", "get_message", {"message_id": "$note", **DAN}),
    Ask("Zoe", "get_message", {"message_id": "$first", **ZOE}),
    Ask("Zoe", "get_message", {"message_id": "$first", **DEPOT}),
    Ask("Eve", "list_pending_acks", SHOP),
    Ask("Zoe", "list_pending_acks", DEPOT),
    Ask("Bob", "list_pending_acks", BOB),
    Ask("Bob", "list_pending_acks", {**BOB, "direction": "owed_to_me"}),
    *(
        Ask("Eve", "search_messages", {"query": query, **where})
        for query in (
            "plan",
            "plan OR more OR note",
            "Zebulon",
            "Xerxes",
            "from:Zebulon",
            "from:Xerxes",
            "from:Ann -zz",
        )
        for where in ({}, SHOP, ZEBULON, EVE, {"product_name": "All"})
    ),
    Ask("Zoe", "search_messages", {"query": "plan", **XERXES}),
    Ask("Dan", "search_messages", {"query": "plan OR more", **DAN}),
    Ask("Eve", "list_threads", SHOP),
    Ask("Eve", "list_threads", ZEBULON),
    Ask("Zoe", "list_threads", XERXES),
    Ask("Dan", "list_threads", DAN),
    *(Ask("Eve", "get_thread", {**SHOP, "thread_id": f"Feat-{number}"}) for number in (1, 2, 3)),
    Ask("Bob", "get_thread", {**BOB, "thread_id": "Feat-1"}),
    Ask("Dan", "get_thread", {**DAN, "thread_id": "Feat-1@shop"}),
    Ask("Dan", "get_thread", {**DAN, "thread_id": "Feat-2@shop"}),
    Ask("Zoe", "get_thread", {**ZOE, "thread_id": "Feat-1@shop"}),
    Ask("Eve", "summarize_thread", {**SHOP, "thread_ids": ["Feat-1", "Feat-2", "Feat-3"], "wait_seconds": 0}),
    Ask("Eve", "prepare_thread", {**EVE, "thread_id": "Feat-1"}),
    Ask("Eve", "prepare_thread", {**ZEBULON, "thread_id": "Feat-1"}),
    Ask("Dan", "prepare_thread", {**DAN, "thread_id": "Feat-1@shop"}),
    Ask("Eve", "list_contacts", EVE),
    Ask("Eve", "list_contacts", ZEBULON),
    Ask("Eve", "check_paths", {**EVE, "paths": ["a.py"]}),
    Ask("Eve", "list_reservations", SHOP),
    Ask("Eve", "list_slots", SHOP),
    Ask("Eve", "list_products", {}),
    Ask("Eve", "product_inbox", {"product_name": "All"}),
    *(Ask(who, "product_inbox", {"product_name": "All", "agent_name": who}) for who in ("Bob", "Dan", "Eve")),
    Ask("Eve", "product_inbox", {"product_name": "All", "agent_name": "Xerxes"}),
    Ask("Eve", "get_review", {**SHOP, "review_id": "$review"}),
    Ask("Eve", "list_reviews", SHOP),
    Ask("Eve", "get_attachment", {"attachment_id": "$file"}),
    Ask("Zoe", "get_attachment", {"attachment_id": "$file"}),
    *(Ask("Eve", "list_activity", where) for where in ({}, SHOP, DEPOT, ZEBULON, XERXES)),
    Ask("Eve", "archive_log", SHOP),
    *(Ask("Eve", "archive_show", {**SHOP, "path": path}) for path in ("agents/zebulon", "threads/feat-1.md", "state")),
    *(Ask("Eve", "archive_show", {**SHOP, "inbox_of": name}) for name in ("Bob", "Zebulon")),
    Ask("Zoe", "archive_show", {**DEPOT, "inbox_of": "Xerxes"}),
    *(
        Ask(who, "export_project", {**where, "format": format_name, "scrub": scrub})
        for who, where in (("Eve", SHOP), ("Zoe", DEPOT), ("Root", SHOP))
        for format_name in ("json", "markdown", "html", "csv")
        for scrub in ("none", "standard")
    ),
    Ask("Eve", "export_project", {**SHOP, "include_bcc": True}),
    Ask("Root", "list_dead_jobs", {}),
    Ask("Root", "list_legal_holds", {}),
)
"""In an order without meaning: they change nothing."""

WRITES = (
    Ask("Eve", "mark_read", {**EVE, "message_ids": ["$first", "$note"]}),
    Ask("Eve", "mark_read", {**ZEBULON, "message_ids": ["$first"]}),
    Ask("Bob", "mark_read", {**BOB, "message_ids": ["$first", "$note"]}),
    Ask("Zoe", "acknowledge_message", {**ZOE, "message_id": "$first"}),
    Ask("Dan", "acknowledge_message", {**DAN, "message_id": "$first"}),
    Ask(
        "Bob",
        "reply_message",
        {**SHOP, "sender_name": "Bob", "message_id": "$first", "body_md": "Hm", "reply_all": True},
    ),
    Ask(
        "Eve",
        "reply_message",
        {**SHOP, "sender_name": "Eve", "message_id": "$note", "body_md": "Hm", "reply_all": True},
    ),
    Ask("Zoe", "reply_message", {**DEPOT, "sender_name": "Zoe", "message_id": "$first", "body_md": "Hm"}),
    Ask(
        "Dan",
        "reply_message",
        {**DEPOT, "sender_name": "Dan", "message_id": "$first", "body_md": "Hm", "reply_all": True},
    ),
    Ask(
        "Eve",
        "send_message",
        {
            **SHOP,
            "sender_name": "Eve",
            "recipient_names": ["Zebulon"],
            "subject": "Plan",
            "body_md": "?",
            "thread_id": "Feat-1",
            "parent_id": "$first",
            "idempotency_key": "first",
        },
    ),
    Ask("Eve", "set_contact_policy", {**EVE, "policy": "contacts_only"}),
    Ask("Eve", "add_contact", {**EVE, "contact_name": "Xerxes@depot"}),
    Ask("Eve", "respond_contact", {**EVE, "contact_name": "Zebulon", "accept": True}),
    Ask("Eve", "block_contact", {**EVE, "contact_name": "Zebulon"}),
    Ask("Eve", "unblock_contact", {**EVE, "contact_name": "Zebulon"}),
    Ask("Eve", "reserve_file", {**EVE, "paths": ["a.py", "b.py"]}),
    Ask("Eve", "renew_file", {**EVE, "paths": ["a.py"]}),
    Ask("Eve", "release_file", {**EVE, "paths": ["b.py"]}),
    Ask("Root", "force_release_file", {**BOB, "reservation_id": 1, "reason": "mine", "override": True}),
    Ask("Eve", "acquire_build_slot", {**EVE, **SLOT}),
    Ask("Eve", "renew_build_slot", {**EVE, **SLOT}),
    Ask("Eve", "release_build_slot", {**EVE, **SLOT}),
    Ask("Root", "set_slot_capacity", {**SHOP, **SLOT, "slot_type": "build", "capacity": 2}),
    Ask("Eve", "claim_review", {**EVE, "review_id": "$review"}),
    Ask("Eve", "complete_review", {**EVE, "review_id": "$review", "verdict": "approve", "body_md": "Good"}),
    Ask(
        "Eve", "request_review", {**SHOP, "requester_name": "Eve", "thread_id": "Feat-2", "reviewer_names": ["Zebulon"]}
    ),
    Ask("Eve", "cancel_review", {**SHOP, "review_id": 2}),
    Ask("Eve", "request_review", {**SHOP, "requester_name": "Eve", "thread_id": "Feat-3"}),
    Ask("Eve", "hand_off", {**SHOP, "from_agent": "Eve", "to_agent": "Zebulon", "task": "The plan"}),
    Ask("Eve", "broadcast_message", {**SHOP, "sender_name": "Eve", "subject": "Noon", "body_md": "Push."}),
    Ask("Root", "send_overseer_message", {**SHOP, "subject": "Stop", "body_md": "Now."}),
    Ask("Eve", "add_attachment", {**EVE, "file_name": "plan.md", "content_base64": "IyBQbGFuCg=="}),
    Ask("Eve", "ensure_project", {"human_key": "shop"}),
    Ask("Eve", "ensure_product", {"name": "All"}),
    Ask("Eve", "unlink_project", {"product_name": "All", **DEPOT}),
    Ask("Eve", "link_project", {"product_name": "All", **DEPOT}),
    Ask("Eve", "start_session", {"human_key": "shop", "program": "p", "model": "m", "agent_name": "Eve"}),
    Ask("Eve", "register_agent", {**SHOP, "program": "p", "model": "m", "name": "Zebulon"}),
    Ask("Eve", "update_agent", {**EVE, "task_description": "Reads"}),
    Ask("Root", "add_webhook", {"url": "https://hooks.example/mail", "events": ["message.sent"]}),
    Ask("Root", "list_webhooks", {}),
    Ask("Root", "list_webhook_deliveries", HOOK),
    Ask("Root", "redeliver_webhook", HOOK),
    Ask("Root", "test_webhook", HOOK),
    Ask("Root", "remove_webhook", HOOK),
    Ask("Root", "retry_job", {"kind": "archive"}),
    Ask("Root", "drop_job", {"kind": "archive"}),
    Ask("Root", "set_legal_hold", {**SHOP, "on_hold": True}),
    Ask("Root", "set_legal_hold", {**SHOP, "on_hold": False}),
    Ask("Root", "transfer_agent", {**EVE, "principal": "token:7"}),
    Ask("Root", "retire_agent", EVE),
)
"""In their order, each after all before it, and then the reads once more: they may tell of what a write met."""

LAST = (Ask("Root", "delete_project", SHOP), Ask("Dan", "check_inbox", DAN), Ask("Zoe", "list_activity", {}))
