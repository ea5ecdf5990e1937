"""Access lines: held for a moment, so that many go out in one write, and none is torn or lost when the server ends."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from agent_mail_core.settings import Settings
from agent_mail_server import requests_log
from agent_mail_server.requests_log import PIPE_BUF, AccessLog
from tests.wire.server import until


class Pieces(io.BytesIO):
    """A stream that remembers what was written together."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []

    def flush(self) -> None:
        written = self.getvalue()[sum(len(piece) for piece in self.seen) :]
        if written:
            self.seen.append(written)


@pytest.fixture
def pieces() -> Iterator[Pieces]:
    """Where the log goes; as before afterwards."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    stream = Pieces()
    requests_log.configure(Settings(log_format="json"), stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


def write(log: AccessLog, path: str) -> None:
    log.write("GET", path, 200, 0.5, "r1", "local", "health", None)


def paths(pieces: Pieces) -> list[str]:
    return [json.loads(line)["path"] for line in pieces.getvalue().splitlines()]


async def test_lines_go_out_soon_in_order_and_in_pieces_that_a_pipe_takes_whole(pieces: Pieces) -> None:
    log, wanted = AccessLog(), [*(f"/{number}" for number in range(100)), "/" + "x" * 2 * PIPE_BUF, "/last"]
    for path in wanted:
        write(log, path)
    await until(lambda: len(paths(pieces)) == len(wanted))
    assert paths(pieces) == wanted
    assert len(pieces.seen) < 12
    assert all(piece.endswith(b"\n") for piece in pieces.seen)
    assert [piece.count(b"\n") for piece in pieces.seen if len(piece) > PIPE_BUF] == [1]


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_probes_that_succeed_are_for_debugging(pieces: Pieces, level: Literal["info", "debug"]) -> None:
    requests_log.configure(Settings(log_format="json", log_level=level), pieces)
    log = AccessLog()
    for path in ("/health", "/ready", "/metrics", "/api/health", "/api/ready", "/api/metrics"):
        write(log, path)
        log.write("GET", path, 503, 0.5, "r1", None, None, "not_ready")
    write(log, "/api/inbox")
    log.flush()
    lines = [json.loads(line) for line in pieces.getvalue().splitlines()]
    assert {line["level"] for line in lines if line["path"] == "/api/inbox" or line["status"] == 503} == {"info"}
    assert [line["level"] for line in lines if line["path"] != "/api/inbox" and line["status"] == 200] == (
        [] if level == "info" else ["debug"] * 6
    )


async def test_what_is_held_is_written_when_the_server_ends(pieces: Pieces) -> None:
    log = AccessLog()
    write(log, "/1")
    log.flush()
    assert paths(pieces) == ["/1"]
    log.flush()
    assert len(pieces.seen) == 1
