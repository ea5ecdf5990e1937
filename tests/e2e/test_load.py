"""The load test's users work: short runs of the program behind `make load`, against one server process."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests.routes import ROUTES
from loadtests.run import RESULTS
from tests.e2e.serving import ROOT, clean_environment, serving

TEAM = 12
"""The weights of all users together: one of each that waits, and three of each that polls."""
KINDS = {
    "REST": ["RestAgent", "RestWaiter"],
    "MCP": ["McpAgent", "McpWaiter"],
    "MCP session": ["SessionAgent", "SessionWaiter"],
    "mixed": [],
}
CHECKS = {
    "a message goes to those it is for",
    "a reply stays in its thread",
    "a sender's messages come in order",
    "a thread holds message and reply",
    "a thread is in order",
    "no message comes twice",
    "the first acknowledgement stays",
    "unread is what came less what was read",
    "what came can be marked as read",
    "what was sent is found",
}


@dataclass(frozen=True)
class Report:
    """What a run left."""

    status: int
    said: str
    rows: dict[str, dict[str, Any]]
    """By operation and transport, such as `send_message (REST)`."""
    checks: dict[str, int]
    html: str


def loaded(url: str, *words: str, seconds: int = 6) -> Report:
    """A short run; its files are read and removed."""
    files = [RESULTS / f"test{suffix}" for suffix in (".json", "-checks.json", ".html")]
    command = [sys.executable, "-m", "loadtests.run", "--url", url, "--users", str(TEAM)]
    try:
        ran = subprocess.run(
            [*command, "--seconds", str(seconds), "--name", "test", *words],
            cwd=ROOT,
            env=clean_environment(ROOT, {}),
            capture_output=True,
            text=True,
            timeout=90,
        )
        rows, checks, html = (path.read_text(encoding="utf-8") if path.exists() else "" for path in files)
    finally:
        for path in files:
            path.unlink(missing_ok=True)
    by_name = {row["name"]: row for row in json.loads(rows or "[]")}
    return Report(ran.returncode, ran.stdout + ran.stderr, by_name, json.loads(checks or "{}"), html)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_user_does_all_its_work_without_a_failure(kind: str, fresh_sqlite: str) -> None:
    with serving(fresh_sqlite, MAX_IN_FLIGHT="1024") as server:
        report = loaded(server.url, *KINDS[kind])
    assert report.status == 0, report.said
    assert sum(row["num_failures"] for row in report.rows.values()) == 0
    for transport in [kind] if kind != "mixed" else ["REST", "MCP", "MCP session"]:
        for operation in ROUTES:
            assert report.rows[f"{operation} ({transport})"]["num_requests"] > 0, (operation, report.said)
        polls = report.rows[f"check_inbox ({transport})"]["num_requests"]
        assert polls > 2 * TEAM, "a user that waits looks once, so the others did"
        assert ("initialize (MCP session)" in report.rows) == (kind in ("MCP session", "mixed"))
    assert set(report.checks) == CHECKS
    assert min(report.checks.values()) > 0
    assert "<html" in report.html
    assert "send_message" in report.html


def test_a_server_that_is_not_there_fails_the_run_and_is_in_the_report() -> None:
    report = loaded("http://127.0.0.1:9", "RestAgent", seconds=2)
    assert report.status == 1
    assert report.rows["ensure_project (REST)"]["num_failures"] > 0
    assert "Nothing was checked" in report.said


def test_the_files_that_a_run_leaves_are_not_committed() -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", str(Path("loadtests/results/load.html"))], cwd=ROOT)
    assert ignored.returncode == 0
