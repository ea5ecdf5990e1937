"""Streams that a client loses and takes up again, replies to requests of the server, and a session's own stream.

With two workers each request goes to the other one: what one worker began is read and answered on the next.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ElicitRequestedSchema,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from agent_mail_core.errors import Unavailable
from agent_mail_core.ports import App
from agent_mail_server.mcp_streams import LARGEST_KEPT, Pace, call_stream
from tests.wire.asgi_client import HANDSHAKES, MODERN, Answer, Client, until
from tests.wire.mcp_wire import Alternating, bench_of, make_app, make_endpoint

pytestmark = pytest.mark.usefixtures("workers")

LEGACY = HANDSHAKES[-1]
QUICK = Pace(stream_after=0.01, tick=0.02)
SCHEMA: ElicitRequestedSchema = {"type": "object", "properties": {"name": {"type": "string"}}}

Context = ServerRequestContext[Any]


def asking_server(app: App) -> Server[Any]:
    """A server whose tools ask the client, and let it go."""

    async def list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="ask", input_schema={"type": "object"})])

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        bench = bench_of(app)
        text = "done"
        try:
            match params.name:
                case "ask":
                    text = str((await context.session.elicit_form("Who?", SCHEMA, context.request_id)).content)
                case "ask by the session's stream":
                    text = str((await context.session.elicit_form("Who?", SCHEMA)).content)
                case "tell by the session's stream":
                    await context.session.send_tool_list_changed()
                case "let go":
                    assert context.close_sse_stream is not None
                    await context.close_sse_stream()
                    bench.begun.set()
                    await bench.go_on.wait()
        except MCPError as error:
            text = f"{error.code}"
        return CallToolResult(content=[TextContent(text=text)])

    return Server("asking", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def client_of(endpoint: Alternating, version: str = LEGACY) -> Client:
    return await Client(endpoint).speak(version)


def resume(client: Client, event_id: str) -> Answer:
    return client.open("GET", headers=[*client.headers(accept="text/event-stream"), ("last-event-id", event_id)])


async def seen(answer: Answer, is_it: Callable[[Any], bool]) -> Any:
    """The message of a stream for which this holds, when it is there."""
    await answer.begun()
    await until(lambda: any(is_it(message) for message in answer.messages))
    return next(message for message in answer.messages if is_it(message))


def text_of(message: Any) -> str:
    return str(message["result"]["content"][0]["text"])


# --- a call's stream --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", HANDSHAKES[1:])
async def test_a_client_that_lost_the_stream_of_a_call_gets_the_rest(version: str) -> None:
    app = make_app()
    client = await client_of(make_endpoint(app, pace=QUICK), version)
    answer = client.tool("wait_long", token="t", message_id="seven")
    await answer.begun()
    await until(lambda: len(answer.messages) >= 2)
    told = [message["params"]["progress"] for message in answer.messages]
    event_id = answer.last_event_id
    answer.leave()
    resumed = resume(client, event_id)
    bench_of(app).go_on.set()
    await resumed.complete()
    *more, last = resumed.messages
    values = told + [message["params"]["progress"] for message in more]
    assert values == sorted(set(values))
    assert last["id"] == "seven"
    assert last["result"]["structuredContent"]["text"] == "wait"
    again = await resume(client, event_id).complete()
    assert again.messages == resumed.messages
    assert (await resume(client, resumed.last_event_id).complete()).messages == []


async def test_the_first_event_of_a_stream_is_a_place_to_come_back_to() -> None:
    app = make_app()
    client = await client_of(make_endpoint(app, pace=QUICK))
    answer = client.tool("wait_long")
    await answer.until(b"\r\n\r\n")
    assert [event.message for event in answer.events] == [None]
    assert b"retry: 1000\r\n" in answer.body
    answer.leave()
    bench_of(app).go_on.set()
    resumed = await resume(client, answer.last_event_id).complete()
    assert resumed.messages[-1]["result"]["structuredContent"]["text"] == "wait"


@pytest.mark.parametrize("version", HANDSHAKES[:-1])
async def test_older_revisions_see_no_event_without_data(version: str) -> None:
    app = make_app()
    client = await client_of(make_endpoint(app, pace=QUICK), version)
    answer = client.tool("wait_long")
    await answer.until(b": alive")
    bench_of(app).go_on.set()
    await answer.complete()
    assert all(event.message is not None for event in answer.events)


async def test_a_handler_lets_its_client_go_and_goes_on() -> None:
    app = make_app()
    client = await client_of(make_endpoint(app, pace=QUICK, server=asking_server))
    answer = client.tool("let go")
    await until(lambda: answer.is_complete)
    assert answer.messages == []
    resumed = resume(client, answer.last_event_id)
    await resumed.begun()
    await bench_of(app).begun.wait()
    bench_of(app).go_on.set()
    assert text_of((await resumed.complete()).messages[-1]) == "done"
    await answer.complete()


async def test_another_session_cannot_take_up_a_stream() -> None:
    app = make_app()
    endpoint = make_endpoint(app, pace=QUICK)
    client, stranger = await client_of(endpoint), await client_of(endpoint)
    answer = client.tool("wait_long")
    await answer.until(b"\r\n\r\n")
    bench_of(app).go_on.set()
    await answer.complete()
    assert (await resume(stranger, answer.last_event_id).complete()).messages == []


@pytest.mark.parametrize("event_id", ["nope", "7", "own_", "0" * 16, "0" * 16 + "_x", "own__" + "g" * 16, "ü"])
async def test_an_id_that_is_none_of_ours_is_refused(event_id: str) -> None:
    client = await client_of(make_endpoint(make_app()))
    answer = await resume(client, event_id).complete()
    assert (answer.status, answer.json["error"]["code"]) == (400, -32602)


async def test_without_a_log_a_call_is_answered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    async def away(*_: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(app.stream_log, "append", away)
    client = await client_of(make_endpoint(app, pace=QUICK, alternates=False))
    answer = client.tool("wait_long", token="t")
    await answer.begun()
    await until(lambda: answer.messages)
    bench_of(app).go_on.set()
    await answer.complete()
    assert {event.id for event in answer.events} == {None}
    assert answer.messages[-1]["result"]["structuredContent"]["text"] == "wait"


async def test_an_answer_too_large_to_keep_is_sent_without_an_id() -> None:
    app = make_app()
    client = await client_of(make_endpoint(app, pace=QUICK))
    text = "x" * (LARGEST_KEPT // 2)
    answer = await client.tool("echo", {"text": text}, token="t", message_id="seven").complete()
    assert answer.messages[-1]["result"]["structuredContent"]["text"] == text
    assert answer.events[-1].id is None
    resumed = await resume(client, answer.last_event_id).complete()
    assert [message["id"] for message in resumed.messages] == ["seven"]
    assert "ask again" in resumed.messages[0]["error"]["message"]
    log = call_stream(str(client.session_id), answer.last_event_id.partition("_")[0])
    page = await app.stream_log.read_after(log, None)
    assert sum(len(event.data) for event in page.events) < 1000


async def test_the_end_of_a_session_forgets_the_streams_of_its_calls() -> None:
    app = make_app()
    client = await client_of(make_endpoint(app, pace=QUICK))
    answer = await client.tool("echo", {"text": "x"}, token="t").complete()
    log = call_stream(str(client.session_id), answer.last_event_id.partition("_")[0])
    assert (await app.stream_log.read_after(log, None)).events
    await client.request("DELETE", headers=client.headers())
    assert (await app.stream_log.read_after(log, None)).events == []


# --- requests of the server -------------------------------------------------------------------------------------------


def is_question(message: Any) -> bool:
    return bool(message.get("method") == "elicitation/create")


async def reply(client: Client, message_id: Any, **content: Any) -> int:
    return (await client.post({"jsonrpc": "2.0", "id": message_id, **content}).complete()).status


@pytest.mark.parametrize("version", HANDSHAKES[2:])
async def test_a_handler_asks_the_client(version: str) -> None:
    client = await client_of(make_endpoint(make_app(), server=asking_server), version)
    for _ in range(3):  # so that reply and call are on the same worker, and on different ones
        answer = client.tool("ask")
        question = await seen(answer, is_question)
        assert await reply(client, question["id"], result={"action": "accept", "content": {"name": "Ann"}}) == 202
        assert text_of((await answer.complete()).messages[-1]) == "{'name': 'Ann'}"
        await client.call("ping")


async def test_a_client_answers_with_an_error() -> None:
    client = await client_of(make_endpoint(make_app(), server=asking_server))
    answer = client.tool("ask")
    question = await seen(answer, is_question)
    assert await reply(client, question["id"], error={"code": -1, "message": "no"}) == 202
    assert text_of((await answer.complete()).messages[-1]) == "-1"


async def test_another_session_cannot_answer() -> None:
    endpoint = make_endpoint(make_app(), server=asking_server)
    client, stranger = await client_of(endpoint), await client_of(endpoint)
    answer = client.tool("ask")
    question = await seen(answer, is_question)
    assert await reply(stranger, question["id"], result={"action": "accept", "content": {"name": "Eve"}}) == 202
    assert await reply(client, question["id"], result={"action": "accept", "content": {"name": "Ann"}}) == 202
    assert text_of((await answer.complete()).messages[-1]) == "{'name': 'Ann'}"


async def test_a_call_that_is_cancelled_asks_no_longer() -> None:
    client = await client_of(make_endpoint(make_app(), server=asking_server))
    answer = client.tool("ask", message_id="seven")
    question = await seen(answer, is_question)
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "seven"}}
    await client.post(message).complete()
    *_, given_up, error = (await answer.complete()).messages
    assert (given_up["method"], given_up["params"]["requestId"]) == ("notifications/cancelled", question["id"])
    assert error["error"]["code"] == -32800


async def test_who_takes_no_streams_cannot_be_asked() -> None:
    client = await client_of(make_endpoint(make_app(), server=asking_server))
    answer = await client.tool("ask", accept="application/json").complete()
    assert int(text_of(answer.json)) < 0
    modern = await client_of(make_endpoint(make_app(), server=asking_server), MODERN)
    assert int(text_of((await modern.tool("ask").complete()).json)) < 0


# --- the session's own stream -----------------------------------------------------------------------------------------


async def test_a_session_s_own_stream_carries_what_belongs_to_no_call() -> None:
    client = await client_of(make_endpoint(make_app(), server=asking_server))
    held = client.open("GET", headers=client.headers())
    await held.begun()
    await client.tool("tell by the session's stream").complete()
    await seen(held, lambda message: message["method"] == "notifications/tools/list_changed")
    answer = client.tool("ask by the session's stream")
    question = await seen(held, is_question)
    await reply(client, question["id"], result={"action": "accept", "content": {"name": "Ann"}})
    assert text_of((await answer.complete()).json) == "{'name': 'Ann'}"
    held.leave()
    await held.complete()
    await client.tool("tell by the session's stream").complete()
    resumed = resume(client, held.last_event_id)
    await seen(resumed, lambda message: message["method"] == "notifications/tools/list_changed")
    assert len(resumed.messages) == 1
    fresh = client.open("GET", headers=client.headers())
    await fresh.begun()
    assert fresh.messages == []
    await resumed.complete()
    fresh.leave()
    await fresh.complete()


async def test_the_newest_stream_of_a_session_wins_over_all_workers() -> None:
    endpoint = make_endpoint(make_app(), pace=QUICK)
    client = await client_of(endpoint)
    streams = []
    for _ in range(5):
        streams.append(client.open("GET", headers=client.headers()))
        await streams[-1].begun()
    for older in streams[:-1]:
        await older.complete()
    assert endpoint.held == 1
    streams[-1].leave()
    await streams[-1].complete()


async def test_the_end_of_a_session_ends_its_calls_and_streams_everywhere() -> None:
    app = make_app()
    client = await client_of(make_endpoint(app))  # at its own pace nothing is noticed within a second
    answers = [client.tool("wait_long", message_id=number) for number in range(4)]
    held = client.open("GET", headers=client.headers())
    await held.begun()
    await bench_of(app).begun.wait()
    await client.request("DELETE", headers=client.headers())
    async with asyncio.timeout(1):
        await asyncio.gather(held.complete(), *(answer.complete() for answer in answers))
    await until(lambda: bench_of(app).ended == ["wait cancelled"] * 4)
