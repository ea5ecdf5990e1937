"""What is measured: each scenario drives one connection in an endless loop; `prepare` makes the mail it works on.

The mail is the same in every run with the same seed: a project with one full inbox, which is only read, a project in
which a hundred agents write to each other, a project where a team works, and one full of reservations (leases).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson

from bench.connection import HANDSHAKE, Connection, call_tool, get, in_session, post
from bench.driver import Driver, is_tool_result, must
from bench.leases import check_paths, prepare_leases, reserve

CONNECTIONS = 50
BODY_BYTES = 500
SENDERS = 100
TEAM = 30
TEAM_RATE = 10.0
"""Calls per second of one agent of the paced team."""
PAIRS = 10
SEEDERS = 32
READING, WRITING, WORKING = "bench-reading", "bench-writing", "bench-team"
NEWEST_20: dict[str, object] = {"project_slug": READING, "agent_name": "Reader", "limit": 20}


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    drive: Callable[[Driver, int], Coroutine[Any, Any, None]]
    connections: int = CONNECTIONS
    needs_mail: bool = True
    is_paced: bool = False
    """Its rate is chosen, not found: only its latencies and its cost say something."""
    counts: str | None = None
    """The label whose figures are the scenario's; None: all of them together."""


# --- mail -------------------------------------------------------------------------------------------------------------


def vocabulary(seed: int) -> list[str]:
    """Three thousand made-up words, the first ones used most."""
    chance = random.Random(f"{seed}:words")
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < 3000:
        words["".join(chance.choice(syllables) for _ in range(chance.randint(2, 4)))] = None
    return list(words)


def word(words: list[str], chance: random.Random) -> str:
    """A word; few are frequent and many rare, as in any language."""
    return words[min(int(chance.paretovariate(0.5)) - 1, 10**9) % len(words)]


def text(words: list[str], chance: random.Random, length: int) -> str:
    """Exactly that many bytes of words."""
    parts: list[str] = []
    size = 0
    while size < length:
        parts.append(word(words, chance))
        size += len(parts[-1]) + 1
    return " ".join(parts)[:length]


def message(words: list[str], chance: random.Random, project: str, sender: str, *recipients: str) -> dict[str, Any]:
    """Arguments of a send."""
    return {
        "project_slug": project,
        "sender_name": sender,
        "recipient_names": list(recipients),
        "subject": text(words, chance, 40),
        "body_md": text(words, chance, BODY_BYTES),
    }


async def prepare(driver: Driver, messages: int) -> None:
    """Projects, agents and `messages` messages in Reader's inbox."""
    connection = driver.connection()
    teams = {
        READING: ["Reader", *(f"Writer{n}" for n in range(10))],
        WRITING: [f"Agent{n}" for n in range(SENDERS)],
        WORKING: [*(f"Mate{n}" for n in range(TEAM)), *(f"Waiter{n}" for n in range(PAIRS)), "Waker"],
    }
    for project, names in teams.items():
        await must(connection, post("/api/project/ensure", {"human_key": f"/bench/{project}", "slug": project}))
        for name in names:
            agent = {"project_slug": project, "name": name, "program": "bench", "model": "none"}
            await must(connection, post("/api/agent/register", agent))
    words = vocabulary(driver.seed)
    numbers = iter(range(messages))

    async def seed(seeder: int) -> None:
        own = driver.connection()
        for number in numbers:
            chance = driver.random(number + 10**6)
            sent = message(words, chance, READING, f"Writer{number % 10}", "Reader")
            await must(own, post("/api/message/send", sent | {"thread_id": f"T-{number % 500}"}))

    await asyncio.gather(*(seed(number) for number in range(SEEDERS)))
    inbox = await must(connection, get("/api/inbox", project_slug=READING, agent_name="Reader", limit=1))
    if inbox["unread_count"] != messages:
        raise RuntimeError(f"the inbox holds {inbox['unread_count']} messages, and {messages} were sent")
    await prepare_leases(connection)


# --- one request again and again --------------------------------------------------------------------------------------


async def health_rest(driver: Driver, number: int) -> None:
    """GET /health."""
    connection, request = driver.connection(), get("/health")
    while True:
        await driver.ask(connection, "health", request)


async def health_mcp(driver: Driver, number: int) -> None:
    """`tools/call` health, revision 2026-07-28."""
    connection, request = driver.connection(), call_tool("health", {})
    while True:
        await driver.ask(connection, "health", request, is_tool_result)


async def health_session(driver: Driver, number: int) -> None:
    """`tools/call` health in a session of the handshake revisions."""
    connection = driver.connection()
    session_id = await opened_session(connection)
    request = in_session(session_id, "tools/call", {"name": "health", "arguments": {}})
    while True:
        await driver.ask(connection, "health", request, is_tool_result)


async def opened_session(connection: Connection) -> str:
    """The id of a new session of the handshake revisions."""
    client = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    status, body = await connection.exchange(in_session("", "initialize", client))
    headers = dict(line.partition(b":")[::2] for line in connection.answer_head.split(b"\r\n")[1:])
    session_id = {name.lower(): value for name, value in headers.items()}.get(b"mcp-session-id", b"").strip().decode()
    if status != 200 or not session_id:
        raise RuntimeError(f"initialize was answered {status}: {body[:500].decode(errors='replace')}")
    status, body = await connection.exchange(in_session(session_id, "notifications/initialized", None, None))
    if status != 202:
        raise RuntimeError(f"notifications/initialized was answered {status}: {body[:500].decode(errors='replace')}")
    return session_id


async def health_stateless(driver: Driver, number: int) -> None:
    """`tools/call` health of the handshake revisions, without a session: for servers that have none."""
    connection, request = driver.connection(), in_session("", "tools/call", {"name": "health", "arguments": {}})
    while True:
        await driver.ask(connection, "health", request, is_tool_result)


async def inbox_rest(driver: Driver, number: int) -> None:
    """The newest 20 of a full inbox, over REST."""
    connection = driver.connection()
    request = get("/api/inbox", **NEWEST_20)
    while True:
        await driver.ask(connection, "check_inbox", request, holds_20_messages)


async def inbox_mcp(driver: Driver, number: int) -> None:
    """The newest 20 of a full inbox, over MCP."""
    connection = driver.connection()
    request = call_tool("check_inbox", NEWEST_20)
    while True:
        await driver.ask(connection, "check_inbox", request, is_tool_result)


async def inbox_session(driver: Driver, number: int) -> None:
    """The same in a session of the handshake revisions."""
    connection = driver.connection()
    session_id = await opened_session(connection)
    request = in_session(session_id, "tools/call", {"name": "check_inbox", "arguments": NEWEST_20})
    while True:
        await driver.ask(connection, "check_inbox", request, is_tool_result)


def holds_20_messages(status: int, body: bytes) -> bool:
    """A page that is really full."""
    return status == 200 and body.count(b'"message_id"') == 20


async def search(driver: Driver, number: int) -> None:
    """Two words, a phrase, a prefix, or a word without another; each connection in its own order."""
    connection, chance = driver.connection(), driver.random(number)
    words = vocabulary(driver.seed)
    queries = []
    for kind in range(200):
        one, two = word(words, chance), words[chance.randrange(len(words))]
        forms = (f"{one} {two}", f'"{one} {two}"', f"{two[:4]}*", f"{two} -{one}", two)
        queries.append(get("/api/message/search", project_slug=READING, query=forms[kind % len(forms)]))
    while True:
        for request in queries:
            await driver.ask(connection, "search_messages", request)


async def send_rest(driver: Driver, number: int) -> None:
    """A 500-byte message from one of a hundred agents to another, over REST."""
    connection, chance, words = driver.connection(), driver.random(number), vocabulary(driver.seed)
    requests = [post("/api/message/send", any_send(words, chance)) for _ in range(200)]
    while True:
        for request in requests:
            await driver.ask(connection, "send_message", request)


async def send_mcp(driver: Driver, number: int) -> None:
    """The same over MCP."""
    connection, chance, words = driver.connection(), driver.random(number), vocabulary(driver.seed)
    requests = [call_tool("send_message", any_send(words, chance)) for _ in range(200)]
    while True:
        for request in requests:
            await driver.ask(connection, "send_message", request, is_tool_result)


def any_send(words: list[str], chance: random.Random) -> dict[str, Any]:
    """A message between two agents drawn at random."""
    sender, recipient = chance.sample(range(SENDERS), 2)
    return message(words, chance, WRITING, f"Agent{sender}", f"Agent{recipient}")


# --- waiting ----------------------------------------------------------------------------------------------------------


async def wake_up(driver: Driver, number: int) -> None:
    """From the moment a message is sent to the moment the waiting agent has it; sends are 20 to 60 ms apart."""
    waiting, sending, chance = driver.connection(), driver.connection(), driver.random(number)
    words, name = vocabulary(driver.seed), f"Waiter{number}"
    inbox = await must(sending, get("/api/inbox", project_slug=WORKING, agent_name=name, limit=1))
    cursor = inbox["cursor"]
    while True:
        wait = get("/api/inbox/wait", project_slug=WORKING, agent_name=name, cursor=cursor, timeout_seconds=20)
        answer = asyncio.create_task(waiting.exchange(wait))
        try:
            await asyncio.sleep(chance.uniform(0.02, 0.06))
            sent_at = time.perf_counter()
            sent = await driver.ask(
                sending, "send_message", post("/api/message/send", message(words, chance, WORKING, "Waker", name))
            )
            committed_at = time.perf_counter()
            status, body = await answer
            woken_at = time.perf_counter()
        except OSError as error:
            driver.fail("wake-up", f"{type(error).__name__}: {error}")
            continue
        finally:
            answer.cancel()
        found = orjson.loads(body) if status == 200 else {"messages": []}
        if sent is None or [m["message_id"] for m in found["messages"]] != [orjson.loads(sent)["message_id"]]:
            driver.fail("wake-up", f"{status} {body[:300].decode(errors='replace')}")
            await asyncio.sleep(0.05)
        else:
            driver.note("wake-up", woken_at - sent_at)
            driver.note("wake-up after the sender's answer", max(0.0, woken_at - committed_at))
        cursor = found.get("cursor", cursor)


# --- a team -----------------------------------------------------------------------------------------------------------


async def team(driver: Driver, number: int) -> None:
    """One agent at work without a pause."""
    await agent_at_work(driver, number, None)


async def paced_team(driver: Driver, number: int) -> None:
    """One agent at work at a steady rate."""
    await agent_at_work(driver, number, 1 / TEAM_RATE)


async def agent_at_work(driver: Driver, number: int, pause: float | None) -> None:
    """Look for new mail, mark it read, acknowledge what asks for it, open its thread, answer or write anew."""
    connection, chance, words = driver.connection(), driver.random(number), vocabulary(driver.seed)
    me = {"project_slug": WORKING, "agent_name": f"Mate{number}"}
    cursor: str | None = None

    async def call(tool: str, **arguments: object) -> Any:
        if pause is not None:
            await asyncio.sleep(chance.expovariate(1 / pause))
        body = await driver.ask(connection, tool, call_tool(tool, arguments), is_tool_result)
        return orjson.loads(body)["result"]["structuredContent"] if body is not None else None

    while True:
        since = {"cursor": cursor} if cursor else {}
        inbox = await call("check_inbox", **me, **since, include_bodies=True)
        if inbox is None:
            continue
        cursor = inbox["cursor"]
        news = inbox["messages"]
        if news:
            await call("mark_read", **me, message_ids=[item["message_id"] for item in news])
            for item in news:
                if item["ack_required"] and not item.get("acknowledged_at"):
                    await call("acknowledge_message", **me, message_id=item["message_id"])
            await call("get_thread", project_slug=WORKING, thread_id=news[0]["thread_id"])
        if news and chance.random() < 0.5:
            answer = text(words, chance, BODY_BYTES)
            await call(
                "reply_message",
                project_slug=WORKING,
                sender_name=f"Mate{number}",
                message_id=news[0]["message_id"],
                body_md=answer,
            )
        else:
            others = chance.sample([f"Mate{n}" for n in range(TEAM) if n != number], chance.randint(1, 3))
            new = message(words, chance, WORKING, f"Mate{number}", *others)
            new |= {"thread_id": f"TASK-{chance.randrange(2000)}", "ack_required": chance.random() < 0.3}
            await call("send_message", **new)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("bare", "bare Starlette, constant answer", health_rest, needs_mail=False),
        Scenario("sdk", "the SDK's own manager, MCP 2026-07-28", health_mcp, needs_mail=False),
        Scenario("sdk-handshake", "the SDK's own manager, MCP 2025, no session", health_stateless, needs_mail=False),
        Scenario("health", "health, REST", health_rest, needs_mail=False),
        Scenario("health-mcp", "health, MCP 2026-07-28", health_mcp, needs_mail=False),
        Scenario("health-session", "health, MCP session (2025-11-25)", health_session, needs_mail=False),
        Scenario("inbox", "check_inbox, REST", inbox_rest),
        Scenario("inbox-mcp", "check_inbox, MCP", inbox_mcp),
        Scenario("inbox-session", "check_inbox, MCP session (2025-11-25)", inbox_session),
        Scenario("search", "search_messages, REST", search),
        Scenario("send", "send_message, REST", send_rest),
        Scenario("send-mcp", "send_message, MCP", send_mcp),
        Scenario("reserve", "reserve_file beside 1,000 others, REST", reserve, 1, counts="reserve_file"),
        Scenario("reserve-10", "the same by ten agents at once", reserve, 10, counts="reserve_file"),
        Scenario("check-paths", "check_paths, 100 paths beside 1,000 reservations", check_paths, 1),
        Scenario("wake-up", "send → waiting agent has it", wake_up, PAIRS, is_paced=True, counts="wake-up"),
        Scenario("team", "team of 30, flat out, MCP", team, TEAM),
        Scenario("team-paced", "team of 30, 10 calls/s each, MCP", paced_team, TEAM, is_paced=True),
    )
}
