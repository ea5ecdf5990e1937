"""The evening of the team's day: everything is let go, and whatever the servers tell is compared with what was done."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loadtests.staff import Day, Mail, Mate, Wrong

MAIL = (
    7  # the greeting
    + 12  # the ring
    + (3 + 1 + 3)  # what is to be confirmed, and both answers
    + (4 + 4 + 4 + 4)  # what is to be reviewed, and the review's three steps
    + 1  # the hand-off
    + 8  # the overseer's
)
"""In all inboxes together."""

OF_THE_SHOP = 1 + 8 + 3 + 4 + 1 + 1
"""Messages of its threads, those that the store answered in them included."""

OF_THE_STORE = 4
"""The ring's."""

EVENTS = {
    "agent.registered": 8,
    "message.sent": OF_THE_SHOP,
    "message.acknowledged": 3,
    "reservation.granted": 4,  # the wanted file, the same with the hand-off, the cart, and what Ben waited for
    "reservation.transferred": 1,
    "reservation.released": 3,
    "slot.acquired": 4,
    "slot.released": 4,
    "review.requested": 1,
    "review.claimed": 1,
    "review.completed": 1,
}
"""What happened in the shop."""


async def evening(day: Day) -> None:
    """Everything is let go; inboxes, counters, lists and events hold what was done, once and in order."""
    await let_go(day)
    read = [await read_all(mate) for mate in day.mates.values()]
    day.count("messages read back", sum(read), MAIL)
    for what, project, due in (("the shop", day.shop, OF_THE_SHOP), ("the store", day.store, OF_THE_STORE)):
        shown = await day.rest.call("get_project", project_slug=project)
        day.count(f"messages of {what}", shown["message_count"], due)
    together = await pages(day, "product_inbox", "messages", product_name=day.product)
    day.count("messages of the product", len(together), OF_THE_SHOP + OF_THE_STORE)
    happened = Counter(event["kind"] for event in await pages(day, "list_activity", "activity", project_slug=day.shop))
    for kind, due in EVENTS.items():
        day.count(kind, happened[kind], due)
    told = [await worker.call("metrics") for worker in day.workers]
    busy = [any(tool["operation"] == "check_inbox" and tool["calls"] for tool in one["tools"]) for one in told]
    day.count("workers that took part", sum(busy), len(day.workers))


async def let_go(day: Day) -> None:
    """Each releases all that it has; nothing is left, and nobody had more than it should."""
    files = [(await mate.as_agent("release_file"))["count"] for mate in day.mates.values()]
    day.count("reservations released", sum(files), 2)
    for what, project in (("the shop", day.shop), ("the store", day.store)):
        left = await day.rest.call("list_reservations", project_slug=project)
        day.count(f"reservations left in {what}", len(left["reservations"]), 0)
    slots = [(await mate.as_agent("release_build_slot", slot_name="ci"))["released"] for mate in day.of(day.shop)]
    day.count("slots released", sum(slots), 3)
    held = await day.rest.call("list_slots", project_slug=day.shop, active_only=False)
    day.count("slots still held", sum(len(slot["holders"]) + len(slot["queue"]) for slot in held["slots"]), 0)


async def read_all(mate: Mate) -> int:
    """How much mail it has: what was sent to it, once, in order. What it reads is unread no longer."""
    messages = await everything(mate)
    got = [Mail(message["sender_name"], message["subject"], message["kind"]) for message in messages]
    if got != mate.expected:
        raise Wrong(f"{mate.name} got {got}, and {mate.expected} was due")
    unread = [message["message_id"] for message in messages if "read_at" not in message]
    counted = (await mate.as_agent("check_inbox", limit=1))["unread_count"]
    if counted != len(unread):
        raise Wrong(f"{mate.name} has {counted} unread, and {len(unread)} were due")
    await mate.as_agent("mark_read", message_ids=unread)
    left = await mate.as_agent("check_inbox", unread_only=True)
    if left["unread_count"] or left["messages"]:
        raise Wrong(f"{mate.name} has read all, and still has {left}")
    return len(messages)


async def everything(mate: Mate) -> list[dict[str, Any]]:
    """A mailbox, oldest first, by its cursors."""
    found: list[dict[str, Any]] = []
    older: dict[str, str] = {}
    while True:
        page = await mate.as_agent("check_inbox", limit=7, **older)
        found += page["messages"]
        if "older_cursor" not in page:
            return found[::-1]
        older = {"before": page["older_cursor"]}


async def pages(day: Day, operation: str, what: str, **arguments: str) -> list[dict[str, Any]]:
    """A list of several pages."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await day.rest.call(operation, limit=20, cursor=cursor, **arguments)
        found += page[what]
        cursor = page.get("next_cursor")
        if cursor is None:
            return found
