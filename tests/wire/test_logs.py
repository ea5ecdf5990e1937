"""Log lines: one for each request, joined to its answer by the request id, and without secrets."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from agent_mail_core.settings import Settings
from agent_mail_server import requests_log
from agent_mail_server.operations import BY_NAME
from tests.wire.server import Place, client_of, error_of, fleet, furnish, post

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def lines() -> Iterator[io.BytesIO]:
    """Where the log goes; as before afterwards."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    stream = io.BytesIO()
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


def written(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_each_request_has_one_line(place: Place, lines: io.BytesIO) -> None:
    requests_log.configure(Settings(log_format="json"), lines)
    async with fleet(place) as server, client_of(server) as client:
        response = await client.get("/api/project/list?query=hidden", headers={"X-Request-Id": "r1"})
        assert response.status_code == 200
        await client.get("/nowhere", headers={"X-Request-Id": "r2"})
    accessed, refused = sorted(written(lines), key=lambda line: str(line["request_id"]))
    assert accessed.pop("timestamp")
    assert accessed.pop("duration_ms") > 0
    assert accessed == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "path": "/api/project/list",
        "status": 200,
        "request_id": "r1",
        "principal": "local",
        "operation": "list_projects",
    }
    assert (refused["request_id"], refused["status"], refused["code"]) == ("r2", 404, "unknown_operation")


async def test_no_line_holds_a_secret_or_a_body(place: Place, lines: io.BytesIO) -> None:
    requests_log.configure(Settings(log_format="json", log_level="debug"), lines)
    async with fleet(place, auth_mode="bearer", http_bearer_token=TOKEN) as server:
        async with client_of(server, Authorization=f"Bearer {TOKEN}") as client:
            await furnish(client, "BlueLake")
            mail = {"project_slug": "shop", "sender_name": "BlueLake", "recipient_names": ["BlueLake"]}
            await post(client, "message/send", **mail, subject="the-subject", body_md="the-body")
            await client.get("/api/message/search?query=the-query")
            await client.post("/api/message/send", json={"body_md": "the-body", "wrong": "the-value"})
        async with client_of(server, Authorization="Bearer wrong-token") as client:
            await client.get("/api/project/list")
    text = lines.getvalue().decode()
    for secret in (TOKEN, "wrong-token", "the-subject", "the-body", "the-query", "the-value"):
        assert secret not in text
    assert '"principal":"static"' in text


async def test_a_fault_is_logged_with_its_cause_under_the_id_of_the_answer(
    place: Place, lines: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(app: Any, caller: Any, request: Any) -> Any:
        raise RuntimeError("the cause")

    requests_log.configure(Settings(log_format="json"), lines)
    operation = BY_NAME["list_projects"]
    assert operation.name == "list_projects"
    assert operation.request_type, "computed before the use case is replaced"
    monkeypatch.setitem(operation.__dict__, "use_case", failing)
    async with fleet(place) as server, client_of(server) as client:
        error = error_of(await client.get("/api/project/list"))
    failed = next(line for line in written(lines) if line["level"] == "error")
    assert failed["request_id"] == error["request_id"]
    assert "RuntimeError: the cause" in failed["exception"]


def test_libraries_write_the_same_lines(lines: io.BytesIO) -> None:
    requests_log.configure(Settings(log_format="json"), lines)
    logging.getLogger("some.library").warning("it %s", "happened", extra={"request_id": "r1"})
    line = written(lines)[0]
    assert (line["event"], line["level"], line["logger"]) == ("it happened", "warning", "some.library")
    assert line["request_id"] == "r1"


def test_the_level_is_kept_to(lines: io.BytesIO) -> None:
    requests_log.configure(Settings(log_format="json", log_level="error"), lines)
    structlog.get_logger().warning("not this")
    logging.getLogger("x").warning("nor this")
    structlog.get_logger().error("this")
    assert [line["event"] for line in written(lines)] == ["this"]


async def test_text_for_people_cannot_steer_the_terminal(place: Place, lines: io.BytesIO) -> None:
    requests_log.configure(Settings(log_format="text"), lines)
    async with fleet(place) as server, client_of(server) as client:
        await client.get("/%1b[31m%0aforged")
    text = lines.getvalue().decode()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "status=404" in text


def test_a_lone_surrogate_is_written_too(lines: io.BytesIO) -> None:
    for log_format in ("json", "text"):
        requests_log.configure(Settings(log_format=log_format), lines)
        structlog.get_logger().info("request", path="/\udcff")
    assert lines.getvalue().count(b"\n") == 2
