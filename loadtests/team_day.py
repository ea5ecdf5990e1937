"""`python -m loadtests.team_day`: a working day of twelve agents in two projects, and the counts that it must end with.

Every agent is an official MCP client, half of them in each era of the protocol, and every HTTP request goes to the next
of three workers. What is sent is written down beside it; in the evening each inbox, list and counter is compared with
that. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from loadtests.cluster import TOKEN, running_cluster
from loadtests.staff import PATIENCE, SHOP, STAFF, Day, Mate, Wrong, team

PRODUCT = "Day"


# --- the day ----------------------------------------------------------------------------------------------------------


async def morning(day: Day) -> None:
    """Everybody starts a session; the projects become a product; the lead greets."""
    for project, names in STAFF.items():
        for name in names:
            session = {"human_key": project, "program": "team-day", "model": "none", "agent_name": name}
            answer = await day.mates[name].client.call_tool("start_session", session)
            if answer.is_error:
                raise Wrong(f"{name}: start_session was refused: {answer.content}")
    lead = day.mates["Lead"].client
    await lead.call_tool("ensure_product", {"name": PRODUCT})
    for project in STAFF:
        await lead.call_tool("link_project", {"product_name": PRODUCT, "project_slug": project})
    greeted = await day.mates["Lead"].call(
        "broadcast_message", sender_name="Lead", subject="Good morning", body_md="Let us begin.", idempotency_key="hi"
    )
    for name in greeted["delivered"]:
        day.mates[name].expected.append("Good morning")
    day.count("greeted", len(greeted["delivered"]), len(STAFF[SHOP]) - 1)


async def conflicts(day: Day) -> None:
    """One file that all want, a slot for three, and a reservation that is waited for."""
    hot = await asyncio.gather(*(mate.as_agent("reserve_file", paths=["src/hot.py"]) for mate in day.of(SHOP)))
    day.count("holders of one file", sum(bool(answer["granted"]) for answer in hot), 1)
    slots = await asyncio.gather(
        *(mate.as_agent("acquire_build_slot", slot_name="ci", capacity=3) for mate in day.of(SHOP))
    )
    day.count("holders of a slot for three", sum(answer["acquired"] for answer in slots), 3)
    ada, ben = day.mates["Ada"], day.mates["Ben"]
    await ada.as_agent("reserve_file", paths=["src/cart/**"])
    refused = await ben.as_agent("reserve_file", paths=["src/cart/total.py"])
    day.count("conflicts named", len(refused["conflicts"]), 1)
    waiting = asyncio.create_task(ben.as_agent("reserve_file", paths=["src/cart/total.py"], wait_seconds=30))
    await asyncio.gather(ada.as_agent("release_file", paths=["src/cart/**"]), waiting)
    day.count("granted after a wait", len(waiting.result()["granted"]), 1)


async def talk(day: Day) -> None:
    """A ring in which each waits for the one before, over both projects; and mail that asks to be acknowledged."""
    ring = [name for names in STAFF.values() for name in names]
    woken = 0
    for giver, taker in zip(ring, ring[1:] + ring[:1], strict=True):
        inbox = await day.mates[taker].as_agent("check_inbox", limit=1)
        wait = day.mates[taker].as_agent("wait_for_messages", cursor=inbox["cursor"], timeout_seconds=30)
        waiting = asyncio.create_task(wait)
        await day.send(giver, [taker], f"{giver} to {taker}")
        found = (await waiting)["messages"]
        woken += [message["subject"] for message in found] == [f"{giver} to {taker}"]
    day.count("woken by mail", woken, len(ring))
    asked = await day.send("Lead", ["Ada", "Ben", "Hal"], "Please confirm", ack_required=True)
    for name in ("Ada", "Ben", "Hal"):
        await day.mates[name].as_agent("acknowledge_message", message_id=asked["message_id"])
    owed = await day.mates["Lead"].as_agent("list_pending_acks", direction="owed_to_me")
    day.count("acknowledgements still owed", len(owed["pending"]), 0)


async def review(day: Day) -> None:
    """Four reviewers claim at once; one of them has it and approves."""
    reviewers = ["Ben", "Cem", "Dora", "Eli"]
    asked = await day.mates["Ada"].call(
        "request_review",
        requester_name="Ada",
        thread_id=(await day.send("Ada", reviewers, "The cart, rewritten"))["thread_id"],
        reviewer_names=reviewers,
        idempotency_key="review",
    )
    claims = await asyncio.gather(
        *(day.mates[name].as_agent("claim_review", review_id=asked["review_id"]) for name in reviewers)
    )
    day.count("claims of one review", sum(claim["claimed"] for claim in claims), 1)
    winner = next(name for name, claim in zip(reviewers, claims, strict=True) if claim["claimed"])
    done = await day.mates[winner].as_agent(
        "complete_review", review_id=asked["review_id"], verdict="approve", body_md="Ship it."
    )
    day.count("reviews approved", int(done["verdict"] == "approve"), 1)


async def handing_over(day: Day) -> None:
    """Whoever holds the wanted file hands it to Gus or, being Gus, to Fay; then the overseer writes to everybody."""
    held = (await day.mates["Lead"].call("list_reservations"))["reservations"]
    hot = next(item for item in held if item["pattern"] == "src/hot.py")
    taker = "Fay" if hot["holder"] == "Gus" else "Gus"
    moved = await day.mates[hot["holder"]].call(
        "hand_off", from_agent=hot["holder"], to_agent=taker, task="Finish it", paths=["src/hot.py"]
    )
    day.mates[taker].expected.append("Hand-off: Finish it")
    day.count("reservations handed over", len(moved["reservations"]), 1)
    if moved["reservations"][0]["fence"] <= hot["fence"]:
        raise Wrong("the fence did not grow when the reservation was handed over")
    sent = await day.rest.call(
        "send_overseer_message", project_slug=SHOP, subject="Freeze at six", body_md="No merges after that."
    )
    for delivery in sent["deliveries"]:
        day.mates[delivery["name"]].expected.append("Freeze at six")
    day.count("told by the overseer", len(sent["deliveries"]), len(STAFF[SHOP]))


async def evening(day: Day) -> None:
    """Everything is let go, and every inbox holds what was sent to it, once, in order."""
    for mate in day.mates.values():
        await mate.as_agent("release_file")
        mail = [message async for message in everything(mate)]
        own = [subject for subject in mail if not subject.startswith(("Review", "Re: "))]
        if own != mate.expected:
            raise Wrong(f"{mate.name} got {own}, and {mate.expected} was due")
    day.count("messages read back", sum(len(mate.expected) for mate in day.mates.values()), DUE)
    for project in STAFF:
        left = await day.rest.call("list_reservations", project_slug=project)
        day.count(f"reservations left in {project}", len(left["reservations"]), 0)
    for mate in day.of(SHOP):
        await mate.as_agent("release_build_slot", slot_name="ci")
    slots = await day.rest.call("list_slots", project_slug=SHOP, active_only=False)
    day.count("slots still held", sum(len(slot["holders"]) for slot in slots["slots"]), 0)


DUE = (len(STAFF[SHOP]) - 1) + 12 + 3 + 4 + 1 + len(STAFF[SHOP])
"""Greetings, the ring, what asked to be confirmed, the review's first message, the hand-off, the overseer's."""


async def everything(mate: Mate) -> AsyncIterator[str]:
    """The subjects in a mailbox, oldest first, by its cursors."""
    pages: list[list[str]] = []
    older: dict[str, str] = {}
    while True:
        page = await mate.as_agent("check_inbox", limit=7, **older)
        pages.append([message["subject"] for message in page["messages"]])
        if "older_cursor" not in page:
            break
        older = {"before": page["older_cursor"]}
    for subjects in reversed(pages):
        for subject in reversed(subjects):
            yield subject


STEPS: tuple[Callable[[Day], Awaitable[None]], ...] = (morning, conflicts, talk, review, handing_over, evening)


async def live(urls: Sequence[str], token: str) -> dict[str, int]:
    """The day; its counts. Raises Wrong."""
    async with team(urls, token) as day:
        for step in STEPS:
            begun = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                await step(day)
            print(f"{step.__name__.replace('_', ' '):14} {time.monotonic() - begun:5.1f} s", file=sys.stderr)
        return day.counts


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", action="append", help="a worker or balancer, instead of a cluster of its own")
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args(arguments)
    counts: dict[str, int] | None = None
    try:
        counts = asyncio.run(live(given.url, given.token) if given.url else _own(given.workers))
    except* Exception as wrong:  # noqa: BLE001 - the clients' task groups wrap whatever ends the day
        for cause in leaves(wrong):
            print(f"The day went wrong: {type(cause).__name__}: {cause}", file=sys.stderr)
    if counts is None:
        return 1
    print(json.dumps(counts, indent=2))
    return 0


async def _own(workers: int) -> dict[str, int]:
    with running_cluster(workers) as cluster:
        await cluster.ready()
        return await live([worker.url for worker in cluster.workers], TOKEN)


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """What was raised, without what it was wrapped in."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    sys.exit(main())
