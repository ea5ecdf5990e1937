"""What an argument may be in a random call: mostly what makes sense."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias, get_args

from agent_mail_core.events import EventKind
from tests.twins.steps import NO_ID, Told

Drawn: TypeAlias = Callable[[Random], Any]

SECRET_READER = "Shy"
"""An agent whom mail reaches by bcc alone, so that its name is a secret of whoever wrote to it."""

BODY = "In-the-body"
"""Stands in every body, so that a body is noticed where none belongs."""


def one_of(*values: Any) -> Drawn:
    """Each as likely."""
    return lambda random: random.choice(values)


def mostly(usual: Sequence[Any], rare: Sequence[Any], share: float = 0.04) -> Drawn:
    """One of the usual ones, now and then a rare one."""
    return lambda random: random.choice(rare if random.random() < share else usual)


def told(what: str, otherwise: Any = "nothing-told-yet") -> Drawn:
    """One of the newest that answers told of."""
    return lambda random: Told(what, min(int(random.expovariate(0.7)), 12), otherwise)


def either(share: float, first: Drawn, second: Drawn) -> Drawn:
    """The first with this share."""
    return lambda random: (first if random.random() < share else second)(random)


def some(each: Drawn, least: int, most: int) -> Drawn:
    """A list."""
    return lambda random: [each(random) for _ in range(random.randint(least, most))]


def small_id(random: Random) -> int:
    """Ids are given in order, so these exist, or are another project's or team's."""
    return random.choice((random.randint(1, 8), random.randint(1, 40), random.randint(1, 40), NO_ID))


NAME = mostly(
    ("Ann", "Bob", "Cid", "Dot", "Eve"), ("ann", "BOB", "Zed", "An", "Shy", "Fay", "System", "me", "Ann@shop"), 0.1
)
PLACE = ("shop", "shop", "shop", "shop", "store", "store", "depot")
PROJECT = mostly(PLACE, ("/code/shop", "/code/shop/", "Shop", "shoq", "nowhere", "list"), 0.06)
ADDRESS = mostly(
    ("Ann", "Bob", "Cid", "Dot", "Eve", "Ann@store", "Dot@store", "Eve@store", "Bob@depot"),
    (
        "ann",
        "BOB",
        "dot@store",
        "Ann@shop",
        "Zed",
        "Zed@store",
        "Ann@nowhere",
        "Fay",
        "Overseer",
        "System",
        "@",
        "a@b@c",
    ),
    0.1,
)
SECRET_ADDRESS = either(0.6, one_of(SECRET_READER), ADDRESS)
NEW_THREAD = mostly(("FEAT-1", "FEAT-2", "BUG.3"), ("feat-1", "list", "FEAT-1@shop", "bad key", "T-0000000000"), 0.08)
THREAD = either(
    0.25,
    told("thread_id"),
    mostly(("FEAT-1", "FEAT-2", "BUG.3"), ("feat-1", "FEAT-1@shop", "feat-2@STORE", "T-NONE", "list"), 0.25),
)
WORDS = "cart total rounding tax src/cart.py TICKET-7 naïve größe ｆｕｌｌ don't under_score a.b x the and 日本".split()
PATHS = (
    "src/cart.py src/*.py src/** src/ docs/a?.md docs/*.md **/*.py README.md app/[id]/page.tsx src/a*.py "
    "./src//cart.py src/cart.py/x"
).split()
PATH = mostly(
    PATHS, ("/code/shop/src/cart.py", "/etc/passwd", "../x", "!src", "", "src/[", "naïve/größe.md", "*" * 17), 0.06
)
LITERAL_PATH = mostly(
    ("src/cart.py", "src/a.py", "docs/ab.md", "README.md", "app/[id]/page.tsx", "x/y.py"),
    ("../x", "/etc", "src/*.py"),
    0.06,
)
LONG_AGO, FAR_AHEAD = "2020-01-01T00:00:00Z", "2199-12-31T23:59:59+02:00"


def text(random: Random) -> str:
    """A few words."""
    return " ".join(random.choices(WORDS, k=random.randint(1, 5)))


def body(random: Random) -> str:
    """A body, with the mark in it."""
    return random.choice(
        (f"{BODY} {text(random)}", f"{BODY}\n\n- [ ] Bob: {text(random)}\n- decided: {text(random)}?", BODY)
    )


QUERY_PARTS = (
    *(BODY, BODY.lower(), '"cart total"', "ro*", "from:Ann", "from:bob", "subject:tax", "thread:FEAT-1", "-tax", "OR"),
    *("after:2020-01-01", "before:2020-01-01", "AND", "NOT", "subject:", "a:b", '"', "(", "*"),
)


def query(random: Random) -> str:
    """Words, and what searches know besides."""
    parts = random.choices((*WORDS, *QUERY_PARTS), k=random.randint(1, 3))
    return " ".join(parts)


def content(random: Random) -> str:
    """Bytes in base 64."""
    return random.choice(
        ("!", "", base64.b64encode(text(random).encode()).decode(), base64.b64encode(b"\x89PNG\r\n\x1a\n").decode())
    )


POLICY = mostly(("open", "auto", "contacts_only"), ("block_all", "friendly"))
PRIORITY = mostly(("low", "normal", "high", "urgent"), (-1, 2, "0", "huge"))
TTL = mostly((60, 600, 3600), (59, 86400, 604_800, 604_801, 60.5))
SHORT = mostly((0,), (0.03, -1), 0.1)
FLAG = one_of(True, False)
LIMIT = mostly((1, 2, 3, 20, 100), (0, 101))
SINCE = mostly(
    (Told("created_at", 3, LONG_AGO), Told("created_at", 9, LONG_AGO), LONG_AGO, LONG_AGO),
    (FAR_AHEAD, "2026-01-01", "0001-01-01T00:00:00+02:00"),
)
PRODUCT = mostly(("Store front", "Store front", "Back office"), ("store front", "Nothing", " "))

FIELDS: dict[str, Drawn] = {
    "accept": FLAG,
    "ack_required": FLAG,
    "active_only": FLAG,
    "active_within_seconds": mostly((60, 600, 3600), (1, 0, 31_622_400)),
    "advisory": one_of(False, False, True),
    "agent_name": NAME,
    "allow_partial": FLAG,
    "at": SINCE,
    "attachment_id": either(0.9, told("attachment_id"), one_of("f" * 32, "x")),
    "attachment_ids": some(either(0.9, told("attachment_id"), one_of("f" * 32)), 0, 2),
    "bcc_names": some(SECRET_ADDRESS, 0, 2),
    "before": either(0.85, told("older_cursor"), told("cursor")),
    "body_md": body,
    "capacity": mostly((1, 2, 3), (0, 100, 101)),
    "cc_names": some(ADDRESS, 0, 2),
    "commit": one_of("a" * 40),
    "contact_name": ADDRESS,
    "contact_policy": POLICY,
    "content_base64": content,
    "count": mostly((1, 3, 20), (0, 21)),
    "cursor": either(0.8, told("next_cursor"), either(0.9, told("cursor"), one_of("x", "x" * 2049))),
    "delivery_id": small_id,
    "description": text,
    "direction": one_of("owed_by_me", "owed_to_me"),
    "events": lambda random: random.sample(get_args(EventKind), 2),
    "exclusive": one_of(True, True, False),
    "file_name": mostly(("plan.md", "a.png", "größe.txt"), ("../x", "", "con", "a\nb")),
    "format": one_of("json", "markdown", "html", "csv"),
    "from_agent": NAME,
    "hint": text,
    "human_key": mostly(
        ("/code/shop", "store", "depot"), ("/code/shop/", "/code/new", "shop", "nai\u0308ve", "naïve", "list", "日本")
    ),
    "idempotency_key": mostly(("k1", "k2", "k3", "k4"), ("", "k" * 129), 0.02),
    "ids": some(either(0.5, told("id", NO_ID), small_id), 1, 3),
    "inbox_limit": LIMIT,
    "inbox_of": NAME,
    "include_bcc": FLAG,
    "include_bodies": FLAG,
    "include_retired": FLAG,
    "kind": one_of("archive", "summary", "sweep", "nothing"),
    "limit": LIMIT,
    "literal": one_of(False, False, True),
    "media_type": one_of("text/markdown", "text/plain; charset=utf-8", "image/png", "x"),
    "message_id": either(0.85, told("message_id", NO_ID), small_id),
    "message_ids": some(either(0.85, told("message_id", NO_ID), small_id), 1, 4),
    "min_priority": PRIORITY,
    "mode": mostly(("auto", "text"), ("semantic", "hybrid")),
    "model": mostly(("m-1", "m-2"), ("", " ", "x" * 129)),
    "name": mostly(("Ann", "Bob", "Cid", "Dot", "Eve", "Fay"), ("ann", "me", "a b", "Overseer", "_x")),
    "ensure_product.name": PRODUCT,
    "note": body,
    "notes": body,
    "older_than_seconds": one_of(0, 60, 600, 3600),
    "on_hold": FLAG,
    "override": FLAG,
    "parent_id": either(0.85, told("message_id", NO_ID), small_id),
    "path": one_of("threads", "nothing"),
    "paths": some(PATH, 1, 3),
    "check_paths.paths": some(LITERAL_PATH, 1, 4),
    "policy": POLICY,
    "principal": mostly(("token:1", "token:2", "local"), ("x",)),
    "priority": PRIORITY,
    "product_name": PRODUCT,
    "program": mostly(("shell", "codex"), ("", "\u200b")),
    "project_slug": PROJECT,
    "query": query,
    "list_projects.query": one_of("s", "SHOP", "e", "%", "_", "code"),
    "list_threads.query": one_of("feat", "T", "a", "%", "_", "Hello", "größe"),
    "reason": text,
    "recipient_names": some(ADDRESS, 1, 3),
    "refresh": FLAG,
    "reply_all": FLAG,
    "requester_name": NAME,
    "reservation_id": either(0.7, told("id", NO_ID), lambda random: random.randint(1, 9)),
    "reserve_paths": some(PATH, 0, 2),
    "review_id": either(0.7, told("review_id", NO_ID), lambda random: random.randint(1, 6)),
    "reviewer_names": some(ADDRESS, 0, 2),
    "scrub": one_of("none", "standard"),
    "secret": one_of("whsec_" + "YWFh" * 8, "x"),
    "sender_name": NAME,
    "since": SINCE,
    "slot_name": mostly(("main", "web"), ("Main", "", "größe")),
    "slot_type": mostly(("build", "test"), ("Build", "")),
    "slug": mostly(("shop", "store", "depot", "new"), ("Bad", "list", "-x")),
    "state": one_of("requested", "claimed", "done", "cancelled"),
    "status": one_of("pending", "accepted", "rejected", "blocked"),
    "subject": either(0.6, text, mostly(("Hello", "Re: Hello", "x" * 200), ("", " ", "x" * 201), 0.1)),
    "subject_id": small_id,
    "task": text,
    "task_description": text,
    "thread_id": THREAD,
    "send_message.thread_id": NEW_THREAD,
    "thread_ids": some(THREAD, 1, 3),
    "timeout_seconds": mostly((0,), (0.03, 51), 0.1),
    "to_agent": NAME,
    "ttl_seconds": TTL,
    "until": SINCE,
    "unread_only": FLAG,
    "url": mostly(("https://hooks.example/mail",), ("http://127.0.0.1/x", "ftp://x", "x")),
    "verdict": one_of("approve", "request_changes", "comment"),
    "wait_seconds": SHORT,
    "webhook_id": either(0.7, told("webhook_id", NO_ID), lambda random: random.randint(1, 4)),
}
"""By the argument's name; by `operation.argument` where an operation means something else by it."""


def drawn_from(operation: str, argument: str) -> Drawn:
    """How an argument is drawn. KeyError for one that is not in the table: add it."""
    return FIELDS.get(f"{operation}.{argument}") or FIELDS[argument]
