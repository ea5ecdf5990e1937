"""Answers that take long: when they become streams, what keeps them alive, and what stops them."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from agent_mail_core.ids import Principal
from agent_mail_core.ports import App
from agent_mail_server.mcp_held import MAX_STREAMS_A_PRINCIPAL
from agent_mail_server.mcp_streams import Pace
from tests.wire.asgi_client import HANDSHAKES, MODERN, Answer, Client, until
from tests.wire.mcp_wire import Alternating, Bench, bench_of, make_app, make_endpoint

REVISIONS = (HANDSHAKES[-1], MODERN)
QUICK = Pace(stream_after=0.01, tick=0.01)
NEVER = Pace(stream_after=60)
LEGACY = HANDSHAKES[-1]


@dataclass
class Place:
    """An endpoint with a client and the bench of its test operations."""

    app: App
    endpoint: Alternating
    client: Client
    bench: Bench


async def place(version: str, pace: Pace = QUICK, **options: Any) -> Place:
    app = make_app()
    endpoint = make_endpoint(app, pace=pace, **options)
    return Place(app, endpoint, await Client(endpoint).speak(version), bench_of(app))


@pytest.fixture(autouse=True)
async def nothing_is_left(workers: None) -> AsyncIterator[None]:
    """Whatever a test began has ended with it."""
    before = asyncio.all_tasks()
    yield
    for _ in range(10):
        await asyncio.sleep(0)
    left = [repr(task) for task in asyncio.all_tasks() - before if not task.done()]
    assert [task for task in left if "TestRunner" not in task] == []


def text_of(answer: Answer) -> str:
    return str(answer.messages[-1]["result"]["structuredContent"]["text"])


@pytest.mark.parametrize("version", REVISIONS)
async def test_a_wait_that_ends_soon_is_json(version: str) -> None:
    here = await place(version, NEVER)
    here.bench.go_on.set()
    answer = await here.client.tool("wait_long").complete()
    assert answer.json["result"]["structuredContent"]["text"] == "wait"


@pytest.mark.parametrize("version", REVISIONS)
async def test_a_wait_becomes_a_stream_and_is_kept_alive(version: str) -> None:
    here = await place(version)
    answer = here.client.tool("wait_long")
    await answer.until(b": alive\r\n\r\n: alive\r\n\r\n")
    assert answer.is_stream
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    here.bench.go_on.set()
    await answer.complete()
    assert answer.is_complete
    assert len(answer.messages) == 1
    assert text_of(answer) == "wait"
    assert (b"id: " in answer.body) == (version != MODERN)
    assert ("mcp-session-id" in answer.headers) == (version != MODERN)


@pytest.mark.parametrize("version", REVISIONS)
async def test_a_client_that_takes_no_streams_gets_json_after_the_wait(version: str) -> None:
    here = await place(version)
    answer = here.client.tool("wait_long", accept="application/json", token="t")
    await here.bench.begun.wait()
    await asyncio.sleep(0.05)
    assert answer.status == 0
    here.bench.go_on.set()
    assert (await answer.complete()).json["result"]["structuredContent"]["text"] == "wait"


@pytest.mark.parametrize("version", REVISIONS)
async def test_progress_is_told_to_who_asks(version: str) -> None:
    here = await place(version)
    answer = here.client.tool("wait_long", token="token-1")
    await answer.begun()
    await until(lambda: len(answer.messages) >= 3)
    here.bench.go_on.set()
    await answer.complete()
    *progress, result = answer.messages
    assert {message["method"] for message in progress} == {"notifications/progress"}
    assert {message["params"]["progressToken"] for message in progress} == {"token-1"}
    values = [message["params"]["progress"] for message in progress]
    assert values == sorted(set(values))
    assert result["result"]["structuredContent"]["text"] == "wait"


@pytest.mark.parametrize("version", REVISIONS)
async def test_with_a_progress_token_even_a_quick_answer_is_a_stream(version: str) -> None:
    here = await place(version, NEVER)
    answer = await here.client.tool("echo", {"text": "x"}, token=7).complete()
    assert text_of(answer) == "x"
    refused = await here.client.tool("echo", {"text": 1}, token=7).complete()
    assert refused.messages[-1]["result"]["isError"] is True


@pytest.mark.parametrize("version", REVISIONS)
async def test_a_slow_read_stays_json(version: str) -> None:
    here = await place(version)
    answer = here.client.tool("read_slowly")
    await here.bench.begun.wait()
    await asyncio.sleep(0.05)
    assert answer.status == 0
    here.bench.go_on.set()
    assert (await answer.complete()).json["result"]["structuredContent"]["text"] == "read"


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wait_long", "read_slowly"])
async def test_in_2026_leaving_cancels(name: str) -> None:
    here = await place(MODERN)
    answer = here.client.tool(name)
    await here.bench.begun.wait()
    answer.leave()
    await answer.complete()
    assert here.bench.ended == [f"{name.split('_')[0]} cancelled"]
    assert not answer.is_complete or not answer.body


async def test_in_2026_leaving_lets_a_write_go_on() -> None:
    here = await place(MODERN)
    answer = here.client.tool("write_slowly")
    await here.bench.begun.wait()
    answer.leave()
    await answer.complete()
    assert here.bench.ended == []
    here.bench.go_on.set()
    await asyncio.sleep(0.01)
    assert here.bench.ended == ["write done"]


@pytest.mark.parametrize("name", ["wait_long", "read_slowly", "write_slowly"])
async def test_with_a_session_leaving_cancels_nothing(name: str) -> None:
    here = await place(LEGACY)
    answer = here.client.tool(name)
    await here.bench.begun.wait()
    answer.leave()
    await asyncio.sleep(0.05)
    assert here.bench.ended == []
    here.bench.go_on.set()
    await answer.complete()
    assert here.bench.ended == [f"{name.split('_')[0]} done"]


# --- cancelling -------------------------------------------------------------------------------------------------------


async def cancel(client: Client, message_id: object) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message_id}}
    assert (await client.post(message).complete()).status == 202


@pytest.mark.parametrize("name", ["wait_long", "read_slowly"])
@pytest.mark.parametrize("message_id", [7, "7", "seven"])
async def test_a_notification_cancels_a_call_of_its_session(name: str, message_id: object) -> None:
    here = await place(LEGACY)
    answer = here.client.tool(name, message_id=message_id)
    await here.bench.begun.wait()
    stranger = await Client(here.endpoint).speak(LEGACY)
    await cancel(stranger, message_id)
    await cancel(here.client, "another")
    await asyncio.sleep(0.03)
    assert here.bench.ended == []
    await cancel(here.client, message_id)
    await answer.complete()
    assert here.bench.ended == [f"{name.split('_')[0]} cancelled"]
    error = answer.messages[-1] if answer.is_stream else answer.json
    assert (error["id"], error["error"]["code"]) == (message_id, -32800)
    assert answer.is_complete


async def test_a_cancelled_write_goes_on() -> None:
    here = await place(LEGACY)
    answer = here.client.tool("write_slowly", message_id=7)
    await here.bench.begun.wait()
    await cancel(here.client, 7)
    assert (await answer.complete()).json["error"]["code"] == -32800
    here.bench.go_on.set()
    await asyncio.sleep(0.01)
    assert here.bench.ended == ["write done"]


async def test_in_2026_nobody_cancels_by_an_id() -> None:
    here = await place(MODERN)
    answer = here.client.tool("wait_long", message_id=7)
    await here.bench.begun.wait()
    await cancel(here.client, 7)
    here.bench.go_on.set()
    await answer.complete()
    assert here.bench.ended == ["wait done"]


async def test_the_end_of_a_session_cancels_its_calls() -> None:
    here = await place(LEGACY)
    answer = here.client.tool("wait_long")
    held = here.client.open("GET", headers=here.client.headers())
    await here.bench.begun.wait()
    await held.begun()
    await here.client.request("DELETE", headers=here.client.headers())
    await answer.complete()
    await held.complete()
    assert here.bench.ended == ["wait cancelled"]


async def test_the_server_that_ends_a_task_is_not_taken_for_a_client() -> None:
    here = await place(LEGACY)
    answer = here.client.tool("wait_long")
    await here.bench.begun.wait()
    assert answer.task is not None
    answer.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer.task


# --- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", REVISIONS)
@pytest.mark.parametrize("accept", ["application/json", "application/json, text/event-stream"])
async def test_closing_ends_waits(version: str, accept: str) -> None:
    here = await place(version)
    answer = here.client.tool("wait_long", accept=accept)
    await here.bench.begun.wait()
    await asyncio.sleep(0.03)
    async with asyncio.timeout(1):
        await here.endpoint.close(patience=0.01)
    await answer.complete()
    assert here.bench.ended == ["wait cancelled"]
    error = answer.messages[-1] if answer.is_stream else answer.json
    assert "stopping" in error["error"]["message"]


async def test_closing_lets_waits_end_by_themselves_first() -> None:
    here = await place(MODERN, NEVER)
    answer = here.client.tool("wait_long")
    await here.bench.begun.wait()
    closing = asyncio.create_task(here.endpoint.close(patience=5))
    await asyncio.sleep(0.01)
    assert not closing.done()
    here.bench.go_on.set()
    await closing
    assert (await answer.complete()).json["result"]["isError"] is False


async def test_closing_twice_or_with_nothing_open_is_fine() -> None:
    here = await place(MODERN)
    await here.endpoint.close()
    await here.endpoint.close()


async def test_closing_ends_held_streams() -> None:
    here = await place(LEGACY)
    held = here.client.open("GET", headers=here.client.headers())
    await held.begun()
    await here.endpoint.close()
    await held.complete()
    assert held.body.endswith(b"retry: 1000\r\n\r\n")


# --- GET --------------------------------------------------------------------------------------------------------------


async def test_get_holds_a_stream_open() -> None:
    here = await place(LEGACY)
    held = here.client.open("GET", headers=here.client.headers(accept="text/event-stream"))
    await held.until(b": alive\r\n\r\n: alive\r\n\r\n")
    assert held.is_stream
    assert held.headers["mcp-session-id"] == here.client.session_id
    held.leave()
    await held.complete()
    assert not held.is_complete


async def test_get_needs_a_client_that_takes_streams() -> None:
    here = await place(LEGACY)
    answer = await here.client.request("GET", headers=here.client.headers(accept="application/json"))
    assert (answer.status, answer.json["error"]["code"]) == (406, -32600)


async def test_the_newest_stream_of_a_session_wins() -> None:
    here = await place(LEGACY)
    first = here.client.open("GET", headers=here.client.headers())
    await first.begun()
    second = here.client.open("GET", headers=here.client.headers())
    await first.complete()
    await second.until(b": alive\r\n\r\n: alive\r\n\r\n")
    second.leave()
    await second.complete()


async def test_a_stream_ends_with_its_session() -> None:
    here = await place(LEGACY)
    held = here.client.open("GET", headers=here.client.headers())
    await held.begun()
    assert here.client.session_id is not None
    await here.app.sessions.delete(here.client.session_id)  # as another worker would
    await held.complete()
    assert held.is_complete


async def test_a_principal_holds_a_bounded_number_of_streams() -> None:
    here = await place(LEGACY, alternates=False)
    clients = [await Client(here.endpoint).speak(LEGACY) for _ in range(MAX_STREAMS_A_PRINCIPAL)]
    held = [client.open("GET", headers=client.headers()) for client in clients]
    for answer in held:
        await answer.begun()
    refused = await here.client.request("GET", headers=here.client.headers())
    assert (refused.status, refused.headers["retry-after"]) == (429, "60")
    other = Client(here.endpoint, here.client.as_caller(principal=Principal("token:9")).caller)
    await other.speak(LEGACY)
    held.append(other.open("GET", headers=other.headers()))
    await held[-1].begun()
    assert held[-1].status == 200
    held[0].leave()
    await held[0].complete()
    held.append(here.client.open("GET", headers=here.client.headers()))
    await held[-1].begun()
    assert held[-1].status == 200
    await here.endpoint.close()
    for answer in held:
        await answer.complete()


async def test_a_stream_whose_connection_breaks_is_given_up() -> None:
    here = await place(LEGACY)
    held = here.client.open("GET", headers=here.client.headers())
    await held.begun()

    async def broken(event: object) -> None:
        raise RuntimeError("closed")

    held.send = broken  # type: ignore[method-assign]
    here.client.open("GET", headers=[])
    await here.endpoint.close()
    await held.complete()


async def test_a_hundred_waits_end_together() -> None:
    here = await place(MODERN)
    answers = [here.client.tool("wait_long", message_id=number) for number in range(100)]
    await answers[-1].until(b": alive")
    here.bench.go_on.set()
    for number, answer in enumerate(answers):
        await answer.complete()
        assert json.loads(answer.body.split(b"data: ")[1])["id"] == number
