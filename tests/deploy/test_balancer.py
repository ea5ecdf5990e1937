"""The balancer: no stickiness, long streams and waits, and a second try only of what was never sent."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.deploy.balancer import CADDYFILE, Balancer, balancer, deaf_at, server_at, upstream_at
from tests.deploy.programs import program, said
from tests.e2e.serving import Serving
from tests.servers import free_port

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
WAIT_SECONDS = 20


@contextmanager
def two_servers() -> Iterator[tuple[Balancer, Serving, Serving]]:
    """Two of ours behind one address. Each has a database of its own, and so tells who it is by its project."""
    port = free_port()
    with server_at(FIRST, port) as first, server_at(SECOND, port) as second, balancer(port, FIRST, SECOND) as front:
        for server, name in ((first, "first"), (second, "second")):
            made = httpx.post(f"{server.url}/api/project/ensure", json={"human_key": f"/{name}", "slug": name})
            assert made.status_code == 200, made.text
        yield front, first, second


def who_answers(client: httpx.Client) -> str:
    """The server that a request reached."""
    answer = client.get("/api/project/list")
    assert answer.status_code == 200, answer.text
    return min(str(project["slug"]) for project in answer.json()["projects"])


def test_the_caddyfile_is_valid_and_formatted() -> None:
    assert "Valid configuration" in said(
        program("caddy"), "validate", "--config", str(CADDYFILE), "--adapter", "caddyfile"
    )
    said(program("caddy"), "fmt", "--diff", str(CADDYFILE))


def test_requests_of_one_connection_go_to_all_servers_in_turn() -> None:
    with two_servers() as (front, _, _), httpx.Client(base_url=front.url) as client:
        assert Counter(who_answers(client) for _ in range(40)) == {"first": 20, "second": 20}


def test_servers_come_and_go_without_a_reload() -> None:
    with two_servers() as (front, _, _), httpx.Client(base_url=front.url) as client:
        for addresses, expected in (
            ([FIRST], {"first"}),
            ([FIRST, SECOND], {"first", "second"}),
            ([SECOND], {"second"}),
        ):
            front.names.addresses = addresses
            time.sleep(1.2)  # the names are asked for each second
            assert {who_answers(client) for _ in range(10)} == expected


def test_what_was_never_sent_to_a_killed_server_goes_to_another() -> None:
    with two_servers() as (front, first, second):
        sent_per_thread = 100

        def post(number: int) -> Counter[int]:
            statuses: Counter[int] = Counter()
            with httpx.Client(base_url=front.url, timeout=30) as client:
                for count in range(sent_per_thread):
                    if number == 0 and count == sent_per_thread // 2:
                        second.kill()  # the names keep telling its address
                    body = {"human_key": f"/load/{number}/{count}"}
                    statuses[client.post("/api/project/ensure", json=body).status_code] += 1
            return statuses

        with ThreadPoolExecutor(4) as pool:
            statuses = sum(pool.map(post, range(4)), Counter[int]())
        assert set(statuses) <= {200, 502}
        # Each connection that was open to it loses one request at most: those on their way, and one more a thread that
        # goes out on an idle connection before its end is noticed.
        assert statuses[502] <= 8, "more was lost than could be on its way when the server was killed"
        assert post(4) == {200: sent_per_thread}, "its address, which the names still tell, costs requests"
        assert first.process.poll() is None


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_was_sent_is_never_sent_again(method: str) -> None:
    port = free_port()
    with upstream_at(FIRST, port) as one, upstream_at(SECOND, port) as other, balancer(port, FIRST, SECOND) as front:
        began = time.monotonic()
        answer = httpx.request(method, f"{front.url}/drop", json={"a": 1} if method == "POST" else None, timeout=30)
        assert answer.status_code == 502
        assert time.monotonic() - began < 5
        assert [*one.requests, *other.requests] == [(method, "/drop")]


def test_a_server_that_takes_no_connections_costs_a_second_and_no_request() -> None:
    port = free_port()
    with upstream_at(FIRST, port), deaf_at(SECOND, port), balancer(port, FIRST, SECOND) as front:
        for _ in range(4):
            began = time.monotonic()
            assert httpx.post(f"{front.url}/echo", json={"a": 1}, timeout=30).status_code == 200
            assert time.monotonic() - began < 3


def test_while_there_is_no_server_a_request_waits_for_one() -> None:
    port = free_port()
    with balancer(port, FIRST) as front, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{front.url}/echo", json={"a": 1}, timeout=30)
        time.sleep(1)
        assert not answer.done()
        with upstream_at(FIRST, port):
            assert answer.result().status_code == 200


def test_what_a_client_claims_about_its_address_is_dropped() -> None:
    port = free_port()
    with upstream_at(FIRST, port), balancer(port, FIRST) as front:
        told = httpx.get(
            f"{front.url}/echo", headers={"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
        )
        lines = [line for line in told.text.splitlines() if line.lower().startswith("x-forwarded-for")]
        assert lines == ["X-Forwarded-For: 127.0.0.1"]


def test_a_client_that_leaves_is_no_longer_waited_for() -> None:
    port = free_port()
    with upstream_at(FIRST, port) as upstream, balancer(port, FIRST) as front:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{front.url}/hold", timeout=0.5)
        assert upstream.client_left.wait(5)


def test_a_client_that_breaks_off_an_upload_takes_no_server_out() -> None:
    port = free_port()
    with upstream_at(FIRST, port), balancer(port, FIRST) as front:
        host, _, balancer_port = front.url.removeprefix("http://").partition(":")
        for _ in range(5):
            with socket.create_connection((host, int(balancer_port))) as client:
                client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf")
                time.sleep(0.05)
        began = time.monotonic()
        assert httpx.get(f"{front.url}/echo").status_code == 200
        assert time.monotonic() - began < 0.5


def test_a_wait_and_an_event_stream_pass() -> None:
    port = free_port()
    with server_at(FIRST, port), balancer(port, FIRST) as front, httpx.Client(base_url=front.url, timeout=60) as client:
        client.post("/api/project/ensure", json={"human_key": "/code", "slug": "work"})
        agent = {"project_slug": "work", "name": "Ada", "program": "test", "model": "none"}
        assert client.post("/api/agent/register", json=agent).status_code == 200
        comments: list[float] = []
        began = time.monotonic()
        listening = threading.Thread(target=_listen, args=(client, comments), daemon=True)
        listening.start()
        asked: dict[str, str | int] = {"project_slug": "work", "agent_name": "Ada", "timeout_seconds": WAIT_SECONDS}
        waited = client.get("/api/inbox/wait", params=asked)
        assert waited.status_code == 200, waited.text
        assert WAIT_SECONDS - 0.5 < time.monotonic() - began < WAIT_SECONDS + 3
        listening.join(10)
        assert comments[0] - began < 2, "the beginning of the stream was kept back"
        assert 10 < comments[1] - began < 18, "what keeps the stream alive was kept back"


def _listen(client: httpx.Client, comments: list[float]) -> None:
    """Open an MCP session's stream; note when it begins, with an id, and when the first comment comes."""
    hello: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    begun = client.post("/mcp", content=json.dumps(hello), headers=headers)
    assert begun.status_code == 200, begun.text
    session = {"Mcp-Session-Id": begun.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
    with client.stream("GET", "/mcp", headers={"Accept": "text/event-stream", **session}) as stream:
        assert stream.status_code == 200
        for line in stream.iter_lines():
            if line.startswith((":", "id:")):
                comments.append(time.monotonic())
            if len(comments) == 2:
                return
