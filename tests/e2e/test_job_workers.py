"""Job workers as processes, with a server, PostgreSQL and Valkey: killed, paused, stopped, and left without Redis."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.contract.valkey_server import ValkeyServer, valkey_server
from tests.e2e.serving import Serving, agent_mail, clean_environment, serving
from tests.e2e.working import Worker, until, working
from tests.servers import query


@dataclass
class Place:
    """A cluster of one server."""

    database_url: str
    valkey: ValkeyServer
    server: Serving

    @contextmanager
    def slow_worker(self, seconds: float, lease: float = 2.0) -> Iterator[Worker]:
        command = [sys.executable, "-m", "tests.e2e.slow_worker"]
        with working(command, **self._settings(), SLOW_SECONDS=str(seconds), LEASE_SECONDS=str(lease)) as worker:
            yield worker

    @contextmanager
    def worker(self, root: Path) -> Iterator[Worker]:
        """The one that there is, with its archives below `root`."""
        with working(None, **self._settings(), ARCHIVE_ROOT=str(root)) as worker:
            yield worker

    def _settings(self) -> dict[str, str]:
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.valkey.url}

    def post(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self.server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def project(self, key: str) -> None:
        """Make one: it is an event, and so there is something to archive."""
        self.post("/api/project/ensure", human_key=key)

    def jobs(self, kind: str) -> list[tuple[str, int]]:
        """State and attempts of each job of the kind."""
        rows = query(self.database_url, "SELECT state, attempts FROM jobs WHERE kind = $1 ORDER BY subject_id", kind)
        return [(row[0], row[1]) for row in rows]


@pytest.fixture
def place(fresh_postgres: str) -> Iterator[Place]:
    with valkey_server() as valkey, serving(fresh_postgres, REDIS_URL=valkey.url) as server:
        yield Place(fresh_postgres, valkey, server)


def test_a_killed_workers_job_is_done_by_another(place: Place) -> None:
    with place.slow_worker(3600) as first:
        place.project("lake")
        until(lambda: bool(first.lines("job begun")))
        os.killpg(first.process.pid, signal.SIGKILL)
        first.process.wait()
    with place.slow_worker(0) as second:
        until(lambda: bool(second.lines("job storing")))
        assert second.lines("job storing")[0]["attempt"] == 2
        until(lambda: place.jobs("archive") == [])


def test_a_worker_says_at_its_start_that_archives_are_on_another_disk(place: Place, tmp_path: Path) -> None:
    with place.worker(tmp_path / "one") as first:
        place.project("lake")
        until(lambda: bool(query(place.database_url, "SELECT FROM archives")) and place.jobs("archive") == [])
        assert first.lines("archives are not here") == []
        with place.worker(tmp_path / "one") as second:
            assert second.lines("archives are not here") == []
        with place.worker(tmp_path / "two") as third:
            (line,) = third.lines("archives are not here")
    assert (line["level"], line["projects"]) == ("warning", ["lake"])
    assert "ARCHIVE_ROOT" in line["reason"]
    assert "ARCHIVE_REMOTE" in line["reason"]


def test_a_paused_worker_whose_lease_went_to_another_stores_nothing(place: Place) -> None:
    with place.slow_worker(2, lease=1) as first:
        place.project("lake")
        until(lambda: bool(first.lines("job begun")))
        first.send(signal.SIGSTOP)
        with place.slow_worker(0, lease=1) as second:
            until(lambda: bool(second.lines("job storing")))
            first.send(signal.SIGCONT)
            until(lambda: bool(first.lines("job lost to another worker, or to time")))
            assert first.lines("job storing") == []
            until(lambda: bool(place.jobs("summary")))
            # On a busy machine the second may lose its own lease of a second, and do the work again.
            marks, stored = len(place.jobs("summary")), len(second.lines("job storing"))
            assert 1 <= marks <= stored, "only the second has stored marks"


def test_what_a_flushed_or_absent_redis_has_forgotten_is_found(place: Place) -> None:
    with place.slow_worker(0) as worker:
        place.project("before")
        until(lambda: len(worker.lines("job storing")) == 1)
        with redis.Redis.from_url(place.valkey.url) as client:
            client.flushall()
        place.project("flushed")
        until(lambda: len({line["subject_id"] for line in worker.lines("job storing")}) == 2)
        place.valkey.stop()
        place.project("away")
        until(lambda: len({line["subject_id"] for line in worker.lines("job storing")}) == 3)
        place.valkey.start()
        seen = len(worker.lines("job storing"))
        place.project("back")
        until(lambda: len({line["subject_id"] for line in worker.lines("job storing")[seen:]}) >= 1)


def test_sigterm_ends_a_worker_within_ten_seconds_and_gives_its_job_back(place: Place) -> None:
    with place.slow_worker(3600, lease=3600) as first:
        place.project("lake")
        until(lambda: bool(first.lines("job begun")))
        began = time.monotonic()
        first.send(signal.SIGTERM)
        assert first.process.wait(15) == 0
        assert time.monotonic() - began < 10
        assert place.jobs("archive") == [("waiting", 0)]
    with place.slow_worker(0) as second:
        until(lambda: bool(second.lines("job storing")))
        assert second.lines("job storing")[0]["attempt"] == 1


def test_sigterm_lets_a_short_job_end(place: Place) -> None:
    with place.slow_worker(1.5) as worker:
        place.project("lake")
        until(lambda: bool(worker.lines("job begun")))
        worker.send(signal.SIGTERM)
        assert worker.process.wait(15) == 0
        assert len(worker.lines("job storing")) == 1


def test_two_workers_never_do_one_projects_work_at_once(place: Place) -> None:
    with place.slow_worker(0.3) as first, place.slow_worker(0.3) as second:
        for _ in range(20):
            place.project("lake")
            place.post("/api/agent/register", project_slug="lake", program="shell", model="m")
        # The outbox is never emptied here, so the sweep lets them do it again and again.
        until(lambda: len(first.lines("job storing") + second.lines("job storing")) >= 5, patience=60)
        spans = sorted(
            (begun["timestamp"], stored["timestamp"])
            for worker in (first, second)
            for begun, stored in zip(worker.lines("job begun"), worker.lines("job storing"), strict=False)
        )
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_a_worker_without_redis_says_so(fresh_postgres: str) -> None:
    ended = subprocess.run(
        agent_mail("worker"),
        env=clean_environment(Path("/nonexistent"), {"DATABASE_URL": fresh_postgres, "LOG_FORMAT": "json"}),
        capture_output=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert b"REDIS_URL is not set" in ended.stdout


def test_a_server_alone_stops_within_five_seconds_and_forgets_nothing(database_url: str, tmp_path: Path) -> None:
    archive = {"ARCHIVE_ROOT": str(tmp_path / "archive")}

    def post(server: Serving, path: str, **body: Any) -> None:
        data = json.dumps(body).encode()
        request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    with serving(database_url, **archive) as server:
        for number in range(200):
            post(server, "/api/project/ensure", human_key=f"project {number}")
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 5
    with serving(database_url, **archive):
        until(lambda: len(list((tmp_path / "archive").glob("*/*.git"))) == 200, patience=60)
