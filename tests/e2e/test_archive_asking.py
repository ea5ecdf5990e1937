"""A server asks job workers about the archive: processes with disks of their own, and the one that had it is killed."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from typing import Any

from tests.contract.valkey_server import valkey_server
from tests.e2e.serving import serving
from tests.e2e.working import until, working


def asked(url: str, path: str, **body: Any) -> Any:
    """The answer, or the error's code."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{url}/api/{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)["error"]["code"]


def test_when_the_worker_that_had_it_dies_another_makes_a_copy_and_answers(fresh_postgres: str) -> None:
    with valkey_server() as valkey, serving(fresh_postgres, REDIS_URL=valkey.url) as server:
        settings = {"DATABASE_URL": fresh_postgres, "REDIS_URL": valkey.url}
        asked(server.url, "project/ensure", human_key="lake")

        def files() -> Any:
            shown = asked(server.url, "archive/show?project_slug=lake")
            return shown if isinstance(shown, str) else [entry["name"] for entry in shown["entries"]]

        with working(None, **settings) as first:
            until(lambda: "project.json" in files())
            with working(None, **settings):
                os.killpg(first.process.pid, signal.SIGKILL)
                first.process.wait()
                until(lambda: "project.json" in files())
        assert files() == "archive_unavailable"
