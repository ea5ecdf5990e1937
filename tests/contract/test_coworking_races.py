"""All that agents do with each other at once, on one worker and on two: nothing waits in a circle, all adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from agent_mail_core.errors import AgentRetired, Forbidden
from agent_mail_core.ports import App, Role
from agent_mail_core.reservation_errors import ReservationNotHeld
from agent_mail_core.review_errors import ReviewEnded, ReviewNotClaimed
from tests.contract.databases import Database
from tests.contract.leasing import acquire, force_through, listed, reserve
from tests.contract.office import Office
from tests.contract.reviews import cancel, claim, complete, request
from tests.contract.test_races import insisting, outcomes

ROUNDS = 4
Work = Callable[[Office], Awaitable[Any]]


async def review(office: Office, asker: str, reviewer: str) -> None:
    review_id = (await request(office, asker, thread_id="Feat-1")).review_id
    if (await claim(office, reviewer, review_id)).claimed:
        await complete(office, reviewer, review_id)
    await request(office, asker, reviewer, thread_id="Feat-1")


async def hand_over(office: Office, giver: str, taker: str, path: str) -> None:
    await reserve(office, giver, path)
    await office.call(
        "hand_off", project_slug=office.slug, from_agent=giver, to_agent=taker, task="Go on", paths=[path]
    )


async def take_away(office: Office, name: str, path: str) -> None:
    taken = await reserve(office, name, path)
    if taken.granted:
        await force_through(office, "Ann", taken.granted[0].id)


async def broadcast(office: Office, sender: str) -> None:
    await office.call("broadcast_message", project_slug=office.slug, sender_name=sender, subject="All", body_md="Hello")


async def overrule(office: Office) -> None:
    person = office.of("person", Role.overseer)
    await person.call("send_overseer_message", project_slug=office.slug, subject="Stop", body_md="Now")


async def come_and_go(office: Office, name: str) -> None:
    started = {"human_key": "office", "program": "shell", "model": "m-1", "agent_name": name}
    await office.call("start_session", **started, reserve_paths=[f"own/{name}"])
    await acquire(office, name, capacity=50)
    await office.retire(name)


async def test_everything_at_once_ends_and_adds_up(office: Office, workers: list[App], database: Database) -> None:
    await office.send("Ann", ["Bob"], thread_id="Feat-1")
    works: list[Work] = []
    for number in range(ROUNDS):
        works += [
            partial(review, asker="Ann", reviewer="Bob"),
            partial(review, asker="Bob", reviewer="Ann"),
            partial(hand_over, giver="Cid", taker="Dot", path=f"a/{number}"),
            partial(hand_over, giver="Dot", taker="Cid", path=f"b/{number}"),
            partial(take_away, name="Bob", path=f"c/{number}"),
            partial(broadcast, sender="Dot"),
            overrule,
            partial(come_and_go, name=f"Guest{number}"),
            lambda there: there.send("Bob", ["Ann", "Cid"], thread_id="Feat-1"),
        ]
    calls = [insisting(partial(work, office.at(workers[n % len(workers)]))) for n, work in enumerate(works)]
    async with asyncio.timeout(60):
        _, errors = await outcomes(calls)
    allowed = (Forbidden, AgentRetired, ReservationNotHeld, ReviewEnded, ReviewNotClaimed)
    assert [error for error in errors if not isinstance(error, allowed)] == []
    tables = await database.dump()
    fences = [one.fence for one in (await listed(office, active_only=False, limit=100)).reservations]
    assert len(set(fences)) == len(fences)
    for name in ("Ann", "Bob", "Cid", "Dot"):
        shown, inbox = await office.whois(name), await office.inbox(name, limit=100)
        assert shown.unread_count == shown.received_count == inbox.unread_count == len(inbox.messages)
    assert (await office.thread("Feat-1")).thread.message_count <= len(tables["messages"])
    for review_id in range(1, len(tables["reviews"]) + 1):
        await cancel_if_open(office, review_id)


async def cancel_if_open(office: Office, review_id: int) -> None:
    try:
        assert (await cancel(office, review_id)).state == "cancelled"
    except ReviewEnded as ended:
        assert ended.data["state"] == "done"
