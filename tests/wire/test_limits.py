"""Limits on both transports: what counts against what, and how a client is told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_mail_core import agents
from agent_mail_server.client_address import ClientAddresses, shown
from agent_mail_server.limiting import ACTING_FIELDS
from tests.wire.server import URL, Fleet, Place, error_of, fleet, furnish, post

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SHOP = {"project_slug": "shop"}


@asynccontextmanager
async def limited(where: Place, **settings: Any) -> AsyncIterator[Fleet]:
    """A server with authentication and small budgets."""
    budgets = {"rate_limit_reads": "5/minute", "rate_limit_writes": "5/minute"}
    bearer = {"auth_mode": "bearer", "http_bearer_token": TOKEN}
    async with fleet(where, **{**bearer, **budgets, **settings}) as server:
        yield server


@asynccontextmanager
async def client(server: Fleet, address: str = "10.0.0.9", **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client at an address."""
    transport = httpx.ASGITransport(server.asgi, client=(address, 1234))
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as opened:
        yield opened


async def reads(http: httpx.AsyncClient, count: int, **query: str) -> list[int]:
    """The statuses of so many reads."""
    return [(await http.get("/api/project/list", params=query)).status_code for _ in range(count)]


async def test_past_the_budget_a_call_is_refused_with_when_to_come_back(place: Place) -> None:
    async with limited(place) as server, client(server, **BEARER) as http:
        first = await http.get("/api/project/list")
        assert first.headers["ratelimit-policy"] == '"reads";q=5;w=60'
        assert re.fullmatch(r'"reads";r=4;t=(59|60)', first.headers["ratelimit"])
        assert await reads(http, 4) == [200] * 4
        refused = await http.get("/api/project/list")
        assert refused.status_code == 429
        error = error_of(refused)
        assert (error["code"], error["data"]["budget"], error["data"]["limit"]) == ("rate_limited", "reads", 5)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit-policy"] == '"reads";q=5;w=60'
        assert re.fullmatch(r'"reads";r=0;t=[0-9]+', refused.headers["ratelimit"])
        assert server.calls("list_projects") == 6


async def test_reads_and_writes_and_acting_agents_count_apart(place: Place) -> None:
    async with limited(place) as server, client(server, **BEARER) as http:
        await furnish(http, "Ann", "Bob")
        for name in ("Ann", "Bob"):
            query = {**SHOP, "agent_name": name}
            statuses = [(await http.get("/api/inbox", params=query)).status_code for _ in range(6)]
            assert statuses == [200] * 5 + [429]
        assert (await http.get("/api/inbox", params={**SHOP, "agent_name": "ANN"})).status_code == 429
        message = {**SHOP, "sender_name": "Ann", "recipient_names": ["Bob"], "subject": "Hello", "body_md": "Bob"}
        answers = [await http.post("/api/message/send", json=message) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [201] * 5 + [429]
        assert answers[0].headers["ratelimit-policy"] == '"writes";q=5;w=60'


async def test_an_agent_has_one_budget_however_it_is_spelled(place: Place) -> None:
    async with limited(place, rate_limit_reads="3/minute") as server, client(server, **BEARER) as http:
        await post(http, "project/ensure", human_key="/code/caf\u00e9", slug="cafe")
        await post(http, "agent/register", project_slug="cafe", program="pytest", model="none", name="Ann")
        statuses = [
            (await http.get("/api/inbox", params={"project_slug": project, "agent_name": name})).status_code
            for project, name in (
                ("/code/caf\u00e9", "Ann"),
                ("/code/caf\u00e9/", "ann"),
                ("/code/cafe\u0301//", "ANN"),
                ("/code/cafe\u0301", "Ann"),
            )
        ]
        assert statuses == [200, 200, 200, 429]


async def test_whoever_hands_off_or_requests_a_review_counts_too(place: Place) -> None:
    async with limited(place, rate_limit_writes="3/minute") as server, client(server, **BEARER) as http:
        await furnish(http, "Ann", "Bob")
        for name in ("Ann", "Bob"):
            task = {**SHOP, "from_agent": name, "to_agent": "Cid", "task": "x"}
            assert (await http.post("/api/session/hand-off", json=task)).status_code == 404
            review = {**SHOP, "requester_name": name, "thread_id": "T-1"}
            assert (await http.post("/api/review/request", json=review)).status_code == 404
        for name in ("Ann", "Bob"):
            message = {**SHOP, "sender_name": name, "recipient_names": ["Ann"], "subject": "Hello", "body_md": "x"}
            statuses = [(await http.post("/api/message/send", json=message)).status_code for _ in range(2)]
            assert statuses == [201, 429]


def test_every_argument_by_which_an_agent_acts_is_counted_by() -> None:
    named = {
        name
        for path in Path(agents.__file__).parent.glob("*.py")
        for name in re.findall(r"acting_agent\([^()]*request\.(\w+)\)", path.read_text())
    }
    assert {"sender_name", "agent_name"} < named <= set(ACTING_FIELDS)


async def test_a_team_has_a_budget_too(place: Place) -> None:
    async with limited(place, rate_limit_team="8/minute") as server, client(server, **BEARER) as http:
        await furnish(http, "Ann", "Bob")
        for name in ("Ann", "Bob", "Cid"):
            last = [await http.get("/api/inbox", params={**SHOP, "agent_name": name}) for _ in range(4)][-1]
        assert (last.status_code, error_of(last)["data"]["budget"]) == (429, "team")


async def test_what_is_not_valid_counts_as_well(place: Place) -> None:
    async with limited(place) as server, client(server, **BEARER) as http:
        statuses = [(await http.get("/api/project/list", params={"limit": "many"})).status_code for _ in range(6)]
        assert statuses == [422] * 5 + [429]


async def test_probes_metrics_and_assets_are_not_counted(place: Place) -> None:
    async with limited(place) as server, client(server, **BEARER) as http:
        for path in ("/health", "/ready", "/metrics", "/api/metrics", "/docs"):
            answers = [await http.get(path) for _ in range(8)]
            assert [answer.status_code for answer in answers] == [200] * 8, path
            assert "ratelimit" not in answers[0].headers


async def test_on_this_machine_without_authentication_there_are_no_limits(place: Place) -> None:
    async with fleet(place, rate_limit_reads="5/minute") as server:
        for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            async with client(server, address) as http:
                answer = await http.get("/api/project/list")
                assert "ratelimit" not in answer.headers
                assert await reads(http, 8) == [200] * 8


async def test_without_authentication_others_are_known_by_their_address(place: Place) -> None:
    async with fleet(place, rate_limit_reads="5/minute") as server:
        for address in ("10.0.0.9", "10.0.0.10"):
            async with client(server, address) as http:
                assert await reads(http, 6) == [200] * 5 + [429]


async def test_limits_can_be_switched_off(place: Place) -> None:
    async with limited(place, rate_limit_enabled=False) as server, client(server, **BEARER) as http:
        assert await reads(http, 8) == [200] * 8
        async with client(server, Authorization="Bearer wrong-token-of-some-length") as stranger:
            assert await reads(stranger, 12) == [401] * 12


async def test_refused_credentials_are_limited_by_address_and_hurt_nobody_else(place: Place) -> None:
    async with limited(place, rate_limit_logins="3/minute") as server:
        async with client(server, Authorization="Bearer wrong-token-of-some-length") as stranger:
            assert await reads(stranger, 4) == [401] * 3 + [429]
            assert (await stranger.post("/mcp", json={})).status_code == 429
        async with client(server) as nobody:
            assert await reads(nobody, 6) == [401] * 5 + [429]
        async with client(server, **BEARER) as http:
            assert await reads(http, 5) == [200] * 5


async def test_a_tool_call_past_the_budget_is_an_error_result(place: Place) -> None:
    async with limited(place) as server, client(server, **BEARER) as http:
        assert await reads(http, 5) == [200] * 5
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        call = {"name": "list_projects", "arguments": {}, "_meta": meta}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "list_projects",
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        answer = await http.post("/mcp", json=message, headers=headers)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        assert result["isError"] is True
        assert '"code":"rate_limited"' in result["content"][0]["text"]


async def test_a_wait_counts_once(place: Place) -> None:
    async with limited(place) as server, client(server, **BEARER) as http:
        await furnish(http, "Ann")
        query: dict[str, str | float] = {**SHOP, "agent_name": "Ann", "timeout_seconds": 0.1}
        assert (await http.get("/api/inbox/wait", params=query)).headers["ratelimit"].startswith('"reads";r=4;')
        assert (await http.get("/api/inbox/wait", params=query)).headers["ratelimit"].startswith('"reads";r=3;')


async def test_writes_are_told_what_is_left(place: Place) -> None:
    async with limited(place) as server, client(server, **BEARER) as http:
        await post(http, "project/ensure", human_key="shop")
        answer = await http.post("/api/project/ensure", json={"human_key": "shop"})
        assert answer.headers["ratelimit"].startswith('"writes";r=3;')


@pytest.fixture
def proxies() -> ClientAddresses:
    """Two networks of proxies."""
    return ClientAddresses(("10.1.0.0/16", "fd00::/8"))


@pytest.mark.parametrize(
    "peer, forwarded, client",
    [
        ("203.0.113.5", "198.51.100.7", "203.0.113.5"),  # it is no proxy of ours
        ("10.1.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.1.0.1", "1.1.1.1, 198.51.100.7, 10.1.2.3", "198.51.100.7"),  # what stands left of it is hearsay
        ("10.1.0.1", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("10.1.0.1", "10.1.0.2", "10.1.0.2"),
        ("10.1.0.1", "", "10.1.0.1"),
        ("10.1.0.1", "198.51.100.7, unknown", "10.1.0.1"),
        ("10.1.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("fd00::1", "[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
        ("::ffff:10.1.0.1", "198.51.100.7", "198.51.100.7"),
    ],
)
def test_only_trusted_proxies_say_who_the_client_is(
    proxies: ClientAddresses, peer: str, forwarded: str, client: str
) -> None:
    headers = [(b"x-forwarded-for", part.encode()) for part in forwarded.split("|") if part]
    assert shown(proxies.of({"client": (peer, 1), "headers": headers})) == client


def test_several_header_lines_are_one_list(proxies: ClientAddresses) -> None:
    headers = [(b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-for", b"198.51.100.7"), (b"host", b"x")]
    assert shown(proxies.of({"client": ("10.1.0.1", 1), "headers": headers})) == "198.51.100.7"


def test_a_client_without_an_address_is_limited_with_its_like(proxies: ClientAddresses) -> None:
    assert shown(proxies.of({"client": None, "headers": []})) == "unknown"
