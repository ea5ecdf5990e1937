"""What usually follows a call: an answer to mail, the verdict of a review, somebody else who wants the same lease.

Alone, random calls would seldom come so far.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.twins.people import HOMES, PAIR, owner
from tests.twins.steps import NO_ID, Call, Pass, Step, Told
from tests.twins.values import BODY, drawn_from


def sequel(random: Random, call: Call) -> list[Step]:
    """The calls that follow one of these; none after others, and where the first made no sense."""
    slug = call.arguments.get("project_slug")
    if slug not in HOMES:
        return []
    one, other = random.choice(HOMES[slug]), random.choice(HOMES[slug])
    match call.operation:
        case "send_message" | "broadcast_message" | "send_overseer_message":
            return _answers(random, call.arguments.get("recipient_names") or [one], slug)
        case "acknowledge_message" | "mark_read":  # the first time stays
            return [Pass(913), call]
        case "request_review":
            return _verdict(random, slug, one)
        case "reserve_file":
            return _contest(random, call, other)
        case "acquire_build_slot":
            named = {name: call.arguments[name] for name in ("slot_name", "slot_type") if name in call.arguments}
            rest: list[Step] = [
                _call(each, "acquire_build_slot", slug, **named, wait_seconds=0) for each in (one, other)
            ]
            return [*rest, _call(one, random.choice(("release_build_slot", "renew_build_slot")), slug, **named)]
        case "add_contact" | "respond_contact":
            (home, me, them), (theirs, _, mine) = PAIR if random.random() < 0.5 else PAIR[::-1]
            name = them.partition("@")[0]
            answer = _call(name, "respond_contact", theirs, contact_name=mine, accept=random.random() < 0.7)
            mail = {"sender_name": me, "recipient_names": [them], "subject": "Hello", "body_md": BODY}
            return [answer, Call(owner(me), "send_message", {"project_slug": home, **mail})]
        case "add_attachment":
            sender = call.arguments["agent_name"]
            mail = {"sender_name": sender, "recipient_names": [one], "subject": "A file", "body_md": BODY}
            ids = {"attachment_ids": [Told("attachment_id")]}
            send = Call(call.caller, "send_message", {"project_slug": slug, **mail, **ids})
            return [send, Call("bob", "get_attachment", {"attachment_id": Told("attachment_id")})]
    return []


def _call(agent_name: str, operation: str, slug: str, **more: Any) -> Call:
    return Call(owner(agent_name), operation, {"project_slug": slug, "agent_name": agent_name, **more})


def _answers(random: Random, recipients: list[Any], slug: str) -> list[Step]:
    """One of those who got it reads, acknowledges or replies, and looks into the inbox."""
    known = [name for name in recipients if name in HOMES[slug]]
    if not known:
        return []
    name = random.choice(known)
    steps: list[Step] = []
    if random.random() < 0.5:
        steps.append(_call(name, "acknowledge_message", slug, message_id=Told("message_id", 0, NO_ID)))
    if random.random() < 0.5:
        words = {"sender_name": name, "body_md": drawn_from("reply_message", "body_md")(random)}
        reply = {
            "project_slug": slug,
            "message_id": Told("message_id", 0, NO_ID),
            **words,
            "reply_all": random.random() < 0.5,
        }
        steps.append(Call(owner(name), "reply_message", reply))
    steps.append(_call(name, "mark_read", slug, message_ids=[Told("message_id", back, NO_ID) for back in range(3)]))
    return [*steps, _call(name, "check_inbox", slug, limit=3, include_bodies=True)]


def _verdict(random: Random, slug: str, reviewer: str) -> list[Step]:
    review = {"review_id": Told("review_id", 0, NO_ID)}
    verdict = {"verdict": random.choice(("approve", "request_changes", "comment")), "body_md": BODY}
    steps: list[Step] = [
        _call(reviewer, "claim_review", slug, **review),
        _call(reviewer, "complete_review", slug, **review, **verdict),
        Call("ann", "get_review", {"project_slug": slug, **review}),
        Call("ann", "cancel_review", {"project_slug": slug, **review}),
    ]
    kept = [step for step in steps if random.random() < 0.8]
    return [*kept, Call("ann", "list_reviews", {"project_slug": slug, "state": random.choice(("claimed", "done"))})]


def _contest(random: Random, call: Call, other: str) -> list[Step]:
    """Somebody else wants the same paths, gets them handed over, or takes them."""
    slug, paths = call.arguments["project_slug"], call.arguments.get("paths", [])
    holder = call.arguments["agent_name"]
    wish = _call(other, "reserve_file", slug, paths=paths, wait_seconds=0)
    handed = {"from_agent": holder, "to_agent": other, "task": "Go on", "paths": paths}
    hand_off = Call(owner(holder), "hand_off", {"project_slug": slug, **handed})
    taken = {"reservation_id": Told("id", 0, NO_ID), "reason": "It cannot wait", "override": True}
    force = Call("root", "force_release_file", {"project_slug": slug, "agent_name": other, **taken})
    end: Step = random.choice((hand_off, force, _call(holder, "release_file", slug, paths=paths)))
    return [wish, end, Call("ann", "list_reservations", {"project_slug": slug, "active_only": random.random() < 0.5})]
