"""Random sequences of calls over all rows of the operations table. A seed names one, whatever the answers are."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

from agent_mail_core.ports import Role
from agent_mail_server.aliases import ARGUMENT_ALIASES
from agent_mail_server.operations import BY_NAME, OPERATIONS, Operation
from tests.twins.people import HOMES, PAIR, owner
from tests.twins.sequels import sequel
from tests.twins.steps import LEFT_OUT, NEXT_PAGE, Call, Chores, Pass, Step, Told
from tests.twins.values import BODY, SECRET_READER, drawn_from

OFTEN = {
    "send_message": 9,
    "reply_message": 6,
    "check_inbox": 6,
    "mark_read": 4,
    "acknowledge_message": 3,
    "reserve_file": 6,
    "release_file": 3,
    "renew_file": 3,
    "acquire_build_slot": 4,
    "list_activity": 3,
    "search_messages": 4,
    "list_threads": 3,
    "get_thread": 3,
    "get_message": 3,
    "product_inbox": 3,
    "request_review": 3,
    "claim_review": 3,
    "complete_review": 3,
    "hand_off": 3,
    "add_contact": 3,
    "link_project": 2,
    "list_pending_acks": 3,
    "register_agent": 2,
    "broadcast_message": 2,
    "summarize_thread": 2,
    "respond_contact": 3,
    "list_contacts": 2,
    "list_reservations": 2,
    "list_slots": 2,
    "start_session": 2,
}
"""Weights; the others have 1."""

SELDOM = {
    "health": 0.2,
    "ready": 0.2,
    "metrics": 0.2,
    "delete_project": 0.15,
    "archive_log": 0.1,
    "archive_show": 0.1,
    "retire_agent": 0.2,
    "transfer_agent": 0.15,
    "unlink_project": 0.4,
    "set_legal_hold": 0.3,
    "test_webhook": 0.2,
    "list_dead_jobs": 0.2,
    "retry_job": 0.2,
    "drop_job": 0.2,
    "redeliver_webhook": 0.3,
    "add_webhook": 0.4,
    "block_contact": 0.7,
    "export_project": 0.7,
}
WEIGHTS = [(OFTEN | SELDOM).get(operation.name, 1.0) for operation in OPERATIONS]
PRINCIPALS = ("ann", "ann", "ann", "ann", "root", "root", "root", "bob", "bob", "guest", "stranger")
ACTORS = ("agent_name", "sender_name", "from_agent", "requester_name")
ALTERNATIVES = (
    ("request_review", "thread_id", "message_id"),
    ("search_messages", "product_name", "project_slug"),
    ("release_file", "paths", "ids"),
    ("renew_file", "paths", "ids"),
    ("check_inbox", "before", "cursor"),
)
"""Of these arguments a call takes one."""

ADDRESSES = ("recipient_names", "cc_names", "bcc_names")
PASSING = (77, 913, 2741, 4517, 90_007, 2_700_011)
"""Seconds whose sums come near no limit, which one twin could pass and the other just not."""

DEFAULTS: dict[str, Any] = {"wait_seconds": 0, "timeout_seconds": 0}
"""Given where a draw leaves them out: nobody waits for long."""


def furniture() -> list[Step]:
    """Projects, agents, a product and a little mail: where each plan begins."""
    steps: list[Step] = []
    for key, slug in (("/code/shop", "shop"), ("store", "store"), ("depot", "depot")):
        steps.append(Call("ann", "ensure_project", {"human_key": key, "slug": slug}))
    for slug, names in HOMES.items():
        steps += [_registration(owner(name), slug, name) for name in (*names, SECRET_READER)]
    steps.append(Call("stranger", "ensure_project", {"human_key": "/code/shop", "slug": "shop"}))
    steps += [_registration("stranger", "shop", name) for name in ("Ann", "Eve")]
    steps.append(Call("ann", "ensure_product", {"name": "Store front"}))
    for number, (slug, sender) in enumerate((("shop", "Ann"), ("shop", "Bob"), ("store", "Dot"), ("shop", "Dot"))):
        mail = {"project_slug": slug, "sender_name": sender, "subject": "Hello", "body_md": f"{BODY} {number}"}
        more = {"thread_id": f"FEAT-{number % 2 + 1}", "ack_required": number < 2, "bcc_names": [SECRET_READER]}
        steps.append(Call("ann", "send_message", {**mail, **more, "recipient_names": ["Ann", "Dot"]}))
    steps += [
        Call("ann", "link_project", {"product_name": "Store front", "project_slug": slug}) for slug in ("shop", "store")
    ]
    return steps


def _registration(caller: str, slug: str, name: str) -> Call:
    return Call(caller, "register_agent", {"project_slug": slug, "program": "p", "model": "m", "name": name})


def plan(seed: int, length: int) -> list[Step]:
    """The furniture, and so many random steps (a few more: some are done again, or have a next page)."""
    random = Random(seed)
    steps = furniture()
    end = len(steps) + length
    while len(steps) < end:
        chance = random.random()
        if chance < 0.02:
            steps.append(Pass(random.choice(PASSING)))
        elif chance < 0.04:
            steps.append(Chores())
        else:
            call = _call(random, random.choices(OPERATIONS, WEIGHTS)[0])
            steps.append(call)
            steps += _follow(random, call)
    return steps


def _call(random: Random, operation: Operation) -> Call:
    route = random.randrange(len(operation.routes))
    in_path = Operation.path_fields(operation.routes[route])
    arguments: dict[str, Any] = {}
    for name, field in operation.request_type.model_fields.items():
        if field.is_required() or random.random() < _share(name):
            value = drawn_from(operation.name, name)(random)
            while name in in_path and not _fits_a_path(value):
                value = drawn_from(operation.name, name)(random)
            arguments[name] = value
        elif name in DEFAULTS:
            arguments[name] = DEFAULTS[name]
    caller = random.choice(PRINCIPALS)
    if random.random() < 0.8:
        caller = _make_sense(random, operation, arguments)
    if random.random() < 0.02:
        arguments = _renamed(arguments, in_path)
    if random.random() < 0.01:
        arguments["projekt_slug"] = "shop"
    return Call(caller, operation.name, arguments, route)


def _make_sense(random: Random, operation: Operation, arguments: dict[str, Any]) -> str:
    """Let an agent act in its own project, and name nobody twice; who may call that."""
    if "project_slug" in arguments:
        arguments["project_slug"] = random.choices(list(HOMES), (7, 2, 1))[0]
    elif operation.name == "list_activity":
        arguments["project_slug"] = "shop"
    for name, one, other in ALTERNATIVES:
        if operation.name == name and {one, other} <= arguments.keys():
            del arguments[random.choice((one, other))]
    if operation.name == "request_review" and not {"thread_id", "message_id"} & arguments.keys():
        arguments["thread_id"] = random.choice(("FEAT-1", "FEAT-2"))
    home = arguments.get("project_slug", "shop")
    actors = [name for name in ACTORS if name in arguments]
    for name in actors:
        arguments[name] = random.choice(HOMES[home])
    for name in ("to_agent", "contact_name"):
        if name in arguments:
            arguments[name] = random.choice(HOMES[home]) if name == "to_agent" else _in_reach(random, home)
    if "contact_name" in arguments and random.random() < 0.7:
        arguments["project_slug"], arguments["agent_name"], arguments["contact_name"] = random.choice(PAIR)
    named: set[str] = set()
    for name in ADDRESSES:
        if name in arguments:
            each = [_in_reach(random, home) if name != SECRET_READER else name for name in arguments[name]]
            arguments[name] = [address for address in dict.fromkeys(each) if address not in named]
            named.update(arguments[name])
    if operation.role is Role.admin or random.random() < 0.2:
        return "root"
    if operation.role is Role.overseer:
        return "bob"
    return owner(arguments[actors[0]]) if actors else "ann"


def _in_reach(random: Random, home: str) -> str:
    """Somebody of the project; now and then of another one."""
    place = home if random.random() < 0.8 else random.choice(list(HOMES))
    name = random.choice(HOMES[place])
    return name if place == home else f"{name}@{place}"


def _share(name: str) -> float:
    """How often an argument that may be left out is given."""
    return {"cursor": 0.04, "before": 0.15, "recipient_names": 0.9, "name": 0.7, "agent_name": 0.6, "at": 0.1}.get(
        name, 0.3
    )


def _fits_a_path(value: Any) -> bool:
    """Paths take slugs only, a segment is never empty, and `list` leads to the list."""
    return not isinstance(value, str) or (value not in ("", "list") and "/" not in value)


def _renamed(arguments: dict[str, Any], but: Collection[str]) -> dict[str, Any]:
    """With the names that the seed had for them, where they have names."""
    names = {field: alias for alias, field in ARGUMENT_ALIASES.items() if field not in but}
    return {names.get(name, name): value for name, value in arguments.items()}


def _follow(random: Random, call: Call) -> list[Step]:
    """What usually comes next; pages of a list; the call again: later, under its key, by somebody else."""
    if random.random() < 0.03:
        return [Pass(random.choice(PASSING[1:4])), call]
    if random.random() < 0.4 and (follow := sequel(random, call)):
        return follow
    fields = BY_NAME[call.operation].request_type.model_fields
    chance = random.random()
    if "idempotency_key" in call.arguments and chance < 0.3:
        return [call]
    if "cursor" in fields and chance < 0.5:
        more = {**call.arguments, "cursor": Told(NEXT_PAGE, 0, LEFT_OUT)}
        again = Call(call.caller, call.operation, more, call.route)
        return [again] * random.randint(1, 3)
    if chance < 0.04:
        return [Call(random.choice(PRINCIPALS), call.operation, call.arguments, call.route)]
    return []
