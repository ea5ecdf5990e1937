"""Who may call, from where, and what every answer says to a browser."""

from collections.abc import AsyncIterator

import pytest

from agent_mail_server.app import UNGUARDED
from agent_mail_server.operations import OPERATIONS
from tests.wire.server import Fleet, Place, client_of, error_of, fleet

TOKEN = "correct-horse-battery-staple"
SCRAPER = "a-token-for-prometheus"
PUBLIC = {"/health", "/api/health", "/ready", "/api/ready", "/docs/docs.css", "/docs/docs.js", "/docs/icon.svg"}
PROBES = ("/health", "/api/health", "/ready", "/api/ready", "/metrics")


@pytest.fixture
async def open_server(place: Place) -> AsyncIterator[Fleet]:
    async with fleet(place) as server:
        yield server


@pytest.fixture
async def locked_server(place: Place) -> AsyncIterator[Fleet]:
    # Refused requests are limited too, and there are more routes than a client may try in a minute.
    bearer = {"auth_mode": "bearer", "http_bearer_token": TOKEN, "metrics_token": SCRAPER}
    async with fleet(place, **bearer, rate_limit_reads="10000/minute") as server:
        yield server


def every_route(server: Fleet) -> list[tuple[str, str]]:
    """Method and path of all that the server answers, the MCP endpoint included."""
    routes = [(method, path.replace("{", "").replace("}", "")) for method, path in server.paths()]
    return [*routes, ("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("POST", "/mcp/")]


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_all_but_health_and_ready_want_a_credential(locked_server: Fleet) -> None:
    async with client_of(locked_server) as client:
        for method, path in every_route(locked_server):
            response = await client.request(method, path)
            if path in PUBLIC:
                assert response.status_code == 200, path
                continue
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert error_of(response)["code"] == "unauthenticated"


def test_only_health_and_ready_are_public_operations() -> None:
    assert [operation.name for operation in OPERATIONS if operation.is_public] == ["health", "ready"]
    assert set(PROBES) == UNGUARDED


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {SCRAPER}",
    ],
)
async def test_a_wrong_credential_is_refused(locked_server: Fleet, header: str) -> None:
    async with client_of(locked_server) as client:
        response = await client.get("/api/project/list", headers={"Authorization": header})
        assert response.status_code == 401
        assert TOKEN not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_right_credential_opens(locked_server: Fleet, scheme: str) -> None:
    async with client_of(locked_server, Authorization=f"{scheme} {TOKEN}") as client:
        for path in ("/api/project/list", "/docs", "/openapi.json", "/metrics", "/api/metrics"):
            assert (await client.get(path)).status_code == 200


async def test_the_metrics_token_opens_metrics_alone(locked_server: Fleet) -> None:
    async with client_of(locked_server, Authorization=f"Bearer {SCRAPER}") as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/api/metrics")).status_code == 200
        for path in ("/api/project/list", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 401


async def test_nothing_is_read_before_the_credential(locked_server: Fleet) -> None:
    async with client_of(locked_server) as client:
        response = await client.post("/api/project/ensure", content=b"{", headers={"Content-Type": "application/json"})
        assert response.status_code == 401


# --- Host and Origin --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.1:8765", "[::1]", "[::1]:8765"])
async def test_loopback_names_are_ours(open_server: Fleet, host: str) -> None:
    async with client_of(open_server, Host=host) as client:
        assert (await client.get("/api/project/list")).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "evil.example:8765",
        "",
        "localhost:x",
        "localhost@evil",
        "::1",
        "10.0.0.1",
        "localhost:8765:1",
        "\xe9",
    ],
)
async def test_other_names_are_not(open_server: Fleet, host: str) -> None:
    async with client_of(open_server) as client:
        for method, path in every_route(open_server):
            headers = [(b"host", host.encode("latin-1"))]
            response = await client.request(method, path, headers=headers)
            if path in PROBES:
                assert response.status_code == 200
            else:
                assert response.status_code == 421, (method, path)


async def test_named_hosts_take_the_place_of_loopback(place: Place) -> None:
    hosts = ("mail.example", "other.example:8080")
    async with fleet(place, allowed_hosts=hosts) as server, client_of(server) as client:
        for host, status in {
            "mail.example": 200,
            "Mail.Example:443": 200,
            "other.example:8080": 200,
            "other.example": 421,
            "other.example:81": 421,
            "localhost": 421,
        }.items():
            assert (await client.get("/api/project/list", headers={"Host": host})).status_code == status, host


@pytest.mark.parametrize("name", ["host", "authorization", "origin", "idempotency-key", "content-type"])
async def test_a_header_that_decides_something_comes_once(open_server: Fleet, name: str) -> None:
    async with client_of(open_server) as client:
        for path in ("/api/project/ensure", "/mcp"):
            headers = [("host", "localhost"), (name, "localhost"), (name, "localhost")]
            response = await client.post(path, headers=headers)
            assert (response.status_code, error_of(response)["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://localhost:3000",
        "https://127.0.0.1",
        "file://",
        "http://[::1",
        "chrome-extension://abc",
        "http://127.0.0.1:8765.evil.example",
        "\xe9",
    ],
)
async def test_pages_of_other_origins_may_not_call(open_server: Fleet, origin: str) -> None:
    async with client_of(open_server) as client:
        for method, path in (("POST", "/api/project/ensure"), ("GET", "/api/project/list"), ("POST", "/mcp")):
            response = await client.request(method, path, headers=[(b"origin", origin.encode("latin-1"))])
            assert (response.status_code, error_of(response)["code"]) == (403, "forbidden_origin")


async def test_pages_of_the_same_host_may(open_server: Fleet) -> None:
    async with client_of(open_server, Origin="http://127.0.0.1:8765") as client:
        response = await client.get("/api/project/list")
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers


async def test_a_named_origin_may_call_and_read(place: Place) -> None:
    async with fleet(place, allowed_origins=("https://ui.example",)) as server:
        async with client_of(server, Origin="https://ui.example") as client:
            asked = await client.options("/api/project/ensure", headers={"Access-Control-Request-Method": "POST"})
            assert asked.status_code == 204
            assert "POST" in asked.headers["access-control-allow-methods"]
            assert "Authorization" in asked.headers["access-control-allow-headers"]
            response = await client.get("/api/project/list")
            assert response.headers["access-control-allow-origin"] == "https://ui.example"
            assert response.headers["vary"] == "Origin"
        async with client_of(server, Origin="https://other.example") as client:
            asked = await client.options("/api/project/ensure", headers={"Access-Control-Request-Method": "POST"})
            assert asked.status_code == 403
            assert "access-control-allow-origin" not in asked.headers


# --- headers ----------------------------------------------------------------------------------------------------------


async def test_every_answer_has_the_security_headers_and_an_id(open_server: Fleet) -> None:
    async with client_of(open_server) as client:
        for method, path in [*every_route(open_server), ("GET", "/nowhere"), ("PUT", "/api/inbox")]:
            headers = (await client.request(method, path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-request-id"]
            if not path.startswith("/docs"):
                assert headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors")
                assert "no-store" in headers["cache-control"], path


async def test_a_header_is_said_once(open_server: Fleet) -> None:
    async with client_of(open_server) as client:
        message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        for response in (await client.get("/health"), await client.post("/mcp", json=message), await client.get("/x")):
            names = [name for name, _ in response.headers.raw]
            assert len(names) == len(set(names)), names


async def test_the_endpoint_for_mcp_sees_the_caller(locked_server: Fleet) -> None:
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "pytest", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info}
    headers = {"Accept": "application/json, text/event-stream"}
    async with client_of(locked_server, Authorization=f"Bearer {TOKEN}") as client:
        response = await client.post("/mcp", json=message, headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["mcp-session-id"]


async def test_what_is_no_http_is_turned_away(open_server: Fleet) -> None:
    sent: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        sent.append(message)

    await open_server.asgi({"type": "websocket", "path": "/mcp", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
