"""For every argument of every operation: a call, and another value of that argument which must change something.

The calls are made in the world of `argument_world`. A value is literal, or a marker: `Told` takes it from what the call
without it answered, `Refused` expects an error, `Beside` changes other arguments of the call too, for both runs, and
`Meanwhile` has another call made while this one waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.wire.argument_world import BETWEEN, SHOP, WHO


@dataclass(frozen=True)
class Told:
    """The value of a field of the answer to the call without the argument."""

    name: str


@dataclass(frozen=True)
class Refused:
    """A value that the operation refuses with this code."""

    value: Any
    code: str


@dataclass(frozen=True)
class Beside:
    """A value that changes something in the company of other arguments."""

    others: Mapping[str, Any]
    value: Any


@dataclass(frozen=True)
class Meanwhile:
    """A value that changes something when another call is made while this one waits, or after it."""

    value: Any
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effects:
    """A call that succeeds, and what of it can be changed to what."""

    base: Mapping[str, Any]
    changed: Mapping[str, Any]


WEB = "web"
ANN, BOB, CID = ({**SHOP, "agent_name": name} for name in ("Ann", "Bob", "Cid"))
PAGE = {"limit": 2, "cursor": Told("next_cursor")}
KEY = {"idempotency_key": "k"}
LETTER = {"subject": "Plum", "body_md": "Sweet."}
NEW_MAIL = {**SHOP, "sender_name": "Ann", "recipient_names": ["Bob"], **LETTER}

EFFECTS: dict[str, Effects] = {
    "ensure_project": Effects({"human_key": "/k"}, {"human_key": "/l", "slug": "kk", "description": "d"}),
    "list_projects": Effects({"limit": 1}, {"query": "web", **PAGE}),
    "get_project": Effects(SHOP, {"project_slug": WEB}),
    "delete_project": Effects(SHOP, {"project_slug": Refused(WEB, "project_on_hold")}),
    "register_agent": Effects(
        {**SHOP, **WHO},
        {
            "project_slug": WEB,
            "program": "vi",
            "model": "m-2",
            "name": "Fay",
            "task_description": "t",
            "contact_policy": "open",
            **KEY,
        },
    ),
    "list_agents": Effects(
        {**SHOP, "limit": 1},
        {
            "project_slug": WEB,
            "active_within_seconds": Beside({"limit": 20}, 900),
            "include_retired": Beside({"limit": 20}, True),
            **PAGE,
        },
    ),
    "whois": Effects(ANN, {"project_slug": WEB, "agent_name": "Bob"}),
    "update_agent": Effects(
        ANN,
        {
            "project_slug": WEB,
            "agent_name": "Bob",
            "task_description": "t",
            "contact_policy": "open",
            "program": "vi",
            "model": "m-2",
        },
    ),
    "retire_agent": Effects(ANN, {"project_slug": WEB, "agent_name": "Bob"}),
    "transfer_agent": Effects(
        {**ANN, "principal": "token:7"}, {"project_slug": WEB, "agent_name": "Bob", "principal": "token:8"}
    ),
    "suggest_agent_names": Effects(
        {**SHOP, "hint": "Wim", "count": 1},
        {"project_slug": Refused("none", "project_not_found"), "hint": "Zoe", "count": 2},
    ),
    "send_message": Effects(
        NEW_MAIL,
        {
            "project_slug": WEB,
            "sender_name": "Gus",
            "recipient_names": ["Ann"],
            "subject": "s",
            "body_md": "b",
            "cc_names": ["Eve"],
            "bcc_names": ["Eve"],
            "thread_id": "FEAT-1",
            "parent_id": 1,
            "priority": "high",
            "ack_required": True,
            "attachment_ids": ["note.txt"],
            **KEY,
            "allow_partial": Beside({"recipient_names": ["Bob", "Nobody"]}, True),
        },
    ),
    "reply_message": Effects(
        {**SHOP, "sender_name": "Bob", "message_id": 6, "body_md": "Yes."},
        {
            "project_slug": Refused(WEB, "message_not_found"),
            "sender_name": "Eve",
            "message_id": 5,
            "body_md": "No.",
            "recipient_names": ["Eve"],
            "reply_all": True,
            "priority": "high",
            "ack_required": True,
            "attachment_ids": Beside({"sender_name": "Ann"}, ["note.txt"]),
            "allow_partial": Beside({"recipient_names": ["Ann", "Nobody"]}, True),
            **KEY,
        },
    ),
    "check_inbox": Effects(
        {**BOB, "limit": 1},
        {
            "project_slug": WEB,
            "agent_name": "Ann",
            "cursor": Told("cursor"),
            "before": Told("older_cursor"),
            "limit": 2,
            "unread_only": Beside({"limit": 20}, True),
            "min_priority": Beside({"limit": 20}, "high"),
            "thread_id": "FEAT-1",
            "since": Beside({"limit": 20}, BETWEEN),
            "include_bodies": True,
        },
    ),
    "wait_for_messages": Effects(
        {**BOB, "timeout_seconds": 0},
        {
            "project_slug": WEB,
            "agent_name": "Ann",
            "cursor": Told("cursor"),
            "include_bodies": True,
            "min_priority": "high",
            "timeout_seconds": Beside(
                {"agent_name": "Gus"},
                Meanwhile(20, "overseer/send", {**SHOP, "recipient_names": ["Gus"], **LETTER}),
            ),
        },
    ),
    "list_outbox": Effects(
        {**ANN, "limit": 1}, {"project_slug": WEB, "agent_name": "Bob", "include_bodies": True, **PAGE}
    ),
    "mark_read": Effects({**BOB, "message_ids": [2]}, {"project_slug": WEB, "agent_name": "Ann", "message_ids": [5]}),
    "acknowledge_message": Effects(
        {**BOB, "message_id": 2},
        {
            "project_slug": Refused(WEB, "message_not_found"),
            "agent_name": Refused("Cid", "not_a_recipient"),
            "message_id": 5,
        },
    ),
    "list_pending_acks": Effects(
        {**SHOP, "limit": 1},
        {
            "project_slug": WEB,
            "agent_name": "Ann",
            "direction": Beside({"agent_name": "Ann"}, "owed_to_me"),
            "older_than_seconds": Beside({"limit": 20}, 1500),
            **PAGE,
        },
    ),
    "search_messages": Effects(
        {"query": "apple", "limit": 1},
        {
            "query": "pear",
            "project_slug": Beside({"limit": 20}, WEB),
            "product_name": Beside({"limit": 20}, "Void"),
            "agent_name": Beside({"limit": 20, **SHOP}, "Eve"),
            "mode": "text",
            "since": Beside({"limit": 20}, BETWEEN),
            **PAGE,
        },
    ),
    "get_message": Effects(
        {"message_id": 1},
        {"message_id": 2, "project_slug": Refused(WEB, "message_not_found"), "agent_name": Beside(SHOP, "Bob")},
    ),
    "list_threads": Effects({**SHOP, "limit": 1}, {"project_slug": WEB, "agent_name": "Eve", "query": "pear", **PAGE}),
    "get_thread": Effects(
        {**SHOP, "thread_id": "FEAT-1", "limit": 1},
        {
            "project_slug": Beside({"thread_id": "WEB-1", **SHOP}, WEB),
            "thread_id": "FEAT-2",
            "agent_name": "Bob",
            "include_bodies": False,
            **PAGE,
        },
    ),
    "summarize_thread": Effects(
        {**SHOP, "thread_ids": ["FEAT-1"]},
        {
            "project_slug": WEB,
            "thread_ids": ["FEAT-2"],
            "agent_name": Beside({"project_slug": WEB, "thread_ids": ["FEAT-1@shop"]}, "Wim"),
            "refresh": True,
            "wait_seconds": Beside({"thread_ids": ["FEAT-2"]}, 0),
        },
    ),
    "add_contact": Effects(
        {**BOB, "contact_name": "Cid"},
        {
            "project_slug": Refused(WEB, "agent_not_found"),
            "agent_name": "Eve",
            "contact_name": "Ann",
            "reason": "r",
            "ttl_seconds": 600,
        },
    ),
    "respond_contact": Effects(
        {**CID, "contact_name": "Ann", "accept": True},
        {
            "project_slug": Refused(WEB, "agent_not_found"),
            "agent_name": Refused("Eve", "contact_not_found"),
            "contact_name": "Eve",
            "accept": False,
        },
    ),
    "list_contacts": Effects(
        {**CID, "limit": 1},
        {
            "project_slug": Refused(WEB, "agent_not_found"),
            "agent_name": "Bob",
            "status": Beside({"limit": 20}, "accepted"),
            **PAGE,
        },
    ),
    "block_contact": Effects(
        {**ANN, "contact_name": "Bob"}, {"project_slug": WEB, "agent_name": "Eve", "contact_name": "Cid"}
    ),
    "unblock_contact": Effects(
        {**BOB, "contact_name": "Eve"},
        {
            "project_slug": Refused(WEB, "agent_not_found"),
            "agent_name": "Ann",
            "contact_name": "Ann",
        },
    ),
    "set_contact_policy": Effects(
        {**ANN, "policy": "open"}, {"project_slug": WEB, "agent_name": "Bob", "policy": "block_all"}
    ),
    "reserve_file": Effects(
        {**BOB, "paths": ["app/[id].py"]},
        {
            "project_slug": WEB,
            "agent_name": "Ann",
            "paths": ["tests/**"],
            "exclusive": False,
            "literal": True,
            "ttl_seconds": 60,
            "reason": "r",
            "advisory": Beside({"paths": ["src/a.py"]}, True),
            "allow_partial": Beside({"paths": ["src/a.py", "b.py"]}, True),
            "wait_seconds": Beside({"paths": ["src/a.py"]}, Meanwhile(20, "file/release", ANN)),
        },
    ),
    "release_file": Effects(ANN, {"project_slug": WEB, "agent_name": "Eve", "paths": ["src/**"], "ids": [1]}),
    "renew_file": Effects(
        ANN, {"project_slug": WEB, "agent_name": "Eve", "paths": ["src/**"], "ids": [1], "ttl_seconds": 60}
    ),
    "check_paths": Effects(
        {**SHOP, "paths": ["src/a.py"]}, {"project_slug": WEB, "paths": ["lib/a.py"], "agent_name": "Ann"}
    ),
    "list_reservations": Effects(
        {**SHOP, "limit": 1},
        {"project_slug": WEB, "agent_name": "Ann", "active_only": Beside({"limit": 20}, False), **PAGE},
    ),
    "force_release_file": Effects(
        {**BOB, "reservation_id": 1, "reason": "r", "override": True},
        {
            "project_slug": Refused(WEB, "reservation_not_found"),
            "agent_name": "Eve",
            "reservation_id": 4,
            "reason": "s",
            "override": Refused(False, "holder_active"),
        },
    ),
    "acquire_build_slot": Effects(
        {**BOB, "slot_name": "ci"},
        {
            "project_slug": WEB,
            "agent_name": "Ann",
            "slot_name": "new",
            "slot_type": "test",
            "capacity": Beside({"slot_name": "new"}, 3),
            "ttl_seconds": Beside({"slot_name": "new"}, 60),
            "wait_seconds": Meanwhile(20, "build/release", {**ANN, "slot_name": "ci"}),
        },
    ),
    "renew_build_slot": Effects(
        {**ANN, "slot_name": "ci"},
        {
            "project_slug": Refused(WEB, "slot_not_found"),
            "agent_name": Refused("Bob", "slot_not_held"),
            "slot_name": Refused("idle", "slot_not_found"),
            "slot_type": Refused("test", "slot_not_held"),
            "ttl_seconds": 60,
        },
    ),
    "release_build_slot": Effects(
        {**ANN, "slot_name": "ci"},
        {
            "project_slug": Refused(WEB, "slot_not_found"),
            "agent_name": "Bob",
            "slot_name": Refused("idle", "slot_not_found"),
            "slot_type": "test",
        },
    ),
    "list_slots": Effects(
        {**SHOP, "limit": 1}, {"project_slug": WEB, "active_only": Beside({"limit": 20}, False), **PAGE}
    ),
    "set_slot_capacity": Effects(
        {**SHOP, "slot_name": "ci", "capacity": 4},
        {
            "project_slug": Refused(WEB, "slot_not_found"),
            "slot_name": Refused("none", "slot_not_found"),
            "slot_type": "test",
            "capacity": 5,
        },
    ),
    "ensure_product": Effects({"name": "P"}, {"name": "Q", "description": "d"}),
    "link_project": Effects(
        {"product_name": "Void", "project_slug": "old"}, {"product_name": "Store", "project_slug": WEB}
    ),
    "unlink_project": Effects(
        {"product_name": "Store", "project_slug": "shop"}, {"product_name": "Void", "project_slug": WEB}
    ),
    "product_inbox": Effects(
        {"product_name": "Store", "limit": 1}, {"product_name": "Void", "agent_name": "Ann", **PAGE}
    ),
    "list_products": Effects({"limit": 1}, PAGE),
    "prepare_thread": Effects(
        {**BOB, "thread_id": "FEAT-1"},
        {"project_slug": Refused(WEB, "thread_not_found"), "agent_name": "Eve", "thread_id": "FEAT-2"},
    ),
    "start_session": Effects(
        {"human_key": "/code/shop", **WHO, "agent_name": "Bob"},
        {
            "human_key": "/code/web",
            "program": "vi",
            "model": "m-2",
            "agent_name": "Ann",
            "task_description": "t",
            "reserve_paths": ["a.py"],
            "inbox_limit": 1,
            "include_bodies": True,
            "idempotency_key": Beside({"agent_name": None}, "k"),
        },
    ),
    "hand_off": Effects(
        {**SHOP, "from_agent": "Ann", "to_agent": "Bob", "task": "Peel"},
        {
            "project_slug": WEB,
            "from_agent": "Gus",
            "to_agent": "Eve",
            "task": "Cut",
            "paths": ["src/**"],
            "notes": "n",
            **KEY,
        },
    ),
    "request_review": Effects(
        {**SHOP, "requester_name": "Ann", "thread_id": "FEAT-1"},
        {
            "project_slug": Refused(WEB, "thread_not_found"),
            "requester_name": "Bob",
            "thread_id": "FEAT-2",
            "reviewer_names": ["Bob"],
            "paths": ["a.py"],
            "message_id": Beside({"thread_id": None, "message_id": 5}, 1),
            "note": "n",
            **KEY,
        },
    ),
    "claim_review": Effects(
        {**BOB, "review_id": 1},
        {
            "project_slug": Refused(WEB, "review_not_found"),
            "agent_name": Refused("Ann", "not_a_reviewer"),
            "review_id": 2,
            "ttl_seconds": 60,
        },
    ),
    "complete_review": Effects(
        {**BOB, "review_id": 2, "verdict": "approve", "body_md": "Good."},
        {
            "project_slug": Refused(WEB, "review_not_found"),
            "agent_name": Refused("Eve", "review_not_claimed"),
            "review_id": Refused(1, "review_not_claimed"),
            "verdict": "comment",
            "body_md": "Well.",
        },
    ),
    "cancel_review": Effects(
        {**SHOP, "review_id": 1}, {"project_slug": Refused(WEB, "review_not_found"), "review_id": 2}
    ),
    "get_review": Effects({**SHOP, "review_id": 1}, {"project_slug": Refused(WEB, "review_not_found"), "review_id": 2}),
    "list_reviews": Effects(
        {**SHOP, "limit": 1}, {"project_slug": WEB, "state": "claimed", "agent_name": "Bob", **PAGE}
    ),
    "broadcast_message": Effects(
        {**SHOP, "sender_name": "Ann", **LETTER},
        {
            "project_slug": WEB,
            "sender_name": "Bob",
            "subject": "s",
            "body_md": "b",
            "active_within_seconds": Refused(900, "no_recipients"),
            "priority": "high",
            **KEY,
        },
    ),
    "send_overseer_message": Effects(
        {**SHOP, **LETTER},
        {"project_slug": WEB, "recipient_names": ["Ann"], "subject": "s", "body_md": "b", **KEY},
    ),
    "add_attachment": Effects(
        {**ANN, "file_name": "a.txt", "content_base64": "YQ=="},
        {
            "project_slug": WEB,
            "agent_name": "Bob",
            "file_name": "b.txt",
            "content_base64": "Yg==",
            "media_type": "text/csv",
            **KEY,
        },
    ),
    "get_attachment": Effects({"attachment_id": "plan.md"}, {"attachment_id": "note.txt"}),
    "list_activity": Effects(
        {"limit": 1},
        {
            "project_slug": "old",
            "agent_name": Beside(SHOP, "Bob"),
            "since": Beside({"limit": 100}, BETWEEN),
            **PAGE,
        },
    ),
    "archive_log": Effects(
        {**SHOP, "limit": 1},
        {
            "project_slug": WEB,
            "path": Beside({"limit": 20}, "agents/gus"),
            "until": BETWEEN,
            **PAGE,
        },
    ),
    "archive_show": Effects(
        {**SHOP, "path": "agents", "limit": 1},
        {
            "project_slug": WEB,
            "commit": Beside({"limit": 20}, "FIRST_COMMIT"),
            "at": Beside({"limit": 20}, BETWEEN),
            "path": "threads",
            "inbox_of": Beside({"path": None, "inbox_of": "Ann"}, "Bob"),
            **PAGE,
        },
    ),
    "export_project": Effects(
        {**SHOP, "format": "json"},
        {"project_slug": WEB, "format": "markdown", "scrub": "standard", "include_bcc": True},
    ),
    "add_webhook": Effects(
        {"url": "https://127.0.0.1:9/a", "events": ["message.sent"]},
        {
            "url": "https://127.0.0.1:9/b",
            "events": ["message.read"],
            "project_slug": "shop",
            "secret": "whsec_" + "A" * 32,
        },
    ),
    "remove_webhook": Effects({"webhook_id": 1}, {"webhook_id": 2}),
    "list_webhooks": Effects({"limit": 1}, {"project_slug": WEB, **PAGE}),
    "list_webhook_deliveries": Effects({"webhook_id": 1, "limit": 1}, {"webhook_id": 2, **PAGE}),
    "test_webhook": Effects({"webhook_id": 1}, {"webhook_id": Refused(99, "webhook_not_found")}),
    "redeliver_webhook": Effects({"webhook_id": 1}, {"webhook_id": 2, "delivery_id": 1}),
    "set_legal_hold": Effects(
        {**SHOP, "on_hold": True, "reason": "r"},
        {"project_slug": WEB, "on_hold": Beside({"project_slug": WEB}, False), "reason": "s"},
    ),
    "list_legal_holds": Effects({"limit": 1}, PAGE),
    "list_dead_jobs": Effects({"limit": 1}, PAGE),
    "retry_job": Effects({"kind": "summary"}, {"kind": "embedding", "subject_id": 8}),
    "drop_job": Effects({"kind": "summary"}, {"kind": "embedding", "subject_id": 8}),
}
