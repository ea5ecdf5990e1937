"""`python -m loadtests.team_day`: a working day of twelve agents in two projects, and the counts that it must end with.

Every agent is an official MCP client, half of them in each era of the protocol, and every HTTP request goes to the next
of three workers. What is sent is written down beside it; in the evening each inbox, list and counter is compared with
that (`loadtests.evening`). Exit code 1 when anything differs. With `--url` it is lived on servers that run, on any
database, as often as one likes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from loadtests.cluster import TOKEN, running_cluster
from loadtests.evening import evening
from loadtests.staff import PATIENCE, SHOP_NAMES, Day, Wrong, team

HOT, CART, TOTAL = "src/hot.py", "src/cart/**", "src/cart/total.py"


async def morning(day: Day) -> None:
    """Everybody starts a session, all at once; the projects become a product; the lead greets."""
    eras = [mate.client.protocol_version for mate in day.mates.values()]
    day.count("agents that speak 2026-07-28", eras.count("2026-07-28"), 6)
    sessions = await asyncio.gather(
        *(
            mate.call("start_session", human_key=mate.project, program="team-day", model="none", agent_name=mate.name)
            for mate in day.mates.values()
        )
    )
    day.count("sessions that made an agent", sum(session["created"] for session in sessions), 12)
    day.count("mail before the day", sum(session["inbox"]["unread_count"] for session in sessions), 0)
    for what, project, due in (("the shop", day.shop, 8), ("the store", day.store, 4)):
        listed = await day.rest.call("list_agents", project_slug=project)
        day.count(f"agents of {what}", len(listed["agents"]), due)
    lead = day.mates["Lead"]
    await lead.call("ensure_product", name=day.product)
    for project in (day.shop, day.store):
        await lead.call("link_project", product_name=day.product, project_slug=project)
    greeted = await lead.at_home(
        "broadcast_message", sender_name="Lead", subject="Good morning", body_md="Let us begin.", idempotency_key="hi"
    )
    day.expect("Lead", SHOP_NAMES[1:], "Good morning", "bcc")
    day.count("greeted", len(set(greeted["delivered"]) & set(SHOP_NAMES[1:])), 7)


async def conflicts(day: Day) -> None:
    """One file that all want, a slot for three, and one of each that is waited for."""
    shop = day.of(day.shop)
    hot = await asyncio.gather(*(mate.as_agent("reserve_file", paths=[HOT]) for mate in shop))
    holders = [mate.name for mate, answer in zip(shop, hot, strict=True) if answer["granted"]]
    day.count("holders of one file", len(holders), 1)
    named = [[conflict["holder"] for conflict in answer["conflicts"]] for answer in hot if not answer["granted"]]
    day.count("conflicts that name the holder", named.count(holders), 7)

    slots = await asyncio.gather(*(mate.as_agent("acquire_build_slot", slot_name="ci", capacity=3) for mate in shop))
    inside = [mate for mate, answer in zip(shop, slots, strict=True) if answer["acquired"]]
    outside = [mate for mate in shop if mate not in inside]
    day.count("holders of a slot for three", len(inside), 3)
    taken = await day.prompt(
        outside[0].as_agent("acquire_build_slot", slot_name="ci", wait_seconds=30),
        inside[0].as_agent("release_build_slot", slot_name="ci"),
    )
    day.count("slots acquired after a wait", int(taken["acquired"]), 1)

    ada, ben = day.mates["Ada"], day.mates["Ben"]
    await ada.as_agent("reserve_file", paths=[CART])
    refused = await ben.as_agent("reserve_file", paths=[TOTAL])
    day.count(
        "conflicts named",
        [(one["holder"], one["their_pattern"]) for one in refused["conflicts"]].count(("Ada", CART)),
        1,
    )
    granted = await day.prompt(
        ben.as_agent("reserve_file", paths=[TOTAL], wait_seconds=30), ada.as_agent("release_file", paths=[CART])
    )
    day.count("files granted after a wait", len(granted["granted"]), 1)


async def talk(day: Day) -> None:
    """A ring in which each waits for the one before, over both projects; and mail that is confirmed and answered."""
    ring = list(day.mates.values())
    woken, cursors = 0, []
    for giver, taker in zip(ring, ring[1:] + ring[:1], strict=True):
        cursor = (await taker.as_agent("check_inbox", limit=1))["cursor"]
        found = await day.prompt(
            taker.as_agent("wait_for_messages", cursor=cursor, timeout_seconds=30),
            day.send(giver.name, [taker.name], f"{giver.name} to {taker.name}"),
        )
        woken += [message["subject"] for message in found["messages"]] == [f"{giver.name} to {taker.name}"]
        cursors.append((taker, found["cursor"]))
    day.count("woken by mail", woken, 12)
    again = await asyncio.gather(
        *(taker.as_agent("wait_for_messages", cursor=cursor, timeout_seconds=0.5) for taker, cursor in cursors)
    )
    day.count("woken again by the same mail", sum(not one["timed_out"] or bool(one["messages"]) for one in again), 0)
    await confirm(day)


async def confirm(day: Day) -> None:
    """Three are asked to acknowledge; two of them also answer, one of them all."""
    lead = day.mates["Lead"]
    asked = await day.send("Lead", ["Ada", "Ben", "Hal"], "Please confirm", ack_required=True)
    owed = await lead.as_agent("list_pending_acks", direction="owed_to_me")
    expected = {day.mates[name].seen_from(day.shop) for name in ("Ada", "Ben", "Hal")}
    day.count("acknowledgements owed", len(expected & {one["agent_name"] for one in owed["pending"]}), 3)
    for name in ("Ada", "Ben", "Hal"):
        await day.mates[name].as_agent("acknowledge_message", message_id=asked["message_id"])
    owed = await lead.as_agent("list_pending_acks", direction="owed_to_me")
    day.count("acknowledgements still owed", len(owed["pending"]), 0)
    for name, to_all, told in (("Ben", False, ["Lead"]), ("Hal", True, ["Lead", "Ada", "Ben"])):
        answer = {"message_id": asked["message_id"], "body_md": "I do.", "reply_all": to_all, "idempotency_key": "yes"}
        await day.mates[name].at_home("reply_message", sender_name=name, **answer)
        day.expect(name, told, "Re: Please confirm")


async def review(day: Day) -> None:
    """Four reviewers claim at once; one of them has it and approves; Ada and the others are told of each step."""
    names = ["Ben", "Cem", "Dora", "Eli"]
    thread = (await day.send("Ada", names, "The cart, rewritten"))["thread_id"]
    asking = {"requester_name": "Ada", "thread_id": thread, "reviewer_names": names, "idempotency_key": "review"}
    review_id = (await day.mates["Ada"].at_home("request_review", **asking))["review_id"]
    day.expect("Ada", names, f"Review {review_id} requested: The cart, rewritten")
    claims = await asyncio.gather(*(day.mates[name].as_agent("claim_review", review_id=review_id) for name in names))
    winners = [name for name, claim in zip(names, claims, strict=True) if claim["claimed"]]
    day.count("claims of one review", len(winners), 1)
    day.count("told who has claimed it", [claim["review"]["claimer_name"] for claim in claims].count(winners[0]), 4)
    told = ["Ada", *(name for name in names if name not in winners)]
    day.expect(winners[0], told, f"Review {review_id} claimed: The cart, rewritten")
    ending = {"review_id": review_id, "verdict": "approve", "body_md": "Ship it."}
    await day.mates[winners[0]].as_agent("complete_review", **ending)
    day.expect(winners[0], told, f"Review {review_id} approved: The cart, rewritten")
    done = (await day.rest.call("list_reviews", project_slug=day.shop, state="done"))["reviews"]
    day.count(
        "reviews approved", [(one["claimer_name"], one["verdict"]) for one in done].count((winners[0], "approve")), 1
    )


async def handing_over(day: Day) -> None:
    """Whoever holds the wanted file hands it to Gus or, being Gus, to Fay; then the overseer writes to everybody."""
    [before] = await reserved(day, HOT)
    taker = "Fay" if before["holder"] == "Gus" else "Gus"
    handing = {"from_agent": before["holder"], "to_agent": taker, "task": "Finish it", "paths": [HOT]}
    await day.mates[before["holder"]].at_home("hand_off", idempotency_key="over", **handing)
    day.expect(before["holder"], [taker], "Hand-off: Finish it")
    after = await reserved(day, HOT)
    day.count("reservations handed over", [one["holder"] for one in after].count(taker), 1)
    day.count("reservations kept by who handed over", len(after) - 1, 0)
    day.count("fences that grew", int(after[0]["fence"] > before["fence"]), 1)
    sent = await day.rest.call(
        "send_overseer_message", project_slug=day.shop, subject="Freeze at six", body_md="No merges after that."
    )
    day.expect("Overseer", SHOP_NAMES, "Freeze at six")
    day.count("told by the overseer", len({one["name"] for one in sent["deliveries"]} & set(SHOP_NAMES)), 8)


async def reserved(day: Day, pattern: str) -> list[dict[str, str]]:
    """The live reservations of that pattern."""
    held = (await day.rest.call("list_reservations", project_slug=day.shop, limit=100))["reservations"]
    return [one for one in held if one["pattern"] == pattern]


STEPS: tuple[Callable[[Day], Awaitable[None]], ...] = (morning, conflicts, talk, review, handing_over, evening)


async def live(urls: Sequence[str], token: str) -> dict[str, int]:
    """The day; its counts. Raises Wrong, in the group of the clients' tasks."""
    async with team(urls, token) as day:
        for step in STEPS:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    await step(day)
            except TimeoutError:
                raise Wrong(f"{step.__name__} is not over after {PATIENCE:.0f} s") from None
            print(f"{step.__name__.replace('_', ' '):14} {time.monotonic() - begun:5.1f} s", file=sys.stderr)
        return day.counts


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", action="append", help="a worker or balancer, instead of a cluster of its own; may be repeated"
    )
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
