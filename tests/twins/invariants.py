"""What is true whatever was done, judged by what a server answers about itself and not by a model of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from agent_mail_core.globs import compile_pattern, overlaps
from tests.twins.steps import Call, Step
from tests.twins.twin import Twin
from tests.twins.values import BODY, SECRET_READER

BROKEN_POSITIONS = "SELECT agent_id FROM deliveries GROUP BY agent_id HAVING count(*) <> max(position)"
BROKEN_COUNTS = """
    SELECT agent_id FROM mailboxes m
    WHERE unread <> (SELECT count(*) FROM deliveries d WHERE d.agent_id = m.agent_id AND d.read_at IS NULL)
"""


class Broken(Exception):
    """Says what does not hold."""


def insist(holds: bool, *said: object) -> None:
    """Raise Broken unless it holds."""
    if not holds:
        raise Broken(*said)


async def broken_invariant(twin: Twin, steps: Sequence[Step]) -> str | None:
    """What does not hold on a twin that has taken the steps, if anything."""
    done = {step.operation for step in steps if isinstance(step, Call)}
    asking = Asking(twin)
    try:
        slugs = [project["slug"] async for project in asking.walk("list_projects", "projects")]
        for slug in slugs:
            await _leases_keep_apart(asking, slug, may_shrink="set_slot_capacity" in done)
            async for agent in asking.walk("list_agents", "agents", project_slug=slug):
                await _inbox_adds_up(asking, {"project_slug": slug, "agent_name": agent["name"]})
            await _lists_are_the_same_by_pages(asking, slug)
            await _bcc_is_secret(asking, slug)
        await _events_have_no_bodies(asking)
        if "delete_project" not in done:
            await _mailboxes_are_whole(twin)
    except Broken as broken:
        return f"{'MCP' if twin.speaks_mcp else 'REST'}, {twin.app.store.engine}: {broken}"
    return None


@dataclass(frozen=True)
class Asking:
    """An administrator who reads."""

    twin: Twin

    async def ask(self, operation: str, **arguments: Any) -> Any:
        """The answer, which must be one."""
        heard = await self.twin.call(Call("root", operation, arguments))
        insist(heard.is_success, operation, arguments, heard.body)
        return heard.body

    async def walk(self, operation: str, items: str, **arguments: Any) -> AsyncIterator[Any]:
        """All items of a list, page by page."""
        more: dict[str, Any] = {"limit": 100, **arguments}
        for _ in range(500):
            page = await self.ask(operation, **more)
            for item in page[items]:
                yield item
            if "next_cursor" not in page:
                return
            insist(len(page[items]) == more["limit"] or operation == "list_activity", "a short page", operation, more)
            more["cursor"] = page["next_cursor"]
        raise Broken("a list without an end", operation, arguments)


async def _leases_keep_apart(asking: Asking, slug: str, may_shrink: bool) -> None:
    """No two agents hold exclusive patterns that overlap, nor more leases of a slot than it has."""
    live = [
        (held, compile_pattern(held["pattern"], held["literal"]))
        async for held in asking.walk("list_reservations", "reservations", project_slug=slug)
        if not held["advisory"]
    ]
    for (one, pattern), (other, another) in combinations(live, 2):
        is_apart = one["holder"] == other["holder"] or not (one["exclusive"] or other["exclusive"])
        insist(is_apart or not overlaps(pattern, another), "both held", one, other)
    async for slot in asking.walk("list_slots", "slots", project_slug=slug):
        insist(may_shrink or len(slot["holders"]) <= slot["capacity"], "too many leases", slot)


async def _inbox_adds_up(asking: Asking, agent: dict[str, Any]) -> None:
    """Pages of the inbox hold each message once, and as many unread ones as it says."""
    page = await asking.ask("check_inbox", limit=7, **agent)
    count, messages = page["unread_count"], page["messages"]
    while "older_cursor" in page:
        page = await asking.ask("check_inbox", limit=7, before=page["older_cursor"], **agent)
        messages += page["messages"]
    ids = [message["message_id"] for message in messages]
    unread = [message["message_id"] for message in messages if "read_at" not in message]
    insist(len(ids) == len(set(ids)), "a message twice", agent, ids)
    insist(count == len(unread), "unread_count", agent, count, unread)
    waited = await asking.ask("wait_for_messages", timeout_seconds=0, **agent)
    oldest = [message["message_id"] for message in waited["messages"]]
    insist(
        oldest == unread[::-1][: len(oldest)] and bool(oldest) is bool(unread), "not the oldest unread", oldest, unread
    )
    alone = [
        message["message_id"]
        for message in (await asking.ask("check_inbox", unread_only=True, limit=100, **agent))["messages"]
    ]
    insist(alone == unread[:100], "unread_only", agent, alone, unread)


async def _lists_are_the_same_by_pages(asking: Asking, slug: str) -> None:
    """Short pages give what long ones give, in the same order."""
    project = {"project_slug": slug}
    for operation, items, more in (
        ("list_agents", "agents", {"include_retired": True}),
        ("list_threads", "threads", {}),
        ("list_reservations", "reservations", {"active_only": False}),
        ("list_slots", "slots", {"active_only": False}),
        ("list_reviews", "reviews", {}),
        ("list_activity", "activity", {}),
        ("list_pending_acks", "pending", {}),
        ("search_messages", "hits", {"query": BODY}),
    ):
        whole = [item async for item in asking.walk(operation, items, **project, **more)]
        parts = [item async for item in asking.walk(operation, items, limit=3, **project, **more)]
        insist(whole == parts, "pages differ", operation, whole, parts)


async def _bcc_is_secret(asking: Asking, slug: str) -> None:
    """Nobody but the sender and that recipient learns who got mail by bcc."""
    shown = set()
    async for thread in asking.walk("list_threads", "threads", project_slug=slug):
        key = {"project_slug": slug, "thread_id": thread["thread_id"]}
        messages = [message async for message in asking.walk("get_thread", "messages", **key)]
        named = {recipient["name"] for message in messages for recipient in message["recipients"]}
        kinds = {recipient["kind"] for message in messages for recipient in message["recipients"]}
        insist("bcc" not in kinds, "a bcc is shown", key)
        insist(len(messages) == thread["message_count"], "message_count", thread, len(messages))
        senders = {message["sender_name"] for message in messages}
        insist(set(thread["participants"]) <= named | senders, "a participant nobody sees", thread, named, senders)
        shown |= named | senders
    if SECRET_READER not in shown:
        export = await asking.ask("export_project", project_slug=slug, format="json")
        threads = json.loads(export)["threads"]
        insist(SECRET_READER not in json.dumps(threads), "exported", threads)


async def _events_have_no_bodies(asking: Asking) -> None:
    async for event in asking.walk("list_activity", "activity"):
        insist(BODY not in json.dumps(event), "a body in an event", event)


async def _mailboxes_are_whole(twin: Twin) -> None:
    """Positions have no gap, and mailboxes count right."""
    insist(await twin.database.count(BROKEN_POSITIONS) == 0, "positions with a gap")
    insist(await twin.database.count(BROKEN_COUNTS) == 0, "mailboxes that count wrong")
